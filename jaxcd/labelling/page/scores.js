// How likely buildings are damaged, as the server says it while labels come: colours on the map, the next to judge.

import { Lost, get } from "./api.js";
import { edit, objects, showById } from "./objects.js";
import { add } from "./panel.js";
import { canEdit, emit, isMember, kept, on, select, state, units } from "./state.js";
import { main, zoomTo } from "./view.js";
import { percent, sentence } from "./words.js";

const byId = (id) => document.getElementById(id);
const POLL = 2000; // milliseconds
// Green to purple, which differ from all colours of levels and look different to all kinds of eyes.
const CLASSES = [[0.2, "#5fd38d"], [0.4, "#b9edc9"], [0.6, "#ffffff"], [0.8, "#e6b8ff"], [1.01, "#c45cff"]];
let scores = new Map(), told = null, number = 0, timer = null, shown = kept.get("jaxcd.scores") !== "off";
let drawn = 0; // number of the blind sample; 0: there is none
let waiting = [], current = null; // ids to judge next; the one that was offered last

const wanted = () => shown && !state.blind;
// Members of the blind sample have none, from the moment of the draw on: the server may still have to learn anew.
export const scoreOf = (one) => (wanted() && !one.level && !isMember(one.id) ? scores.get(one.id) ?? null : null);
// Whether a building is the one that was offered last.
export const isOffered = (id) => id === current;
export const scoreColour = (score) => CLASSES.find(([below]) => score < below)[1];

// The level that a score suggests: of damaged ones that which people gave most often here.
function suggested(score) {
  const { levels, damaged } = state.session.scale;
  if (score < 0.5) return levels[damaged > 1 ? 0 : damaged - 1].name;
  const counts = state.progress?.levels ?? {}, worse = levels.slice(damaged - 1);
  return worse.reduce((best, one) => ((counts[one.name] ?? 0) > (counts[best.name] ?? 0) ? one : best)).name;
}

async function poll() {
  clearTimeout(timer);
  const { pair } = state;
  if (!pair) return;
  try {
    const answer = await get(`/api/scores?${new URLSearchParams({ pair: pair.id, since: number })}`);
    if (pair !== state.pair) return;
    told = answer;
    if (answer.sample !== drawn) { drawn = answer.sample; emit("sample drawn"); }
    if (answer.objects) {
      scores = new Map(Object.entries(answer.objects));
      number = answer.number;
      waiting = [];
      emit("objects", null);
    }
    tell();
  } catch (error) {
    if (!(error instanceof Lost)) told = { state: "off", reason: error.message };
    tell();
  }
  if (pair === state.pair) timer = setTimeout(poll, document.hidden ? 5 * POLL : POLL);
}

// Words, the legend and the buttons.
function tell() {
  const { state: now, reason, done = 0, total = 0, labels = 0, source } = told ?? {};
  const computing = now === "features" && total > 0;
  byId("features").hidden = !computing;
  if (computing) Object.assign(byId("features"), { max: total, value: done });
  const words = state.blind ? "Hidden while the blind sample is judged." : {
    off: reason && sentence(reason), labels: reason && sentence(reason),
    features: total ? `Looking at the ${units()}: ${done.toLocaleString("en")} of ${total.toLocaleString("en")}`
      : "Starting …",
    ready: source === "network" ? "From the fine-tuned network." : `Learned from ${labels} labels.` }[now] ?? "";
  if (byId("scores-told").textContent !== words) byId("scores-told").textContent = words;
  const ready = now === "ready" && !state.blind;
  byId("score-tools").hidden = !ready;
  if (ready) around();
  offer();
}

// Buildings in view that the two bounds would label.
function inView() {
  const box = main().getBounds(), low = Number(byId("below").value) / 100, high = Number(byId("above").value) / 100;
  const found = [...objects.values()].filter((one) => scoreOf(one) !== null && !one.unsaved
    && box.contains([one.centre[1], one.centre[0]]));
  return { intact: found.filter((one) => scores.get(one.id) <= low),
    damaged: found.filter((one) => scores.get(one.id) >= high) };
}

function around() {
  const { intact, damaged } = inView();
  byId("take-many").textContent = `Accept ${damaged.length} damaged, ${intact.length} intact in view`;
  byId("take-many").disabled = !canEdit() || !(damaged.length + intact.length);
}

function takeMany() {
  const { intact, damaged } = inView();
  // Each group is a change of its own: two presses of undo take them back.
  if (intact.length) edit(intact.map((one) => one.id), { level: suggested(0) });
  if (damaged.length) edit(damaged.map((one) => one.id), { level: suggested(1) });
  emit("say", `${damaged.length} ${suggested(1)}, ${intact.length} ${suggested(0)}`);
}

function offer() {
  const one = current && state.selected.size === 1 && state.selected.has(current) ? objects.get(current) : null;
  const score = one ? scoreOf(one) : null;
  byId("take-it").hidden = score === null || !canEdit();
  if (score === null) return;
  byId("take-it").replaceChildren();
  add(byId("take-it"), "span", `Take: ${suggested(score)} (${percent(score)} damaged)`);
  add(byId("take-it"), "kbd", "Enter");
}

// Takes the suggested level of the building that was offered; false where there is none.
export function takeIt() {
  const one = current && state.selected.size === 1 && state.selected.has(current) ? objects.get(current) : null;
  const score = one ? scoreOf(one) : null;
  if (score === null || !canEdit()) return false;
  edit([one.id], { level: suggested(score) });
  emit("say", `${one.id}: ${suggested(score)}`);
  next();
  return true;
}

export async function next() {
  const { pair } = state;
  if (state.blind) { emit("to member"); return; }
  if (told?.state !== "ready") { emit("toast", { text: byId("scores-told").textContent }); return; }
  const order = byId("order").value;
  try {
    if (!waiting.length) {
      const query = new URLSearchParams({ pair: pair.id, order, count: 10 });
      waiting = (await get(`/api/next?${query}`)).objects;
    }
    while (waiting.length && pair === state.pair) {
      const id = waiting.shift(), one = await showById(id);
      if (!one || one.level) continue; // judged meanwhile
      current = id;
      select([id]);
      zoomTo(one.box);
      emit("say", `${id}: ${percent(scores.get(id) ?? 0)} damaged`);
      return;
    }
    emit("toast", { text: "Nothing is left to judge here." });
  } catch (error) { emit("toast", { text: error.message, problem: true }); }
}

export function showScores(on_) {
  shown = on_;
  byId("scores-on").checked = on_;
  kept.set("jaxcd.scores", on_ ? "on" : "off");
  emit("objects", null);
  tell();
}

for (const [below, colour] of CLASSES) {
  const line = add(byId("legend"), "li");
  add(line, "i").style.backgroundColor = colour;
  add(line, "span", `${Math.round(100 * Math.min(below, 1) - 20)}–${Math.round(100 * Math.min(below, 1))}`);
}
byId("order").value = kept.get("jaxcd.order") ?? "uncertain";
byId("order").addEventListener("change", ({ target }) => { waiting = []; kept.set("jaxcd.order", target.value); });
byId("next-suggested").addEventListener("click", next);
byId("take-it").addEventListener("click", takeIt);
byId("take-many").addEventListener("click", takeMany);
for (const name of ["below", "above"]) byId(name).addEventListener("input", around);
byId("scores-on").checked = shown;
byId("scores-on").addEventListener("change", ({ target }) => showScores(target.checked));
on("pair", () => { scores = new Map(); number = 0; waiting = []; current = null; told = null; clearTimeout(timer); tell(); });
on("loaded", poll); // the first question keeps the server busy: buildings are shown before
on("selected", offer);
on("objects", offer);
on("looked", () => { if (!byId("score-tools").hidden) around(); });
on("blind", () => { emit("objects", null); tell(); });
on("tuned", () => { clearTimeout(timer); poll(); });

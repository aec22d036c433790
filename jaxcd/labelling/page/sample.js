// The blind sample: drawing it, judging its members in their order without scores, and the figures that it gives.

import { get, post, send } from "./api.js";
import { showById } from "./objects.js";
import * as outbox from "./outbox.js";
import { add } from "./panel.js";
import { emit, on, select, state, units } from "./state.js";
import { zoomTo } from "./view.js";

const byId = (id) => document.getElementById(id);
let sample = { size: 0 }, coming = [], current = null, turning = false;

async function refresh() {
  try { sample = await get("/api/sample"); } catch (error) { sample = { size: 0, problem: error.message }; }
  known();
}

function known() {
  const { held } = sample; // not there where the server did not answer
  if (held) state.held = Object.fromEntries(Object.entries(held).map(([pair, ids]) => [pair, new Set(ids)]));
  tell();
}

function tell() {
  const { size, judged = 0, random_so_far: random, problem } = sample;
  byId("sample-told").textContent = problem ?? (size ? `${judged} of ${size} ${units()} judged`
    + (judged && !random ? "; not in their order, so there will be no intervals" : "")
    : `None yet: ${units()} drawn at random, judged without seeing scores, say how good the scores are.`);
  Object.assign(byId("sample-progress"), { hidden: !size, max: size || 1, value: judged });
  byId("draw-sample").hidden = size > 0;
  byId("drop-sample").hidden = !size || judged > 0;
  byId("judge-sample").hidden = !size || (judged >= size && !state.blind);
  byId("judge-sample").textContent = state.blind ? "Stop judging the sample" : "Judge the sample";
  byId("judge-sample").setAttribute("aria-pressed", String(state.blind));
  byId("blind").hidden = !state.blind;
  byId("blind-told").textContent = `Blind sample, ${Math.min(judged + 1, size)} of ${size}: scores are hidden.`;
  document.body.classList.toggle("judging", state.blind);
}

function setBlind(on_) {
  state.blind = on_;
  coming = [];
  if (!on_) { state.shows = null; current = null; }
  emit("blind");
  tell();
}

async function judgeNext() {
  if (!coming.length) {
    await outbox.drained(); // an answer counts once it is saved
    await refresh();
    coming = sample.next ?? [];
  }
  const [next] = coming;
  if (!next) {
    setBlind(false);
    emit("toast", { text: sample.size > sample.judged ? "What is left lies on pairs that are not shown now."
      : "The blind sample is judged: see its figures." });
    return;
  }
  current = next;
  if (next.pair !== state.pair?.id) {
    location.hash = `#/${encodeURIComponent(next.pair)}`;
    return; // goes on once that pair is open
  }
  const one = await showById(next.object);
  if (!one) throw new Error(`${next.object} is not on this pair any more`);
  state.shows = one.id; // an earlier label of it is not shown
  select([one.id]);
  zoomTo(one.box);
  emit("objects", [one.id]);
  emit("say", `blind sample, ${sample.judged + 1} of ${sample.size}`);
}

async function turn() {
  if (turning || !state.blind) return;
  turning = true;
  try { await judgeNext(); } catch (error) { emit("toast", { text: error.message, problem: true }); }
  turning = false;
}

byId("judge-sample").addEventListener("click", () => {
  setBlind(!state.blind);
  byId("map").focus({ preventScroll: true });
  turn();
});
byId("stop-blind").addEventListener("click", () => { setBlind(false); byId("map").focus({ preventScroll: true }); });
on("edited", (edits) => {
  if (!state.shows || !edits.some((one) => one.object === state.shows && one.level)) return;
  coming.shift();
  sample.judged += 1;
  state.shows = null;
  select([]); // a second press of the key is no answer for the next one
  tell();
  turn();
});
on("to member", turn);
on("loaded", turn); // of another pair

// Drawing.
async function size() {
  byId("sample-size").textContent = "…";
  try {
    const found = await get(`/api/sample/size?width=${Number(byId("sample-width").value)}`);
    byId("sample-size").textContent = `${found.size.toLocaleString("en")} ${units()} to judge.`
      + (found.again ? ` About ${whole(found.again)} of the ${whole(found.labelled)} that are labelled will be among them: `
        + "you judge these again, and scores are learned from the other labels alone." : "");
  } catch (error) { byId("sample-size").textContent = error.message; }
}
byId("draw-sample").addEventListener("click", () => {
  byId("sample-problem").textContent = "";
  byId("draw").showModal();
  size();
});
byId("sample-width").addEventListener("change", size);
byId("draw").querySelector("[data-close]").addEventListener("click", () => byId("draw").close());
byId("draw-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const strata = byId("sample-strata").checked ? "score" : "none";
  try {
    sample = await post("/api/sample", { width: Number(byId("sample-width").value), strata });
    byId("draw").close();
    known();
    emit("tuned"); // members have no scores any more
    emit("say", `${sample.size} ${units()} drawn`);
  } catch (error) { byId("sample-problem").textContent = error.message; }
});
byId("drop-sample").addEventListener("click", async () => {
  try { sample = await send("DELETE", "/api/sample"); emit("tuned"); } catch (error) {
    emit("toast", { text: error.message, problem: true });
  }
  known();
});

// Figures in words.
const percent = (value) => `${Math.round(100 * value)} %`;
const whole = (value) => Math.round(value).toLocaleString("en");
function row(body, name, meaning, interval, write) {
  const line = add(body, "tr");
  add(line, "th", name).title = meaning;
  add(line, "td", interval ? write(interval.value) : "–", "strong");
  add(line, "td", interval && interval.low !== null ? `${write(interval.low)} to ${write(interval.high)}` : "–");
}
byId("show-figures").addEventListener("click", async () => {
  const box = byId("figures-told");
  box.replaceChildren();
  byId("figures").showModal();
  try {
    const found = await get("/api/figures"), { estimates, calibration: fit } = found;
    if (found.reason) add(box, "p", `${found.reason[0].toUpperCase()}${found.reason.slice(1)}.`, "warning");
    if (found.sample) {
      add(box, "p", `From ${found.sample.judged} of ${found.sample.size} ${units()} of the blind sample, which stand `
        + `for ${whole(found.sample.buildings)}; scores are from the ${found.source === "network" ? "fine-tuned network"
          : "labels"}.`);
      const table = add(box, "table"), head = add(add(table, "thead"), "tr"), body = add(table, "tbody");
      for (const text of ["", "estimate", "95 % interval"]) add(head, "th", text);
      row(body, `damaged ${units()} in the scene`, "from the sample alone", estimates.damaged, whole);
      row(body, "precision", `of the ${units()} called damaged, the share that is`, estimates.precision, percent);
      row(body, "recall", `of the damaged ${units()}, the share called so`, estimates.recall, percent);
      row(body, "F1", "harmonic mean of precision and recall", estimates.f1, percent);
      for (const note of found.notes ?? []) if (note !== found.reason) add(box, "p", note, "quiet");
    }
    if (found.called !== null) {
      add(box, "p", `Called damaged: ${whole(found.called)} of ${whole(found.buildings)} ${units()}. A count like this `
        + "has no interval.");
    }
    if (fit) {
      add(box, "p", `Calibration error ${(fit.error_after ?? fit.error_before).toFixed(3)}`
        + (fit.error_after !== null ? ` (${fit.error_before.toFixed(3)} before the temperature)` : "")
        + ": how far scores lie from the shares that were found.");
    }
  } catch (error) { add(box, "p", error.message, "problem"); }
});

on("started", refresh);
on("sample drawn", refresh); // by whomever
on("blind", tell);

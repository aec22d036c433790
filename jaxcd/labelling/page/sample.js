// The blind sample: judging its members in their order, without scores.

import { get, send } from "./api.js";
import { showById } from "./objects.js";
import * as outbox from "./outbox.js";
import { emit, isMember, on, select, state, units } from "./state.js";
import { zoomTo } from "./view.js";

const byId = (id) => document.getElementById(id);
let sample = { size: 0 }, coming = [], turning = false, again = false;

async function refresh() {
  try { take(await get("/api/sample")); } catch (error) { take({ size: 0, problem: error.message }); }
}

// What the server says of the sample.
export function take(found) {
  sample = found;
  const { held } = sample; // not there where the server did not answer
  if (held) {
    state.held = Object.fromEntries(Object.entries(held).map(([pair, ids]) => [pair, new Set(ids)]));
    emit("objects", null); // members have no scores any more
  }
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
  document.body.classList.toggle("judging", state.blind);
  tellWhere();
}

// Whether what is selected is the member whose turn it is.
function tellWhere() {
  const { size, judged = 0 } = sample, ids = [...state.selected];
  const here = turning || (ids.length === 1 && ids[0] === state.shows);
  const what = !ids.length ? "nothing is selected." : ids.some(isMember)
    ? `this ${units(1)} is of the sample, but it is not its turn.` : `this ${units(1)} is not of the sample.`;
  byId("blind-told").textContent = here
    ? `Blind sample, ${Math.min(judged + 1, size)} of ${size}: scores are hidden.`
    : `Blind sample, ${judged} of ${size} judged; ${what} Scores are hidden.`;
  byId("back-blind").hidden = here;
}

function setBlind(on_) {
  state.blind = on_;
  coming = [];
  if (!on_) state.shows = null;
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
  again = true;
  if (turning || !state.blind) return;
  turning = true;
  try {
    for (again = true; again && state.blind;) { again = false; await judgeNext(); }
  } catch (error) { emit("toast", { text: error.message, problem: true }); }
  turning = false;
  tellWhere();
}

byId("judge-sample").addEventListener("click", () => {
  setBlind(!state.blind);
  byId("panel").scrollTop = 0; // to the levels
  byId("map").focus({ preventScroll: true });
  turn();
});
byId("stop-blind").addEventListener("click", () => { setBlind(false); byId("map").focus({ preventScroll: true }); });
byId("back-blind").addEventListener("click", () => { turn(); byId("map").focus({ preventScroll: true }); });
byId("drop-sample").addEventListener("click", async () => {
  try { take(await send("DELETE", "/api/sample")); emit("tuned"); } catch (error) {
    emit("toast", { text: error.message, problem: true });
  }
});

on("edited", (edits) => {
  const given = edits.filter((one) => "level" in one && isMember(one.object));
  if (state.shows && given.some((one) => one.object === state.shows && one.level)) {
    coming.shift();
    sample.judged += 1;
    state.shows = null;
    select([]); // a second press of the key is no answer for the next one
    tell();
    turn();
  } else if (given.length) recount();
});

// Another member got or lost its label.
async function recount() {
  coming = [];
  try { await outbox.drained(); } catch { return; } // it is counted at the next turn
  await refresh();
}

// After undo or redo the first member without an answer may be another one: the order begins with it.
on("turned", () => {
  if (!sample.size) return;
  coming = [];
  if (state.blind) { state.shows = null; turn(); } else refresh();
});
on("selected", () => { if (state.blind) tellWhere(); });
on("to member", turn);
on("loaded", turn); // of another pair
on("started", refresh);
on("sample drawn", refresh); // by whomever
on("blind", tell);

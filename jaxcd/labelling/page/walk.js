// From one unjudged building to the next, along a curve that stays near where it is.

import { cellsLeft, objects, unjudgedIn, whole } from "./objects.js";
import { emit, select, state } from "./state.js";
import { zoomTo } from "./view.js";

// Place along a Z-shaped curve over the pair: near places have near numbers, and the order is the same each time.
function place([x, y]) {
  const [west, south, east, north] = state.pair.bounds;
  const across = Math.min(65535, Math.max(0, Math.floor((65536 * (x - west)) / (east - west))));
  const down = Math.min(65535, Math.max(0, Math.floor((65536 * (north - y)) / (north - south))));
  let code = 0;
  for (let bit = 15; bit >= 0; bit -= 1) code = code * 4 + 2 * ((down >> bit) & 1) + ((across >> bit) & 1);
  return code;
}

function inTask(one) {
  const task = state.task?.pair === state.pair.id ? state.task : null;
  if (task?.objects) return task.objects.includes(one.id);
  if (!task?.bounds) return true;
  const [west, south, east, north] = task.bounds, [x, y] = one.centre;
  return x >= west && x <= east && y >= south && y <= north;
}

let last = null; // where the walk was, when nothing is selected

export const walk = (step) => wander(step).catch((error) => emit("toast", { text: error.message, problem: true }));

async function wander(step) {
  const from = state.selected.size ? objects.get([...state.selected].pop()) : null;
  const start = from ? place(from.centre) : last ?? -1;
  const left = [...objects.values()].filter((one) => !one.level && one !== from && inTask(one))
    .map((one) => ({ one, code: place(one.centre) }))
    .sort((a, b) => a.code - b.code || (a.one.id < b.one.id ? -1 : 1));
  if (!left.length) { await elsewhere(); return; }
  const later = (entry) => entry.code > start || (from && entry.code === start && entry.one.id > from.id);
  const found = step > 0 ? left.find(later) ?? left[0]
    : left.findLast((entry) => !later(entry)) ?? left[left.length - 1];
  last = found.code;
  go(found.one, left.length);
}

function go(one, count) {
  select([one.id]);
  zoomTo(one.box);
  emit("say", `${one.id}, not judged, ${count} left here`);
}

// Of a large pair the page has only a part: the overview knows where buildings are left.
async function elsewhere() {
  const { pair } = state;
  if (whole === false) {
    const mine = state.task?.pair === state.pair.id ? state.task.bounds : null;
    const boxes = mine ? [[...mine, 1, 0]] : await cellsLeft();
    for (const [west, south, east, north] of boxes) {
      if (pair !== state.pair) return;
      const one = await unjudgedIn([west, south, east, north]);
      if (one) { go(one, boxes.reduce((sum, [, , , , count, judged]) => sum + count - judged, 0)); return; }
    }
  }
  if (pair !== state.pair) return;
  const drawn = state.pair.footprints === null && !objects.size;
  emit("toast", { text: state.task ? "All of your area is judged: take the next one (Q)."
    : drawn ? "No polygons here yet: draw them with G or H." : "All buildings here are judged." });
}

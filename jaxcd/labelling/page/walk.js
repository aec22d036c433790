// From one unjudged building to the next: first all over the pair, so that the first labels show what there is, then
// along a curve that stays near where it is.

import { cellsOf, objects, unjudgedIn, whole } from "./objects.js";
import { emit, isMember, on, select, state, units } from "./state.js";
import { zoomTo } from "./view.js";

// Column and row of a point in a pair that is cut into 2 ** bits of each.
function cellAt([x, y], bits) {
  const [west, south, east, north] = state.pair.bounds, count = 2 ** bits;
  return [(x - west) / (east - west), (north - y) / (north - south)]
    .map((share) => Math.min(count - 1, Math.max(0, Math.floor(count * share))));
}

// Place along a Z-shaped curve over the pair: near places have near numbers, and the order is the same each time.
function place(point) {
  const [across, down] = cellAt(point, 16);
  let code = 0;
  for (let bit = 15; bit >= 0; bit -= 1) code = code * 4 + 2 * ((down >> bit) & 1) + ((across >> bit) & 1);
  return code;
}

// Parts of the pair, in an order in which each quarter, and each quarter of a quarter, has its turn.
const FEW = 200; // footprints or cells: where there are more, more parts are looked at
const partBits = () => (state.pair.units > FEW ? 3 : 2);
function partOf(point) {
  const bits = partBits(), [across, down] = cellAt(point, bits);
  let rank = 0;
  for (let bit = 0; bit < bits; bit += 1) rank = rank * 4 + 2 * ((down >> bit) & 1) + ((across >> bit) & 1);
  return rank;
}

const been = new Set(); // parts that the walk has been to
const trail = []; // what it has shown
let last = null; // where it was, when nothing is selected
on("pair", () => {
  been.clear();
  trail.length = 0;
  last = null;
});

function inTask(one) {
  const task = state.task?.pair === state.pair.id ? state.task : null;
  if (task?.objects) return task.objects.includes(one.id);
  if (!task?.bounds) return true;
  const [west, south, east, north] = task.bounds, [x, y] = one.centre;
  return x >= west && x <= east && y >= south && y <= north;
}

const isLeft = (one) => !one.level && !isMember(one.id);

export const walk = (step) => wander(step).catch((error) => emit("toast", { text: error.message, problem: true }));

async function wander(step) {
  if (state.blind) { emit("to member"); return; } // while the sample is judged, only its own order leads on
  const from = state.selected.size ? objects.get([...state.selected].pop()) : null;
  const left = [...objects.values()].filter((one) => isLeft(one) && one !== from && inTask(one));
  const mine = state.task?.pair === state.pair.id; // all of a task is to be judged
  const { pair } = state;
  const far = step > 0 ? !mine && await inNewPart(from) : before(from);
  if (pair !== state.pair) return;
  if (step > 0) trail.push(...state.selected);
  if (far) go(far, left.length);
  else if (left.length) along(left, from, step);
  else await elsewhere();
}

// The one that was shown before, if nobody has judged it.
function before(from) {
  while (trail.length) {
    const one = objects.get(trail.pop());
    if (one && one.id !== from?.id && isLeft(one)) return one;
  }
  return null;
}

// A building in a part of the pair where nobody has judged one yet; null where there is no such part.
async function inNewPart(from) {
  const places = [...objects.values()].filter((one) => one.level || !isMember(one.id))
    .map((one) => ({ one, centre: one.centre, begun: one.level || one === from }));
  if (whole === false) places.push(...(await cellsOf(state.pair.id)).map(([west, south, east, north, count, judged]) => (
    { box: [west, south, east, north], centre: [(west + east) / 2, (south + north) / 2], begun: judged > 0,
      full: judged >= count })));
  const begun = new Set(been), parts = new Map();
  for (const each of places) {
    const part = partOf(each.centre);
    if (each.begun) begun.add(part);
    else if (!each.full) parts.set(part, parts.get(part) ?? []).get(part).push(each);
  }
  for (const part of [...parts.keys()].filter((one) => !begun.has(one)).sort((a, b) => a - b)) {
    been.add(part);
    const { one, box } = middleOf(parts.get(part)), found = one ?? await unjudgedIn(box);
    if (found) return found;
  }
  return null;
}

// The one nearest to the middle of several.
function middleOf(places) {
  const mean = [0, 1].map((i) => places.reduce((sum, { centre }) => sum + centre[i], 0) / places.length);
  const away = ({ centre }) => Math.hypot(centre[0] - mean[0], centre[1] - mean[1]);
  return places.reduce((best, one) => (away(one) < away(best) ? one : best));
}

function along(left, from, step) {
  const start = from ? place(from.centre) : last ?? -1;
  const ordered = left.map((one) => ({ one, code: place(one.centre) }))
    .sort((a, b) => a.code - b.code || (a.one.id < b.one.id ? -1 : 1));
  const later = (entry) => entry.code > start || (from && entry.code === start && entry.one.id > from.id);
  const found = step > 0 ? ordered.find(later) ?? ordered[0]
    : ordered.findLast((entry) => !later(entry)) ?? ordered[ordered.length - 1];
  go(found.one, left.length);
}

function go(one, count) {
  last = place(one.centre);
  select([one.id]);
  zoomTo(one.box);
  emit("say", `${one.id}, not judged, ${count} left here`);
}

// Of a large pair the page has only a part: the overview knows where buildings are left.
async function elsewhere() {
  const { pair } = state, mine = state.task?.pair === pair.id ? state.task.bounds : null;
  if (whole === false) {
    const boxes = mine ? [[...mine, 1, 0]] : (await cellsOf(pair.id)).filter(([, , , , count, judged]) => judged < count);
    for (const [west, south, east, north] of boxes) {
      if (pair !== state.pair) return;
      const one = await unjudgedIn([west, south, east, north]);
      if (one) { go(one, boxes.reduce((sum, [, , , , count, judged]) => sum + count - judged, 0)); return; }
    }
  }
  if (pair !== state.pair) return;
  emit("toast", { text: mine ? "All of your area is judged: take the next one (Q)."
    : pair.footprints === null && !objects.size ? "No polygons here yet: draw them with G or H."
      : state.task ? `All ${units()} here are judged; your area is in another pair (Q leads there).`
        : `All ${units()} here are judged${state.held[pair.id] ? ", but for the blind sample" : ""}.` });
}

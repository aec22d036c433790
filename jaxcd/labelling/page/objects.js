// The objects of the open pair: what the server says of them, with the page's own unsaved edits upon it.

import { Lost, get, pathOf } from "./api.js";
import * as outbox from "./outbox.js";
import { emit, on, state } from "./state.js";

const MOST = 5000; // polygons that a canvas draws without delay
const MOST_EDITS = 5000; // that the server takes in one change
const POLL = 2000; // milliseconds
const OWN = 2 ** 40; // versions from here on are of second opinions, and count by themselves

export const objects = new Map(); // id -> {id, geometry, level, version, author, at, comment, origin, box, centre}
export let whole = null; // whether all of the pair's objects are here; null: not known yet
export let cells = null; // the overview, where they are too many
const saved = new Map(); // id -> what the server said last
let seq = 0, timer = null, asked = 0, opened = 0;

function flat(feature) {
  const { level = null, version = 0, author = null, at = null, comment = "", origin = "drawn", deleted = false,
    opinions = [] } = feature.properties;
  return { id: String(feature.id), geometry: feature.geometry, level, version, author, at, comment: comment ?? "",
    origin, deleted, opinions };
}

function rings(geometry) {
  if (!geometry) return [];
  return geometry.type === "Polygon" ? geometry.coordinates : geometry.coordinates.flat();
}

function measured(one) {
  const points = rings(one.geometry).flat();
  const xs = points.map((point) => point[0]), ys = points.map((point) => point[1]);
  const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
  const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
  one.box = [least(xs), least(ys), most(xs), most(ys)];
  one.centre = [(one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2];
  return one;
}

// The object as the page shows it.
function refresh(id) {
  const edits = outbox.pendingOf(state.pair.id, id);
  let now = saved.get(id);
  if (!now && edits.length) now = { id, geometry: null, level: null, version: 0, comment: "", origin: "drawn", opinions: [] };
  if (!now) { objects.delete(id); return; }
  const before = objects.get(id);
  now = { ...now, unsaved: edits.length > 0 };
  for (const edit of edits) {
    for (const name of ["level", "geometry", "comment", "deleted"]) if (name in edit) now[name] = edit[name];
    now.version = edit.base + 1;
    Object.assign(now, { author: state.session.person, at: null });
  }
  if (now.deleted || !now.geometry) { objects.delete(id); state.selected.delete(id); return; }
  if (before && before.geometry === now.geometry) Object.assign(now, { box: before.box, centre: before.centre });
  else measured(now);
  objects.set(id, now);
}

export function changed(ids) {
  for (const id of ids) refresh(id);
  emit("objects", ids);
}

export function take(features) {
  const ids = [];
  for (const feature of features) {
    if (String(feature.id) === "pair") continue;
    const one = flat(feature), old = saved.get(one.id);
    if (old && old.version >= OWN === one.version >= OWN && old.version > one.version) continue; // came late
    if (old && !one.geometry) one.geometry = old.geometry;
    saved.set(one.id, one);
    ids.push(one.id);
  }
  changed(ids);
}

export const savedOf = (id) => saved.get(id);

// `bases`: the versions that the author saw when the change was begun, of objects that it took a while to change.
export function edit(ids, change, bases = new Map()) {
  if (!ids.length) return;
  const edits = ids.map((id) => ({ object: id, base: bases.get(id) ?? objects.get(id)?.version ?? 0, ...change }));
  for (let at = 0; at < edits.length; at += MOST_EDITS) {
    outbox.add(state.pair.id, "changes", { edits: edits.slice(at, at + MOST_EDITS) });
  }
  emit("edited", edits);
  changed(ids);
}

const query = ([west, south, east, north]) => new URLSearchParams({ west, south, east, north, limit: MOST });

function empty() {
  objects.clear();
  saved.clear();
  cells = null;
}

export async function open(pair) {
  clearTimeout(timer);
  empty();
  whole = null;
  asked += 1;
  opened += 1;
  const mine = asked, few = pair.units <= MOST;
  const answer = await get(pathOf(pair.id, few ? `objects?${query(pair.bounds)}` : "overview"));
  if (mine !== asked) return;
  whole = few && answer.complete;
  if (answer.cells) sums = { pair: pair.id, at: Date.now(), cells: answer.cells };
  seq = answer.seq;
  if (whole) take(answer.features);
  changed([...outbox.pendingIds(pair.id)]);
  emit("objects", null);
  poll();
}

// The overview, which takes the server a while, is not asked for at each move.
const AGE = 10000; // milliseconds
let sums = { pair: null, at: 0, cells: null };
async function summed(pair) {
  if (sums.pair !== pair || Date.now() - sums.at > AGE) {
    sums = { pair, at: Date.now(), cells: (await get(pathOf(pair, "overview"))).cells };
  }
  return sums.cells;
}

// How many footprints or cells a box would hold if they lay evenly.
function crowd([west, south, east, north]) {
  const [left, bottom, right, top] = state.pair.bounds;
  const part = (low, high, from, to) => Math.max(0, Math.min(high, to) - Math.max(low, from)) / (high - low);
  return state.pair.units * part(left, right, west, east) * part(bottom, top, south, north);
}

// Where the pair has too many objects for the page, those in view are asked for, or cells that sum them up.
export async function look(box) {
  if (whole !== false || !state.pair) return;
  asked += 1;
  const mine = asked, pair = state.pair.id;
  try {
    // Objects that would not all be drawn are not asked for.
    const answer = crowd(box) > 4 * MOST ? { complete: false } : await get(pathOf(pair, `objects?${query(box)}`));
    if (mine !== asked) return;
    const overview = answer.complete ? null : await summed(pair);
    if (mine !== asked) return;
    const chosen = new Map([...state.selected].map((id) => [id, saved.get(id)]));
    empty();
    cells = overview;
    for (const [id, one] of chosen) if (one) saved.set(id, one);
    if (!overview) take(answer.features);
    changed([...chosen.keys(), ...outbox.pendingIds(pair)]);
    emit("objects", null);
  } catch (error) {
    if (!(error instanceof Lost)) throw error;
  }
}

// The first object in a box that nobody has judged, now among the page's, or null.
export async function unjudgedIn(box) {
  const { pair } = state;
  const { features } = await get(pathOf(pair.id, `objects?${query(box)}`));
  if (pair !== state.pair) return null;
  const others = [outbox.pendingIds(pair.id), state.held[pair.id] ?? new Set()];
  const found = features.find((one) => !one.properties.level && !others.some((ids) => ids.has(String(one.id))));
  if (!found) return null;
  take([found]);
  return objects.get(String(found.id)) ?? null;
}

// An object by its id, now among the page's, or null: of a large pair the page has only a part.
export async function showById(id) {
  const { pair } = state;
  if (!objects.has(id)) {
    const { features } = await get(pathOf(pair.id, `object/${encodeURIComponent(id)}`));
    if (pair !== state.pair) return null;
    take(features);
  }
  return objects.get(id) ?? null;
}

// Cells of the overview of a pair: west, south, east, north, objects, how many of them are judged, the worst level.
export const cellsOf = (pair) => summed(pair);

export async function poll() {
  clearTimeout(timer);
  const { pair } = state, mine = opened;
  try {
    const answer = await get(pathOf(pair.id, `changes?since=${seq}`));
    if (mine !== opened || pair !== state.pair) return;
    seq = answer.seq;
    // Of a large pair only what is in view is kept.
    take(whole ? answer.labels : answer.labels.filter((one) => saved.has(String(one.id)) || !cells));
    emit("progress", answer.progress);
  } catch (error) {
    if (!(error instanceof Lost) && error.status !== 404) emit("toast", { text: error.message, problem: true });
  }
  if (mine !== opened || pair !== state.pair) return;
  clearTimeout(timer); // of another poll meanwhile
  timer = setTimeout(poll, POLL);
}

on("acknowledged", ({ entry, answer }) => {
  if (entry.pair !== state.pair?.id) return;
  if (entry.kind === "changes") take(answer.labels);
  clearTimeout(timer);
  timer = setTimeout(poll, 200); // for the counts
});
on("refused", ({ entry }) => {
  if (entry.pair === state.pair?.id && entry.kind === "changes") changed(entry.body.edits.map((one) => one.object));
});

// Whether a point lies in an object; of several the smallest one is meant.
export function at([x, y]) {
  let found = null, least = Infinity;
  for (const one of objects.values()) {
    const [west, south, east, north] = one.box;
    const size = (east - west) * (north - south);
    if (x < west || x > east || y < south || y > north || size >= least || !covers(one, x, y)) continue;
    found = one;
    least = size;
  }
  return found;
}

function covers(one, x, y) {
  return rings(one.geometry).filter((ring) => inside(ring, x, y)).length % 2 === 1;
}

export function inside(ring, x, y) {
  let odd = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i, i += 1) {
    const [xi, yi] = ring[i], [xj, yj] = ring[j];
    if ((yi > y) !== (yj > y) && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}

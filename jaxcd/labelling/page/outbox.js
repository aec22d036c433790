// Changes on their way to the server: sent at once and in order, kept in the browser until they are acknowledged.
// Each carries an id, so that one that was saved while its answer got lost is not saved twice.

import { Lost, pathOf, post } from "./api.js";
import { emit, kept, state, uuid } from "./state.js";

const WAITS = [0.5, 1, 2, 4, 8]; // seconds before the next attempt
let queue = [];
let sending = false, blocked = false, failures = 0, timer = null, trouble = "", count = 0;

const prefix = () => `jaxcd.outbox/${state.session.store ?? ""}/${encodeURIComponent(state.session.person)}/`;
const waiting = [];

const served = (entry) => state.pairs.some((pair) => pair.id === entry.pair);

export function open() {
  const names = kept.names().filter((name) => name.startsWith(prefix())).sort();
  const all = names.flatMap((name) => {
    try { return [JSON.parse(kept.get(name))]; } catch { kept.remove(name); return []; }
  });
  // What belongs to a pair that is not served now stays in the browser until it is.
  queue = all.filter(served);
  if (queue.length < all.length) emit("toast", { text: `${all.length - queue.length} unsent changes wait for a pair `
    + "that is not shown now.", problem: true });
  tell();
  pump();
}

export function add(pair, kind, body) {
  count += 1;
  const at = `${String(Date.now()).padStart(15, "0")}-${String(count).padStart(6, "0")}`;
  const entry = { pair, kind, body: { id: uuid(), ...body } };
  entry.name = `${prefix()}${at}-${entry.body.id}`;
  queue.push(entry);
  keep(entry);
  tell();
  pump();
  return entry;
}

function keep(entry) {
  if (!kept.set(entry.name, JSON.stringify(entry))) emit("toast", { text: "This browser keeps nothing: stay on this "
    + "page until all is saved.", problem: true });
}

function drop(entry) {
  queue = queue.filter((one) => one !== entry);
  kept.remove(entry.name);
}

// Edits of an object that are not acknowledged, the oldest first.
export function pendingOf(pair, id) {
  return queue.filter((entry) => entry.pair === pair && entry.kind === "changes")
    .flatMap((entry) => entry.body.edits.filter((edit) => edit.object === id));
}
export const pendingIds = (pair) => new Set(queue.filter((entry) => entry.pair === pair && entry.kind === "changes")
  .flatMap((entry) => entry.body.edits.map((edit) => edit.object)));
export const pendingVerdicts = (pair) => queue.filter((entry) => entry.pair === pair && entry.kind === "verdict")
  .map((entry) => entry.body);

// Resolves when nothing waits; rejects when that takes an attempt that failed.
export function drained() {
  if (!queue.length) return Promise.resolve();
  if (failures || blocked) return Promise.reject(new Lost("some changes are not saved yet"));
  return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
}

function tell() {
  const now = blocked ? "conflict" : failures ? "lost" : queue.length ? "saving" : "saved";
  emit("saved", { state: now, count: queue.length, trouble });
  if (now === "saved") for (const one of waiting.splice(0)) one.resolve();
  if (now === "lost" || now === "conflict") for (const one of waiting.splice(0)) one.reject(new Lost(trouble || now));
}

async function pump() {
  clearTimeout(timer);
  if (sending || blocked || !queue.length || !state.session.person || state.session.read_only) return;
  sending = true;
  const entry = queue[0];
  try {
    const answer = await post(pathOf(entry.pair, entry.kind), entry.body);
    failures = 0;
    drop(entry);
    emit("acknowledged", { entry, answer });
  } catch (error) {
    if (error instanceof Lost || error.status === 403) { // 403: the cookie is gone, or others may only look just now
      trouble = error instanceof Lost ? error.said ?? "no answer from the server" : error.message;
      timer = setTimeout(pump, 1000 * WAITS[Math.min(failures, WAITS.length - 1)]);
      failures += 1;
    } else if (error.status === 409) {
      failures = 0;
      blocked = true;
      emit("conflict", { entry, body: error.body });
    } else {
      failures = 0;
      drop(entry);
      emit("refused", { entry, message: error.message });
    }
  }
  sending = false;
  tell();
  if (!failures) pump();
}
window.addEventListener("online", () => pump());

// After a conflict: `mine` are the objects whose edits go again, now upon the versions in `versions`; edits of the
// others in `versions` are given up, also those made since.
export function settle(entry, versions, mine) {
  const shift = new Map();
  for (const edit of entry.body.edits) {
    if (versions.has(edit.object)) shift.set(edit.object, versions.get(edit.object) - edit.base);
  }
  for (const one of queue.filter((other) => other.pair === entry.pair && other.kind === "changes")) {
    const edits = one.body.edits.filter((edit) => !shift.has(edit.object) || mine.has(edit.object))
      .map((edit) => shift.has(edit.object) ? { ...edit, base: edit.base + shift.get(edit.object) } : edit);
    if (!edits.length) { drop(one); continue; }
    one.body = { ...one.body, edits };
    if (one === entry) one.body.id = uuid(); // another change than the one that was refused
    keep(one);
  }
  go();
}

export function settleVerdict(entry, version, mine) {
  if (mine) {
    entry.body = { ...entry.body, id: uuid(), base: version };
    keep(entry);
  } else drop(entry);
  go();
}

// Give up an entry that stands in the way of the others.
export function discard(entry) {
  drop(entry);
  go();
}

function go() {
  blocked = false;
  tell();
  pump();
}

// The panel beside the map: levels, what is selected, the pair's verdict, progress.

import { get, pathOf } from "./api.js";
import { edit, objects } from "./objects.js";
import * as outbox from "./outbox.js";
import { canEdit, choices, colourOf, damagedWords, emit, keepsShape, on, select, state, units } from "./state.js";
import { isOffered, next, scoreOf } from "./scores.js";
import { walk } from "./walk.js";
import { capital, percent } from "./words.js";

const byId = (id) => document.getElementById(id);
export function add(parent, kind, text = "", name = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  if (name) made.className = name;
  parent.append(made);
  return made;
}

export function keyed(parent, text, key, colour) {
  const button = add(parent, "button");
  button.type = "button";
  if (colour !== undefined) {
    const swatch = add(button, "i", "", colour ? "" : "none");
    if (colour) swatch.style.backgroundColor = colour;
  }
  add(button, "span", text);
  if (key) add(button, "kbd", key.length === 1 && key !== key.toLowerCase() ? `⇧${key}` : key.toUpperCase());
  return button;
}

export function build() {
  const levels = byId("levels");
  levels.replaceChildren();
  for (const { name, key, colour } of choices()) {
    const button = keyed(levels, name, key, colour);
    button.dataset.level = name;
    button.setAttribute("aria-keyshortcuts", key);
    add(button, "b", "", "count");
    button.addEventListener("click", () => judge(name));
  }
  const words = damagedWords();
  byId("damaged-told").textContent = words && `Damaged means ${words}.`;
  const none = keyed(levels, "not judged", "x", null);
  none.addEventListener("click", () => judge(null));
  byId("verdicts").replaceChildren();
  for (const { name, key } of state.session.verdicts) {
    const button = keyed(byId("verdicts"), name, key);
    button.dataset.verdict = name;
    button.addEventListener("click", () => pass(name));
  }
  for (const button of document.querySelectorAll("[data-key]")) {
    if (!button.querySelector("kbd")) add(button, "kbd", button.dataset.key.length === 1
      ? button.dataset.key.toUpperCase() : button.dataset.key);
  }
}

// One level for all that is selected; with nothing selected, for what is drawn next.
export function judge(level) {
  if (!canEdit()) return;
  const ids = [...state.selected].filter((id) => objects.has(id));
  if (!ids.length && state.blind) return;
  if (!ids.length) {
    state.armed = level;
    emit("armed");
    emit("say", state.armed ? `what is drawn next is ${state.armed}` : "what is drawn next is not judged");
    return;
  }
  // In the blind sample the same level is an answer, too: what was said before is not shown.
  const changing = ids.filter((id) => state.shows === id || objects.get(id).level !== level);
  edit(changing, { level });
  emit("say", `${ids.length === 1 ? ids[0] : `${ids.length} ${units()}`}: ${level ?? "not judged"}`);
  if (!byId("go-on").checked || state.blind || ids.length !== 1 || !level) return;
  if (isOffered(ids[0])) next(); else walk(1); // as one came here
}

// The whole pair's verdict; the same one again takes it away.
export function pass(name) {
  if (!canEdit()) return;
  const now = verdictNow();
  const verdict = now.verdict === name ? null : name;
  outbox.add(state.pair.id, "verdict", { verdict, base: now.version });
  told();
  emit("say", `whole pair: ${verdict ?? "no verdict"}`);
  if (verdict && byId("go-on").checked) emit("pair done");
}

function verdictNow() {
  const pending = outbox.pendingVerdicts(state.pair.id), last = pending[pending.length - 1];
  if (last) return { verdict: last.verdict, version: last.base + 1 };
  return { verdict: state.progress?.verdict ?? null, version: state.progress?.verdict_version ?? 0 };
}

export function remove() {
  if (!canEdit()) return;
  const ids = [...state.selected], drawn = ids.filter((id) => !keepsShape(objects.get(id)));
  if (drawn.length < ids.length) emit("toast", { text: `${capital(units())} stay; X takes their labels away.` });
  edit(drawn, { deleted: true });
  select([]);
  if (drawn.length) emit("say", `${drawn.length} deleted`);
}

const CLOCK = { dateStyle: "medium", timeStyle: "short" };
const when = (at) => (at ? new Date(at).toLocaleString([], CLOCK) : "not saved yet");
export const toldOf = (one) => [one.level ?? "not judged",
  ...(one.author ? [`${one.author ?? "?"} · ${when(one.at)}`] : []), ...(one.comment ? [one.comment] : [])];
const scoredOf = (one) => {
  const score = scoreOf(one);
  return score === null ? [] : [`${percent(score)} damaged, by score`];
};
const opinionsOf = (one) => one.opinions.map(([name, level]) => `${name}: ${level}`).join(" · ");

let seen = null; // id -> version that the author of a comment saw when it was begun
byId("comment").addEventListener("focus", () => {
  seen ??= new Map([...state.selected].map((id) => [id, objects.get(id)?.version ?? 0]));
});

function selected() {
  const ids = [...state.selected].filter((id) => objects.has(id)), one = ids.length === 1 ? objects.get(ids[0]) : null;
  const none = !ids.length;
  byId("selected-title").textContent = none ? "Nothing selected" : one ? `${one.origin} ${one.id.slice(0, 10)}`
    : `${ids.length} ${units()} selected`;
  const told = byId("selected-told");
  told.replaceChildren();
  if (one && state.shows === one.id) told.textContent = "Of the blind sample: which level is it?";
  else if (one) {
    const texts = [...toldOf(one).slice(0, 2), ...scoredOf(one)];
    texts.forEach((text, i) => add(told, "span", text, i ? "" : "strong"));
    if (one.opinions.length) add(told, "span", `Opinions: ${opinionsOf(one)}`);
  }
  else if (none) told.textContent = canEdit() ? `Click a ${units(1)}, or press N for the next one.`
      : `Click a ${units(1)}.`;
  else told.textContent = "One key labels all of them.";
  byId("comment-form").hidden = none || !canEdit() && !one?.comment;
  const comment = byId("comment");
  if (!byId("comment-form").contains(document.activeElement)) {
    comment.value = one?.comment ?? "";
    seen = null;
  }
  comment.readOnly = !canEdit();
  byId("save-comment").hidden = !canEdit();
  byId("history").hidden = !one?.author;
  if (byId("history").dataset.of !== `${one?.id} ${one?.version}`) byId("history").open = false;
  byId("history").dataset.of = `${one?.id} ${one?.version}`;
  const levels = new Set(ids.map((id) => objects.get(id).level));
  for (const button of byId("levels").querySelectorAll("button")) {
    const name = button.dataset.level ?? null;
    button.setAttribute("aria-pressed", String(none ? state.armed !== null && state.armed === name
      : levels.size === 1 && levels.has(name)));
  }
  byId("delete").disabled = none;
}

async function history() {
  if (!byId("history").open) return;
  const [id] = state.selected, { pair } = state;
  const answer = await get(pathOf(pair.id, `history/${encodeURIComponent(id)}`));
  if (pair !== state.pair || !state.selected.has(id)) return;
  byId("history-list").replaceChildren();
  for (const { kind, author, at, changes } of answer.history) {
    const what = Object.entries(changes).map(([name, [, after]]) => ({
      level: after ?? "not judged", geometry: "its shape",
      deleted: after ? "deleted" : "made", comment: after ? `“${after}”` : "no comment" })[name]);
    const how = kind === "save" ? "" : `${kind}: `;
    add(byId("history-list"), "li", `${how}${what.join(", ")} · ${author} · ${when(at)}`);
  }
}

function told() {
  const progress = state.progress;
  if (!progress || !state.pair) return;
  const { levels = {}, judged = 0, people = {} } = progress;
  const all = Math.max(state.pair.footprints ?? 0, judged);
  byId("progress").max = all || 1;
  byId("progress").value = judged;
  byId("progress").hidden = state.pair.footprints === null;
  const share = all ? ` · ${Math.floor((100 * judged) / all)} %` : "";
  byId("progress-told").textContent = state.pair.footprints === null ? `${units(1) === "cell" ? "cells and polygons" : "polygons"} judged: ${judged}`
    : `${judged.toLocaleString("en")} of ${all.toLocaleString("en")} buildings judged${share}`;
  for (const count of byId("levels").querySelectorAll(".count")) {
    count.textContent = levels[count.parentNode.dataset.level] || "";
  }
  byId("people").replaceChildren();
  for (const [name, count] of Object.entries(people)) {
    const line = add(byId("people"), "li");
    add(line, "span", name);
    add(line, "b", count.toLocaleString("en"));
  }
  const { verdict } = verdictNow();
  for (const button of byId("verdicts").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
  }
}

// Beside the pointer: level, author, comment.
let pointed = null; // {id, x, y}: an object, and where the pointer is on it
function hovered() {
  const box = byId("hover"), one = pointed && objects.get(pointed.id);
  box.hidden = !one || state.shows === one.id;
  if (box.hidden) return;
  box.replaceChildren();
  const head = add(box, "p", "", "strong"), colour = colourOf(one.level);
  const swatch = add(head, "i", "", colour ? "" : "none");
  if (colour) swatch.style.backgroundColor = colour;
  [...toldOf(one), ...scoredOf(one)].forEach((text, i) => (i ? add(box, "p", text) : add(head, "span", text)));
  const frame = byId("stage").getBoundingClientRect();
  const x = Math.min(pointed.x - frame.left + 14, frame.width - box.offsetWidth - 8);
  const y = Math.min(pointed.y - frame.top + 14, frame.height - box.offsetHeight - 8);
  Object.assign(box.style, { left: `${x}px`, top: `${y}px` });
}
on("hovered", (found) => { pointed = found; hovered(); });
on("objects", () => { if (pointed) hovered(); }); // it may have got a level meanwhile
on("pair", () => { pointed = null; hovered(); });

byId("comment-form").addEventListener("submit", (event) => {
  event.preventDefault();
  edit([...state.selected].filter((id) => objects.has(id)), { comment: byId("comment").value.trim() },
    seen ?? undefined);
  seen = null;
  byId("map").focus({ preventScroll: true });
  emit("say", "comment saved");
});
byId("history").addEventListener("toggle", () => history().catch((error) => emit("toast", { text: error.message })));
byId("next").addEventListener("click", () => walk(1));
byId("previous").addEventListener("click", () => walk(-1));
byId("delete").addEventListener("click", remove);
for (const name of ["selected", "armed", "objects"]) on(name, selected);
// What is clicked would keep the focus, and Enter would press it again in place of taking what is suggested. A press of
// the mouse or a finger leaves the focus on the map; keys move it as they always do.
for (const name of ["bar", "pairs", "tools", "blind", "panel"]) {
  byId(name).addEventListener("mousedown", (event) => {
    if (!event.target.closest("button, summary, .tick") || event.target.closest("form")) return;
    event.preventDefault();
    byId("map").focus({ preventScroll: true });
  });
}
let byPointer = false; // whether a list was opened so
byId("order").addEventListener("pointerdown", () => { byPointer = true; });
byId("order").addEventListener("keydown", () => { byPointer = false; });
byId("order").addEventListener("change", () => { if (byPointer) byId("map").focus({ preventScroll: true }); });
on("progress", (progress) => { state.progress = progress; told(); });
on("acknowledged", ({ entry, answer }) => {
  if (entry.pair === state.pair?.id && entry.kind === "verdict" && state.progress) {
    Object.assign(state.progress, { verdict: answer.verdict, verdict_version: answer.version });
    told();
  }
});
on("refused", told);
on("settled", told);

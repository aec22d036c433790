// Starts the page: who is there, which pairs, and the one that is open.

import { Lost, get, pathOf, post } from "./api.js";
import { askWho } from "./dialogs.js";
import { list as listKeys } from "./keys.js";
import * as layers from "./layers.js";
import * as objects from "./objects.js";
import * as outbox from "./outbox.js";
import { add, build } from "./panel.js";
import { canEdit, emit, kept, on, select, setTool, state } from "./state.js";
import * as tools from "./tools.js";
import * as view from "./view.js";
import "./draw.js";
import "./figures.js";
import "./sample.js";
import "./scores.js";
import "./tuning.js";
import "./walk.js";

const byId = (id) => document.getElementById(id);

on("say", (text) => { byId("said").textContent = ""; byId("said").textContent = text; });
on("toast", ({ text, problem = false }) => {
  const toast = add(byId("toasts"), "p", text, problem ? "problem" : "");
  toast.setAttribute("role", problem ? "alert" : "status");
  setTimeout(() => toast.remove(), problem ? 12000 : 5000);
});
on("saved", ({ state: now, count, trouble }) => {
  const told = { saved: "all saved", saving: "saving …", conflict: "conflict: choose what holds",
    lost: `${count} not saved, retrying: ${trouble}` }[now];
  byId("saved").dataset.state = now;
  if (byId("saved").textContent !== told) byId("saved").textContent = told;
});
on("refused", ({ message }) => emit("toast", { text: `Not saved: ${message}`, problem: true }));
on("looked", (box) => objects.look(box));

// The list of pairs; thousands of them are built once, and each entry is changed by itself.
const entries = new Map(); // id of a pair -> {button, value, bar}
function listPairs() {
  const wanted = byId("find-pair").value.trim().toLowerCase();
  entries.clear();
  const list = document.createDocumentFragment();
  for (const pair of state.pairs) {
    if (wanted && !pair.title.toLowerCase().includes(wanted)) continue;
    const button = add(add(list, "li"), "button");
    button.type = "button";
    add(button, "span", pair.title, "what");
    const value = add(button, "span", "", "value"), bar = add(button, "progress");
    bar.setAttribute("aria-hidden", "true");
    button.addEventListener("click", () => go(pair.id));
    entries.set(pair.id, { button, value, bar });
    tellPair(pair);
  }
  byId("pair-list").replaceChildren(list);
}
function tellPair(pair) {
  const entry = entries.get(pair.id);
  if (!entry) return;
  if (pair === state.pair) entry.button.setAttribute("aria-current", "true");
  else entry.button.removeAttribute("aria-current");
  const { judged = 0, verdict = null } = pair.progress ?? {}, all = pair.footprints;
  const counted = all === null ? [judged, "drawn"] : [judged.toLocaleString("en"), "/", all.toLocaleString("en")];
  entry.value.textContent = verdict ?? counted.join(" ");
  Object.assign(entry.bar, { max: all || 1, value: verdict ? all || 1 : all ? judged : 0 });
}
byId("find-pair").addEventListener("input", listPairs);

async function refreshPairs() {
  const known = new Map(state.pairs.map((pair) => [pair.id, pair]));
  state.pairs = (await get("/api/pairs")).pairs.map((pair) => Object.assign(known.get(pair.id) ?? {}, pair));
  if (state.pairs.length === known.size && state.pairs.every((pair) => known.has(pair.id))) state.pairs.forEach(tellPair);
  else listPairs();
}

function go(id) { location.hash = `#/${encodeURIComponent(id)}`; }
const hashed = () => { try { return decodeURIComponent(location.hash.slice(2)); } catch { return ""; } };

// Get the objects of the open pair, again after a while where the server does not answer.
async function load(pair) {
  for (let wait = 1000; pair === state.pair; wait = Math.min(2 * wait, 8000)) {
    try { await objects.open(pair); break; } catch (error) {
      emit("toast", { text: `The buildings don't come: ${error.message}`, problem: true });
      if (!(error instanceof Lost)) break;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
  if (pair === state.pair && !objects.whole) objects.look(view.ofBox(view.main().getBounds().pad(0.25)));
}

async function open(id) {
  const pair = state.pairs.find((one) => one.id === id) ?? state.pairs[0];
  if (!pair) { byId("title").textContent = "There are no pairs to label"; return; }
  if (pair.id === state.pair?.id) return;
  const before = state.pair;
  select([]);
  setTool("select");
  Object.assign(state, { pair, progress: pair.progress ?? null });
  byId("title").textContent = pair.title;
  const shift = pair.shift?.map((one) => one.toFixed(1));
  byId("subtitle").textContent = shift ? `the image after is shown moved by ${shift[0]} rows, ${shift[1]} columns` : "";
  document.title = `${pair.title}: labels`;
  view.open(pair);
  layers.open();
  tools.open();
  emit("pair");
  emit("task");
  if (before) tellPair(before);
  tellPair(pair);
  if (pair.progress) emit("progress", pair.progress);
  emit("selected");
  await load(pair);
  if (pair === state.pair) emit("loaded");
  emit("say", `${pair.title} is open`);
}
window.addEventListener("hashchange", () => open(hashed()));

function step(by) {
  const at = state.pairs.indexOf(state.pair) + by;
  if (at >= 0 && at < state.pairs.length) go(state.pairs[at].id);
  else emit("toast", { text: by > 0 ? "This is the last pair." : "This is the first pair." });
}
byId("map").addEventListener("pair-step", ({ detail }) => step(detail));
on("pair done", () => step(1));
on("progress", (progress) => {
  if (!state.pair) return;
  const before = JSON.stringify(state.pair.progress);
  state.pair.progress = progress;
  if (before !== JSON.stringify(progress)) tellPair(state.pair);
});

byId("take-next").addEventListener("click", async () => {
  try {
    await outbox.drained(); // what is not saved does not count as judged
    const { task } = await post("/api/next", { after: state.pair?.id ?? null });
    state.task = task;
    await refreshPairs();
    if (!task) emit("toast", { text: "Nothing is left for you: all is judged or taken." });
    if (state.pair && (!task || task.pair === state.pair.id)) {
      // Whose labels may be seen depends on the task, so that they are asked for again.
      select([]);
      emit("task");
      if (task) view.main().fitBounds(view.boxOf(task.bounds), { animate: false });
      await load(state.pair);
    } else if (task) {
      const opening = open(task.pair);
      go(task.pair);
      view.main().fitBounds(view.boxOf(task.bounds), { animate: false });
      await opening;
    }
  } catch (error) { emit("toast", { text: error.message, problem: true }); }
});

// Undo and redo are the server's: they outlive the page. What waits goes first.
async function turn(what) {
  if (!canEdit() || !state.pair) return;
  const { pair } = state;
  try {
    await outbox.drained();
    if (pair !== state.pair) return;
    const answer = await post(pathOf(pair.id, what));
    if (pair !== state.pair) return;
    objects.take(answer.labels);
    select(answer.labels.map((one) => String(one.id)).filter((id) => objects.objects.has(id)));
    emit("turned");
    emit("say", `${what === "undo" ? "undone" : "redone"}: ${answer.labels.length} changed`);
    objects.poll();
  } catch (error) {
    if (error.status === 404) emit("toast", { text: error.message });
    else if (error.status === 409) {
      if (pair === state.pair) objects.take(error.body.labels ?? []);
      emit("toast", { text: `Not ${what === "undo" ? "undone" : "redone"}: ${error.message}`, problem: true });
    } else emit("toast", { text: `No ${what}: ${error.message}`, problem: true });
  }
}
byId("undo").addEventListener("click", () => turn("undo"));
byId("redo").addEventListener("click", () => turn("redo"));

function fold(button, part) {
  byId(button).addEventListener("click", () => {
    const open_ = document.body.classList.toggle(`with-${part}`);
    byId(button).setAttribute("aria-expanded", String(open_));
    // On a narrow screen what comes below the levels is folded away: it is led to.
    if (part === "panel") byId("panel").scrollTop = open_ ? byId("scores").offsetTop - byId("panel").offsetTop : 0;
  });
}
fold("show-pairs", "pairs");
fold("show-panel", "panel");

byId("go-on").checked = kept.get("jaxcd.go-on") === "on";
byId("go-on").addEventListener("change", ({ target }) => kept.set("jaxcd.go-on", target.checked ? "on" : "off"));

byId("who").addEventListener("click", async () => {
  try { await outbox.drained(); } catch {
    emit("toast", { text: "First all has to be saved.", problem: true });
    return;
  }
  await askWho();
  location.reload(); // others may see other labels
});

function begin(session) {
  state.session = session;
  document.body.classList.toggle("read-only", session.read_only);
  byId("read-only").hidden = !session.read_only;
  byId("who").hidden = session.read_only;
  byId("who").textContent = session.person ?? "";
  byId("who").title = "Label as somebody else";
  build();
  listKeys();
}

async function start() {
  const view_ = kept.get("jaxcd.view");
  if (["side", "swipe", "one"].includes(view_)) state.view = view_;
  else if (matchMedia("(max-width: 800px)").matches) state.view = "swipe";
  let session = await get("/api/session");
  if (!session.person && !session.read_only) session = await askWho();
  begin(session);
  await refreshPairs();
  outbox.open();
  if (state.pairs.length > 1 && !matchMedia("(max-width: 800px)").matches) document.body.classList.add("with-pairs");
  byId("show-pairs").hidden = state.pairs.length < 2;
  byId("show-pairs").setAttribute("aria-expanded", String(document.body.classList.contains("with-pairs")));
  await open(hashed());
  emit("started");
  byId("map").focus({ preventScroll: true });
}
start().catch((error) => emit("toast", { text: `The page can't start: ${error.message}`, problem: true }));

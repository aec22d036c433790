// Keys: each one does what a button of the page does.

import { enter, escape, resizeBrush } from "./tools.js";
import { judge, pass, remove } from "./panel.js";
import { canEdit, choices, kept, setTool, state } from "./state.js";
import { flip, setView, showWhole } from "./view.js";
import { show } from "./layers.js";
import { next, showScores, takeIt } from "./scores.js";
import { accept, nextSuggestion, reject } from "./tuning.js";
import { walk } from "./walk.js";

const byId = (id) => document.getElementById(id);
const tool = (name, edits = false) => ({ does: () => setTool(name), edits });
const KEYS = [
  ["Go", { n: { does: () => walk(1), told: "next unjudged building" },
    p: { does: () => walk(-1), told: "back to the one before" },
    ".": { does: () => byId("map").dispatchEvent(new CustomEvent("pair-step", { detail: 1 })), told: "next pair" },
    ",": { does: () => byId("map").dispatchEvent(new CustomEvent("pair-step", { detail: -1 })), told: "previous pair" },
    q: { does: () => byId("take-next").click(), told: "take the next area or pair that nobody is at", edits: true },
    j: { does: () => { if (!nextSuggestion()) next(); }, told: "next suggestion: the building or polygon to judge next" },
    Enter: { does: (event) => { if (event.shiftKey || !(accept() || takeIt())) enter(event.shiftKey); },
      told: "take what is suggested, or select the building in the middle of the map" } }],
  ["Look", { s: { does: () => setView("side"), told: "side by side" },
    w: { does: () => setView("swipe"), told: "swipe" },
    t: { does: () => setView("one"), told: "one image" },
    f: { does: flip, told: "blink: before and after in turn; Space, too" },
    v: { does: () => showScores(!byId("scores-on").checked), told: "colours of scores on and off" },
    o: { does: () => show(!byId("outlines").checked), told: "outlines on and off" },
    0: { does: showWhole, told: "the whole scene" } }],
  ["Select and draw", { a: { ...tool("select"), told: "select by clicks; Shift adds, Shift and drag draws a box" },
    r: { ...tool("box"), told: "box" }, l: { ...tool("lasso"), told: "lasso" },
    g: { ...tool("polygon", true), told: "polygon" }, h: { ...tool("brush", true), told: "brush" },
    "[": { does: () => resizeBrush(-4), told: "smaller brush" },
    "]": { does: () => resizeBrush(4), told: "larger brush" },
    e: { ...tool("shape", true), told: "edit the shape of the selected polygon" },
    Delete: { does: () => { if (!reject()) remove(); }, told: "delete the selected polygons, reject a suggested one",
      edits: true },
    Escape: { does: escape, told: "leave the tool; then select nothing" } }],
  ["Edit", { m: { does: () => byId("comment").focus(), told: "comment on what is selected", edits: true },
    z: { does: () => byId("undo").click(), told: "undo", edits: true },
    y: { does: () => byId("redo").click(), told: "redo", edits: true } }],
  ["Help", { "?": { does: () => byId("keys").showModal(), told: "these keys" } }],
];
const more = { " ": { does: flip }, Backspace: { does: remove, edits: true } };
const own = Object.assign(more, ...KEYS.map(([, keys]) => keys));

function find(event) {
  const name = event.key;
  const level = choices().find((one) => one.key === name);
  if (level) return { does: () => judge(level.name), edits: true };
  const verdict = state.session.verdicts.find((one) => one.key === name);
  if (verdict) return { does: () => pass(verdict.name), edits: true };
  if (name === "x") return { does: () => judge(null), edits: true };
  return own[name] ?? null;
}

document.addEventListener("keydown", (event) => {
  if (!state.session || !state.pair || document.querySelector("dialog[open]")) return;
  const { target } = event;
  if (target.closest("input:not([type=checkbox]):not([type=range]), textarea, select")) {
    if (event.key === "Escape") byId("map").focus({ preventScroll: true });
    return;
  }
  if ((event.ctrlKey || event.metaKey) && !event.altKey) {
    const undo = event.key === "z", redo = event.key === "y" || event.key === "Z";
    if ((undo || redo) && canEdit()) { byId(undo ? "undo" : "redo").click(); event.preventDefault(); }
    return;
  }
  if (event.altKey || event.isComposing) return;
  // Keys that work whatever has the focus belong to what has it.
  const pressed = target.closest("button, a, summary, input, [role=slider]");
  if (pressed && (event.key === " " || (event.key === "Enter" && target.type !== "checkbox"))) return;
  if (!byId("keys-on").checked && event.key.length === 1 && event.key !== "?") return;
  // With Caps Lock on, letters come as capitals.
  const capital = event.getModifierState("CapsLock") && event.key.length === 1;
  const found = find(capital ? { key: event.shiftKey ? event.key.toUpperCase() : event.key.toLowerCase() } : event);
  if (!found || (found.edits && !canEdit())) return;
  event.preventDefault();
  if (event.repeat && found.edits) return;
  found.does(event);
});

export function list() {
  const named = (all, told) => Object.fromEntries(all.map(({ key, name }) => [key, { told: told(name) }]));
  const levels = named([...choices(), { key: "x", name: "not judged" }], (name) => name);
  const verdicts = named(state.session.verdicts, (name) => `whole pair ${name}`);
  const groups = [["Levels", levels], ["Whole pair", verdicts], ...KEYS];
  byId("keys-list").replaceChildren();
  for (const [title, keys] of groups) {
    const [group, head, rows] = ["section", "h3", "dl"].map((kind) => document.createElement(kind));
    head.textContent = title;
    for (const [key, { told }] of Object.entries(keys)) {
      const [cap, term, text] = ["kbd", "dt", "dd"].map((kind) => document.createElement(kind));
      cap.textContent = key.length > 1 ? key : key === key.toLowerCase() ? key.toUpperCase() : `Shift ${key}`;
      text.textContent = told;
      term.append(cap);
      rows.append(term, text);
    }
    group.append(head, rows);
    byId("keys-list").append(group);
  }
}
byId("show-keys").addEventListener("click", () => byId("keys").showModal());
byId("keys-on").checked = kept.get("jaxcd.keys") !== "off";
byId("keys-on").addEventListener("change", ({ target }) => kept.set("jaxcd.keys", target.checked ? "on" : "off"));

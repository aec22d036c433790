// What the page asks: who labels, what holds after a conflict, a file to import; and the table of agreement.

import { get, pathOf, post, upload } from "./api.js";
import { changed, poll, take } from "./objects.js";
import * as outbox from "./outbox.js";
import { add } from "./panel.js";
import { emit, on, state } from "./state.js";

const byId = (id) => document.getElementById(id);

// Resolves once the server knows who is there.
export function askWho() {
  const dialog = byId("ask-who"), form = dialog.querySelector("form");
  return new Promise((resolve) => {
    const cancel = (event) => event.preventDefault(); // without a name nothing can be saved
    const submit = async (event) => {
      event.preventDefault();
      try {
        const session = await post("/api/session", { name: byId("name").value.trim() });
        form.removeEventListener("submit", submit);
        dialog.removeEventListener("cancel", cancel);
        dialog.close();
        resolve(session);
      } catch (error) {
        byId("who-problem").textContent = error.message;
      }
    };
    dialog.addEventListener("cancel", cancel);
    form.addEventListener("submit", submit);
    dialog.showModal();
    byId("name").focus();
  });
}

// A conflict: each line has what is saved now and what was wanted, and a choice.
const of = (label) => [label.deleted ? "deleted" : label.level ?? "not judged", label.comment].filter(Boolean)
  .join(" · ");
const wish = (edit) => [edit.deleted ? "deleted" : "", "level" in edit ? edit.level ?? "not judged" : "",
  edit.geometry ? "another shape" : "", edit.comment ? edit.comment : "comment" in edit ? "no comment" : ""]
  .filter(Boolean).join(" · ");

function choice(row, name, value, text, checked) {
  const label = add(add(row, "td"), "label", "", "tick"), input = document.createElement("input");
  Object.assign(input, { type: "radio", name, value, checked });
  label.append(input);
  add(label, "span", text);
}

on("conflict", ({ entry, body }) => {
  const verdict = entry.kind === "verdict", labels = body.labels ?? [];
  const mine = (id) => entry.body.edits.find((edit) => edit.object === String(id)) ?? {};
  const lines = labels.map(({ id, properties }) => ({
    id: String(id), by: properties.author, version: properties.version,
    now: verdict ? properties.level ?? "no verdict" : of(properties),
    mine: verdict ? entry.body.verdict ?? "no verdict" : wish(mine(id)),
  }));
  if (!lines.length) { // nothing that may be shown: there is no choice
    outbox.discard(entry);
    emit("refused", { entry, message: body.error });
    return;
  }
  if (!verdict && entry.pair === state.pair?.id) take(labels);
  const rows = byId("conflict-rows");
  rows.replaceChildren();
  for (const line of lines) {
    const row = add(rows, "tr");
    add(row, "th", line.id === "pair" ? "whole pair" : line.id.slice(0, 10));
    choice(row, line.id, "theirs", line.by ? `${line.now} (${line.by})` : line.now, true);
    choice(row, line.id, "mine", line.mine, false);
  }
  const all = (value) => { for (const input of rows.querySelectorAll(`[value=${value}]`)) input.checked = true; };
  byId("all-theirs").onclick = () => all("theirs");
  byId("all-mine").onclick = () => all("mine");
  const dialog = byId("conflict"), form = dialog.querySelector("form");
  dialog.oncancel = (event) => event.preventDefault();
  form.onsubmit = () => {
    const chosen = new Set([...rows.querySelectorAll("[value=mine]:checked")].map((input) => input.name));
    if (verdict) outbox.settleVerdict(entry, lines[0].version, chosen.has("pair"));
    else outbox.settle(entry, new Map(lines.map((line) => [line.id, line.version])), chosen);
    if (entry.pair === state.pair?.id) { changed(lines.map((line) => line.id)); poll(); }
    emit("settled");
    emit("say", chosen.size ? "yours is sent again" : "what was saved stays");
  };
  if (!dialog.open) dialog.showModal();
  emit("say", "somebody else changed this meanwhile: choose what holds");
});

byId("show-import").addEventListener("click", () => {
  byId("import-problem").textContent = "";
  byId("import-told").replaceChildren();
  byId("import").showModal();
});
byId("import").querySelector("[data-close]").addEventListener("click", () => byId("import").close());
byId("import-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData();
  form.set("file", byId("import-file").files[0]);
  form.set("attribute", byId("import-attribute").value.trim());
  form.set("values", byId("import-values").value.trim());
  byId("import-problem").textContent = "";
  const told = byId("import-told");
  told.replaceChildren();
  try {
    const answer = await upload(pathOf(state.pair.id, "import"), form);
    add(told, "li", `labels saved: ${answer.saved}`);
    for (const reason of answer.left_out.slice(0, 20)) add(told, "li", `left out: ${reason}`);
    if (answer.left_out.length > 20) add(told, "li", `… and ${answer.left_out.length - 20} more left out`);
    await poll();
  } catch (error) {
    byId("import-problem").textContent = error.message;
  }
});

const number = (value) => (typeof value === "number" ? value.toFixed(3) : "–");
byId("show-agreement").addEventListener("click", async () => {
  const told = byId("agreement-told");
  told.replaceChildren();
  byId("agreement").showModal();
  try {
    const rows = (await get("/api/agreement")).agreement;
    if (!rows.length) { add(told, "p", "No two people have judged the same buildings yet."); return; }
    const table = add(told, "table"), head = add(add(table, "thead"), "tr"), body = add(table, "tbody");
    for (const text of ["people", "both judged", "the same", "kappa", "quadratic kappa", "pairs both judged",
      "kappa of pairs", "IoU of drawn damage"]) add(head, "th", text);
    for (const row of rows) {
      const line = add(body, "tr");
      add(line, "th", row.people.join(", "));
      for (const text of [row.objects, row.same, number(row.kappa), number(row.weighted_kappa), row.verdicts,
        number(row.verdict_kappa), number(row.drawn_iou)]) add(line, "td", String(text));
    }
    const differing = rows.flatMap((row) => row.differing);
    if (differing.length) add(told, "p", `Judged differently: ${differing.length}`);
    const list = add(told, "ul");
    for (const [pair, id] of differing.slice(0, 100)) {
      const link = add(add(list, "li"), "a", id === "pair" ? `${pair}, the whole pair` : `${pair}, ${id.slice(0, 10)}`);
      link.href = `#/${encodeURIComponent(pair)}`;
    }
  } catch (error) {
    add(told, "p", error.message, "problem");
  }
});


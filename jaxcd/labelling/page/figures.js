// What the judged blind sample says: damaged buildings, precision, recall and F1, in words.

import { get } from "./api.js";
import { add } from "./panel.js";
import { damagedWords, units } from "./state.js";
import { percent, sentence, whole } from "./words.js";

const byId = (id) => document.getElementById(id);
const DECIDES = 0.5; // the server's: probability from which on a building is called damaged

function row(body, name, meaning, interval, write) {
  const line = add(body, "tr");
  add(line, "th", name).title = meaning;
  add(line, "td", interval ? write(interval.value) : "–", "strong");
  add(line, "td", interval && interval.low !== null ? `${write(interval.low)} to ${write(interval.high)}` : "–");
}

// Where the scores are from; empty where there are none.
function origin({ called, source, labels }, ofSample) {
  if (called === null) return "";
  if (source === "network") return " Scores are from the fine-tuned network.";
  return ` Scores were learned from ${whole(labels)}${ofSample ? " other" : ""} labels.`;
}

function tell(box, found) {
  const { estimates, calibration, sample } = found;
  if (found.reason) add(box, "p", sentence(found.reason), "warning");
  if (sample) {
    add(box, "p", `${whole(sample.judged)} of ${whole(sample.size)} sample ${units()} are judged. The scene has `
      + `${whole(sample.buildings)}.${origin(found, true)}`);
    const table = add(box, "table"), head = add(add(table, "thead"), "tr"), body = add(table, "tbody");
    for (const text of ["", "estimate", "95 % interval"]) add(head, "th", text);
    row(body, `damaged ${units()} in the scene`, "from the sample alone", estimates.damaged, whole);
    row(body, "precision", `of the ${units()} called damaged, the share that is`, estimates.precision, percent);
    row(body, "recall", `of the damaged ${units()}, the share called so`, estimates.recall, percent);
    row(body, "F1", "harmonic mean of precision and recall", estimates.f1, percent);
    if (damagedWords()) add(box, "p", `Damaged means ${damagedWords()}.`, "quiet");
    for (const note of found.notes) if (note !== found.reason) add(box, "p", sentence(note), "quiet");
  }
  if (found.called !== null) {
    add(box, "p", `The scores call ${whole(found.called)} of ${whole(found.buildings)} damaged (from `
      + `${percent(DECIDES)}). A count like this has no interval.${sample ? "" : origin(found, false)}`);
  }
  if (calibration) {
    const error = 100 * (calibration.error_after ?? calibration.error_before);
    add(box, "p", `Calibration error ${error.toFixed(1)} %: on average, scores lie so far from the shares that were `
      + "found.");
  }
}

byId("show-figures").addEventListener("click", async () => {
  const box = byId("figures-told");
  box.replaceChildren();
  byId("figures-title").textContent = `Figures: damaged ${units()}, and how good the scores are`;
  byId("figures").showModal();
  try { tell(box, await get("/api/figures")); } catch (error) { add(box, "p", error.message, "problem"); }
});

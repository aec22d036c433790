// Drawing the blind sample: how many members, what that brings, and what it costs the scores.

import { get, post } from "./api.js";
import { take } from "./sample.js";
import { damagedWords, emit, units } from "./state.js";
import { percent, whole } from "./words.js";

const byId = (id) => document.getElementById(id);
let asked = 0;

// The wanted size, as the server takes it: a width of the interval, or a number.
function wanted() {
  const count = byId("sample-count").value.trim();
  return count ? { size: Number(count) } : { width: Number(byId("sample-width").value) };
}

async function tellSize() {
  asked += 1;
  const mine = asked;
  byId("sample-size").textContent = "…";
  byId("draw-it").disabled = true; // until one knows what it costs
  byId("sample-width").disabled = "size" in wanted();
  warn(null);
  try {
    const found = await get(`/api/sample/size?${new URLSearchParams(wanted())}`);
    if (mine !== asked) return;
    byId("sample-width-of").textContent = found.interval === "precision" ? "Width of precision's interval"
      : `Width of the interval of the share of damaged ${units()}`;
    byId("sample-strata").parentNode.hidden = !found.scored;
    byId("sample-size").textContent = `${whole(found.size)} of ${whole(found.buildings)} ${units()} to judge. If `
      + `${percent(found.expected)} are damaged, their number is then known to about ±${whole(found.about)} (95 % interval).`
      + (found.again ? ` About ${whole(found.again)} of the ${whole(found.labelled)} that are labelled will be among `
        + "them: you judge these again, and scores are learned from the other labels alone." : "");
    warn(found.warning);
  } catch (error) { if (mine === asked) byId("sample-size").textContent = error.message; }
  if (mine === asked) byId("draw-it").disabled = false;
}

function warn(text) {
  byId("sample-warning").textContent = text ?? "";
  byId("draw-it").textContent = text ? "Draw all the same" : "Draw";
}

byId("draw-sample").addEventListener("click", () => {
  byId("sample-problem").textContent = "";
  byId("sample-damaged").textContent = damagedWords() && ` (${damagedWords()})`;
  byId("draw").showModal();
  tellSize();
});
for (const name of ["sample-width", "sample-count"]) byId(name).addEventListener("input", tellSize);
byId("draw").querySelector("[data-close]").addEventListener("click", () => byId("draw").close());
byId("draw-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const strata = byId("sample-strata").checked ? "score" : "none";
  try {
    const drawn = await post("/api/sample", { ...wanted(), strata });
    byId("draw").close();
    take(drawn);
    emit("tuned"); // others have new scores soon
    emit("say", `${drawn.size} ${units()} drawn`);
  } catch (error) { byId("sample-problem").textContent = error.message; }
});

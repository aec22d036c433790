// Fine-tuning in the background, and the polygons that its map suggests where there are no footprints.

import { get, post, send } from "./api.js";
import { edit, inside } from "./objects.js";
import { canEdit, emit, on, select, setTool, state } from "./state.js";
import { maps, zoomTo } from "./view.js";

const byId = (id) => document.getElementById(id);
const QUICK = 2000, SLOW = 15000; // milliseconds
const ACTIVE = ["preparing", "training", "mapping"];
const COLOUR = "#c45cff";
let now = null, timer = null, found = [], drawn = [], current = null;

const minutes = (seconds) => (seconds === null ? "" : seconds > 90 ? `, ${Math.round(seconds / 60)} min left`
  : `, ${seconds} s left`);
function words({ state: what, step, steps, seconds_left: left, message, number }) {
  return { idle: "Trains the network on these labels and maps the scenes anew.",
    preparing: `Preparing${message ? `: ${message}` : ""} …`, mapping: `Mapping${message ? `: ${message}` : ""} …`,
    training: `Training: step ${step} of ${steps}${minutes(left)}`, done: `Map ${number} is there.`,
    failed: `Failed: ${message}`, stopped: `Stopped at step ${step} of ${steps}; the button goes on.` }[what];
}

async function poll() {
  clearTimeout(timer);
  try {
    const answer = await get("/api/fine_tune"), before = now;
    now = answer;
    tell();
    if (answer.state === "done" && (before === null || before.state !== "done")) {
      if (before) { emit("tuned"); emit("toast", { text: "The fine-tuned network's map is there." }); }
      await load();
    }
  } catch { /* the next one may come through */ }
  timer = setTimeout(poll, now && ACTIVE.includes(now.state) ? QUICK : SLOW);
}

function tell() {
  if (!now) return;
  const active = ACTIVE.includes(now.state), text = words(now);
  if (byId("tune-told").textContent !== text) byId("tune-told").textContent = text;
  byId("tune-told").classList.toggle("problem", now.state === "failed");
  byId("tune-progress").hidden = !active;
  if (now.state === "training") Object.assign(byId("tune-progress"), { max: now.steps, value: now.step });
  else byId("tune-progress").removeAttribute("value");
  byId("tune").hidden = active;
  byId("tune-steps-field").hidden = active;
  byId("tune-cancel").hidden = !active;
}

byId("tune").addEventListener("click", async () => {
  try { now = await post("/api/fine_tune", { steps: Number(byId("tune-steps").value) }); } catch (error) {
    emit("toast", { text: error.message, problem: true });
  }
  poll();
});
byId("tune-cancel").addEventListener("click", async () => {
  try { now = await send("DELETE", "/api/fine_tune"); } catch (error) {
    emit("toast", { text: error.message, problem: true });
  }
  poll();
});

// Suggested polygons.
async function load() {
  const { pair } = state;
  if (!pair || pair.footprints !== null || !now?.number) { found = []; paint(); return; }
  try {
    const answer = await get(`/api/suggestions?${new URLSearchParams({ pair: pair.id })}`);
    if (pair !== state.pair) return;
    found = answer.features.map((one) => ({ id: one.id, geometry: one.geometry, ...one.properties }));
  } catch (error) { emit("toast", { text: error.message, problem: true }); }
  paint();
}

const shape = (geometry) => L.GeoJSON.coordsToLatLngs(geometry.coordinates, geometry.type === "Polygon" ? 1 : 2);
const boxOf_ = (one) => {
  const bounds = L.latLngBounds(shape(one.geometry).flat(2));
  return [bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()];
};
const named = (one) => `${one.level}${one.probability === null ? "" : `, ${Math.round(100 * one.probability)} %`}`;

function paint() {
  for (const layer of drawn) layer.remove();
  drawn = [];
  for (const one of byId("suggestions-on").checked && !state.blind ? found : []) {
    const chosen = one.id === current;
    drawn.push(...maps.map((map) => L.polygon(shape(one.geometry), { interactive: false, color: COLOUR,
      weight: chosen ? 4 : 2, dashArray: chosen ? null : "7 4", fillOpacity: chosen ? 0.25 : 0.08 }).addTo(map)));
  }
  const one = found.find((each) => each.id === current);
  byId("suggestions").hidden = state.pair?.footprints !== null || !now?.number;
  byId("suggestions-told").textContent = found.length ? `${found.length} polygons suggested`
    : "All suggested polygons are decided on.";
  byId("suggestion-told").textContent = one ? `This one: ${named(one)}` : "";
  for (const name of ["accept", "change", "reject"]) byId(`suggestion-${name}`).disabled = !one || !canEdit();
}

function choose(one) {
  current = one?.id ?? null;
  if (one) { select([]); emit("say", `suggested: ${named(one)}`); }
  paint();
}

// The next suggestion; false where the pair has none.
export function nextSuggestion() {
  if (state.blind || !found.length) return false;
  const one = found[(found.findIndex((each) => each.id === current) + 1) % found.length];
  choose(one);
  zoomTo(boxOf_(one));
  return true;
}

function gone(one) {
  const at = found.indexOf(one);
  found = found.filter((each) => each !== one);
  current = null;
  if (found.length) { const following = found[at % found.length]; choose(following); zoomTo(boxOf_(following)); }
  else paint();
}

// Accepts the chosen one; false where none is chosen.
export function accept() {
  const one = found.find((each) => each.id === current);
  if (!one || !canEdit() || state.selected.size) return false;
  edit([one.id], { geometry: one.geometry, level: one.level });
  emit("say", `accepted: ${one.level}`);
  gone(one);
  return true;
}

function change() {
  const one = found.find((each) => each.id === current);
  if (!one || !canEdit()) return;
  edit([one.id], { geometry: one.geometry, level: one.level });
  found = found.filter((each) => each !== one);
  current = null;
  paint();
  select([one.id]);
  setTool("shape");
}

export function reject() {
  const one = found.find((each) => each.id === current);
  if (!one || !canEdit() || state.selected.size) return false;
  post("/api/suggestions", { pair: state.pair.id, ids: [one.id] })
    .catch((error) => { emit("toast", { text: error.message, problem: true }); load(); });
  emit("say", "rejected");
  gone(one);
  return true;
}

const covers = (one, { lng, lat }) => {
  const { type, coordinates } = one.geometry, rings = type === "Polygon" ? coordinates : coordinates.flat();
  return rings.filter((ring) => inside(ring, lng, lat)).length % 2 === 1;
};
on("missed", (latlng) => {
  if (byId("suggestions-on").checked && !state.blind) choose(found.find((one) => covers(one, latlng)) ?? null);
});
on("selected", () => { if (state.selected.size && current) choose(null); });
byId("suggestion-next").addEventListener("click", nextSuggestion);
byId("suggestion-accept").addEventListener("click", accept);
byId("suggestion-change").addEventListener("click", change);
byId("suggestion-reject").addEventListener("click", reject);
byId("suggestions-on").addEventListener("change", paint);
on("pair", () => { found = []; current = null; paint(); });
on("loaded", load);
on("blind", () => { current = null; paint(); });
on("started", poll);

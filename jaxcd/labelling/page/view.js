// Two maps that move together. `main` shows after the event, and before it where it is swiped or blinked; `aside`
// stands left of it in the side-by-side view and shows before.

import { emit, kept, on, state } from "./state.js";

const byId = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
export let maps = []; // [main, aside], of the open pair
export const main = () => maps[0];
export const shown = () => (state.view === "side" ? maps : maps.slice(0, 1));

const divider = byId("divider");
let layers = [], split = 0.5, before = false, following = false, later = null;

L.PM.setOptIn(true); // else the drawing plug-in adds its handlers to each of thousands of polygons

function made(id, pair) {
  // Half zooms would leave seams between the tiles.
  const map = L.map(id, { crs: pair.georeferenced ? L.CRS.EPSG3857 : L.CRS.Simple, attributionControl: false,
    zoomControl: false, minZoom: pair.min_zoom, maxZoom: pair.max_zoom + 4, wheelPxPerZoomLevel: 80,
    zoomAnimation: false, fadeAnimation: false, inertia: !still, boxZoom: false, doubleClickZoom: false,
    keyboard: id === "map", pmIgnore: false, maxBoundsViscosity: 0.7 });
  const pan = map.panBy.bind(map);
  map.panBy = (by, options) => pan(by, { animate: false, ...options }); // arrow keys: the cross is where it seems to be
  map.createPane("pre").style.zIndex = 210;
  map.createPane("post").style.zIndex = 220;
  map.setMaxBounds(boxOf(pair.bounds).pad(0.6));
  return map;
}

export const showWhole = () => main().fitBounds(boxOf(state.pair.bounds), { animate: false });

function wholeButton() {
  const control = L.control({ position: "bottomright" });
  control.onAdd = () => {
    const box = L.DomUtil.create("div", "leaflet-bar"), button = L.DomUtil.create("button", "whole", box);
    Object.assign(button, { type: "button", title: "The whole scene (0)" });
    button.setAttribute("aria-label", "The whole scene");
    button.innerHTML = '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M3 8V3h5M12 3h5v5M17 12v5h-5M8 17H3v-5"/></svg>';
    L.DomEvent.disableClickPropagation(box);
    L.DomEvent.on(button, "click", () => { showWhole(); byId("map").focus({ preventScroll: true }); });
    return box;
  };
  return control;
}

export const boxOf = ([west, south, east, north]) => L.latLngBounds([[south, west], [north, east]]);
export const ofBox = (box) => [box.getWest(), box.getSouth(), box.getEast(), box.getNorth()];

function tiles(pair, when) {
  const layer = L.tileLayer("", { pane: when, bounds: boxOf(pair.bounds), noWrap: true, minZoom: pair.min_zoom,
    maxNativeZoom: pair.max_zoom, maxZoom: pair.max_zoom + 4, minNativeZoom: pair.min_zoom, keepBuffer: 1 });
  layer.when = when;
  return layer;
}

function address(when) {
  const [low, high] = stretch();
  const query = low === 0 && high === 255 ? "" : `?low=${low}&high=${high}`;
  return `/tiles/${encodeURIComponent(state.pair.id)}/${when}/{z}/{x}/{y}.webp${query}`;
}

export function open(pair) {
  for (const map of maps) map.remove();
  maps = [made("map", pair), made("aside", pair)];
  wholeButton().addTo(maps[0]);
  L.control.zoom({ position: "bottomright" }).addTo(maps[0]);
  if (pair.georeferenced) L.control.scale({ imperial: false, position: "bottomright" }).addTo(maps[0]);
  byId("aside").tabIndex = -1;
  layers = [tiles(pair, "pre"), tiles(pair, "post"), tiles(pair, "pre")];
  for (const layer of layers) layer.setUrl(address(layer.when), true);
  maps[0].addLayer(layers[1]);
  maps.forEach((map, i) => {
    map.on("move", () => follow(map, maps[1 - i], false));
    map.on("moveend", () => follow(map, maps[1 - i], true));
  });
  maps[0].on("move zoom resize", clip);
  maps[0].on("moveend", () => {
    const { lat, lng } = maps[0].getCenter();
    kept.set(`jaxcd.place/${state.session.store ?? ""}/${pair.id}`, JSON.stringify([lat, lng, maps[0].getZoom()]));
    clearTimeout(later);
    later = setTimeout(() => { if (state.pair === pair) emit("looked", ofBox(maps[0].getBounds().pad(0.25))); }, 150);
  });
  arrange();
  const place = JSON.parse(kept.get(`jaxcd.place/${state.session.store ?? ""}/${pair.id}`) ?? "null");
  if (place) maps[0].setView([place[0], place[1]], place[2], { animate: false });
  else maps[0].fitBounds(boxOf(pair.bounds), { animate: false });
}

// While it is dragged only the other map's frame is moved: a full `setView` draws all outlines at each step.
function follow(from, to, end) {
  if (following || state.view !== "side") return;
  following = true;
  if (end || from.getZoom() !== to.getZoom()) to.setView(from.getCenter(), from.getZoom(), { animate: false });
  else {
    to._rawPanBy(to.latLngToContainerPoint(from.getCenter()).subtract(to.getSize().divideBy(2)).round());
    to.fire("move");
  }
  following = false;
}

// The maps' frames and images for the view that is wanted.
export function arrange() {
  const { view } = state;
  byId("stage").dataset.view = view;
  divider.hidden = view !== "swipe";
  for (const button of document.querySelectorAll("#views button")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === view));
  }
  if (!maps.length) return;
  const centre = maps[0]._loaded ? maps[0].getCenter() : null;
  if (view === "side") maps[0].removeLayer(layers[0]); else maps[0].addLayer(layers[0]);
  if (view === "side") maps[1].addLayer(layers[2]); else maps[1].removeLayer(layers[2]);
  for (const map of maps) map.invalidateSize({ pan: false });
  if (centre) {
    maps[0].setView(centre, maps[0].getZoom(), { animate: false });
    if (view === "side") maps[1].setView(centre, maps[0].getZoom(), { animate: false });
  }
  clip();
  emit("arranged");
}

export function setView(view) {
  state.view = view;
  kept.set("jaxcd.view", view);
  arrange();
}

// Blinks: the image before and the one after in turn.
export function flip() {
  if (state.view !== "one") { before = true; setView("one"); } else { before = !before; clip(); }
  emit("say", before ? "before" : "after");
}

function clip() {
  const { view } = state, map = maps[0];
  if (!map?._loaded) return;
  const size = map.getSize(), [pre, post] = ["pre", "post"].map((name) => map.getPane(name));
  pre.style.clip = post.style.clip = "";
  post.style.display = view === "one" && before ? "none" : "";
  pre.style.display = view === "one" && !before ? "none" : "";
  byId("chip-pre").hidden = view === "one" && !before;
  byId("chip-post").hidden = view === "one" && before;
  if (view !== "swipe") return;
  const from = map.containerPointToLayerPoint([0, 0]), to = map.containerPointToLayerPoint(size);
  const x = from.x + size.x * split;
  pre.style.clip = `rect(${from.y}px, ${x}px, ${to.y}px, ${from.x}px)`;
  post.style.clip = `rect(${from.y}px, ${to.x}px, ${to.y}px, ${x}px)`;
  divider.style.left = `${100 * split}%`;
  const share = Math.round(100 * split);
  divider.setAttribute("aria-valuenow", String(share));
  divider.setAttribute("aria-valuetext", `${share} % before, ${100 - share} % after`);
}

function swipe(share) { split = Math.min(1, Math.max(0, share)); clip(); }
divider.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  divider.focus({ preventScroll: true });
  divider.setPointerCapture(event.pointerId);
});
divider.addEventListener("pointermove", (event) => {
  if (!divider.hasPointerCapture(event.pointerId)) return;
  const frame = byId("map").getBoundingClientRect();
  swipe((event.clientX - frame.left) / frame.width);
});
divider.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -0.05, ArrowDown: -0.05, ArrowRight: 0.05, ArrowUp: 0.05, Home: -1, End: 1 };
  if (event.key in steps) { swipe(split + steps[event.key]); event.preventDefault(); }
});
new ResizeObserver(() => {
  for (const map of maps) map.invalidateSize({ pan: false });
  clip();
}).observe(byId("stage"));

// Where an object is looked at: near enough to judge it, with ground around it.
export function zoomTo(box) {
  const bounds = boxOf(box), map = main();
  const zoom = Math.min(map.getBoundsZoom(bounds.pad(1.2)), state.pair.max_zoom + 1);
  map.setView(bounds.getCenter(), Math.max(zoom, state.pair.min_zoom), { animate: false });
}

// The contrast stretch.
const low = byId("low"), high = byId("high");
const stretch = () => [Number(low.value), Number(high.value)];
let waiting = null;
function stretched(moved) {
  if (Number(high.value) - Number(low.value) < 5) {
    if (moved === low) high.value = Number(low.value) + 5; else low.value = Number(high.value) - 5;
  }
  for (const input of [low, high]) input.nextElementSibling.value = input.value;
  clearTimeout(waiting);
  waiting = setTimeout(() => { for (const layer of layers) layer.setUrl(address(layer.when)); }, 200);
}
for (const input of [low, high]) input.addEventListener("input", () => stretched(input));
byId("look-back").addEventListener("click", () => { low.value = 0; high.value = 255; stretched(low); });
for (const button of document.querySelectorAll("#views button")) {
  button.addEventListener("click", () => setView(button.dataset.view));
}
on("pair", () => {
  const [pre, post] = state.pair.dates ?? [];
  byId("chip-pre").textContent = pre ? `before · ${pre}` : "before";
  byId("chip-post").textContent = post ? `after · ${post}` : "after";
});

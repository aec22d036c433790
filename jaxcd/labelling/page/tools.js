// What the pointer does on the maps: select, box and lasso, polygons, the brush, and editing of shapes.

import { outline } from "./brush.js";
import { hide, hover } from "./layers.js";
import { at, edit, inside, objects } from "./objects.js";
import { canEdit, emit, keepsShape, on, select, setTool, state, uuid } from "./state.js";
import { main, maps, shown } from "./view.js";

const byId = (id) => document.getElementById(id);
const STROKES = new Set(["box", "lasso", "brush"]);
const HINTS = {
  box: "Drag a box around buildings. Shift adds to what is selected.",
  lasso: "Draw around buildings. Shift adds to what is selected.",
  polygon: "Click its corners, the first one again to close it. By keyboard: arrows move the map, Enter sets a corner, "
    + "Shift+Enter closes.",
  brush: "Paint one damaged place in a stroke. [ and ] change the brush's size.",
  shape: "Drag corners; right click takes one away. Enter keeps the shape, Esc leaves it as it was.",
};
let stroke = null, editing = null, corners = [];
let ended = false; // a stroke, just now: the click that follows is its end
let gone = new AbortController(); // of the listeners on the frames of the pair that is open

export function create(geometry) {
  const id = `d-${uuid()}`;
  edit([id], { geometry, ...(state.armed ? { level: state.armed } : {}) });
  select([id]);
  emit("say", `polygon drawn${state.armed ? `: ${state.armed}` : ""}`);
}

export function open() {
  gone.abort(); // a map that is removed leaves its frame with listeners and canvas
  gone = new AbortController();
  const capture = { capture: true, signal: gone.signal };
  stroke = null;
  maps.forEach((map) => {
    const frame = map.getContainer();
    map.pm.setGlobalOptions({ allowSelfIntersection: true, finishOn: null, snappable: false, continueDrawing: true,
      tooltips: false });
    map.on("pm:create", ({ layer }) => {
      const { geometry } = layer.toGeoJSON(9);
      layer.remove();
      create(geometry);
    });
    map.on("mousemove", ({ latlng, originalEvent }) => point(latlng, originalEvent));
    // Where the map moves under a pointer that rests, what was under it is no longer there.
    map.on("mouseout movestart", () => { hover(null); emit("hovered", null); });
    map.on("click", ({ latlng, originalEvent }) => {
      if (state.tool === "select" && !ended) pick(latlng, originalEvent);
    });
    map.on("move zoom resize", () => { stroke = null; draw(); });
    for (const old of frame.querySelectorAll(".ink")) old.remove();
    const ink = L.DomUtil.create("canvas", "ink", frame);
    ink.setAttribute("aria-hidden", "true");
    frame.addEventListener("pointerdown", (event) => begin(map, event), capture);
    frame.addEventListener("pointermove", (event) => go(map, event), capture);
    frame.addEventListener("pointerup", (event) => end(map, event), capture);
    frame.addEventListener("pointercancel", () => { stroke = null; draw(); }, capture);
  });
  tooled();
}

// What is under the pointer or, where there is nothing, a few pixels beside it: a finger is wide.
function nearest(latlng, event) {
  const here = main().latLngToContainerPoint(latlng);
  for (const away of [0, 3, ...(event.pointerType === "touch" ? [8, 14] : [])]) {
    for (let turn = 0; turn < (away ? 8 : 1); turn += 1) {
      const aside = L.point(Math.cos((turn * Math.PI) / 4), Math.sin((turn * Math.PI) / 4)).multiplyBy(away);
      const { lng, lat } = main().containerPointToLatLng(here.add(aside));
      const one = at([lng, lat]);
      if (one) return one;
    }
  }
  return null;
}

function pick(latlng, event) {
  const one = nearest(latlng, event);
  const add = event.shiftKey || event.ctrlKey || event.metaKey;
  if (!one) { if (!add) { select([]); emit("missed", latlng); } return; }
  if (!add || !state.selected.delete(one.id)) select([one.id], { add });
  else emit("selected");
}

let queued = false;
function point(latlng, event) {
  if (queued || stroke) return;
  queued = true;
  requestAnimationFrame(() => {
    queued = false;
    const one = state.tool === "select" ? at([latlng.lng, latlng.lat]) : null;
    hover(one?.id ?? null);
    emit("hovered", one && { id: one.id, x: event.clientX, y: event.clientY });
  });
}

// A stroke of the pointer, in pixels of its map's frame.
function begin(map, event) {
  if (stroke) { stroke = null; draw(); return; } // a second finger: it pinches
  const tool = state.tool === "select" && event.shiftKey ? "box" : state.tool;
  if (!STROKES.has(tool) || event.button || event.target.closest(".leaflet-control")) return;
  event.stopPropagation();
  if (event.pointerType !== "touch") event.preventDefault();
  if (tool !== state.tool) map.dragging.disable();
  byId("map").focus({ preventScroll: true });
  map.getContainer().setPointerCapture(event.pointerId);
  stroke = { map, tool, points: [spot(map, event)], add: event.shiftKey };
  draw();
}

function spot(map, event) {
  const { x, y } = map.mouseEventToContainerPoint(event);
  return [x, y];
}

function go(map, event) {
  if (stroke?.map !== map) return;
  stroke.points.push(spot(map, event));
  draw();
}

function end(map, event) {
  if (stroke?.map !== map) return;
  const done = stroke;
  stroke = null;
  ended = true;
  setTimeout(() => { ended = false; });
  done.points.push(spot(map, event));
  if (state.tool === "select") map.dragging.enable();
  if (done.tool === "brush") brushed(done); else enclosed(done);
  draw();
}

function enclosed({ map, tool, points, add }) {
  const [[x0, y0], [x1, y1]] = [points[0], points[points.length - 1]];
  const small = Math.hypot(x1 - x0, y1 - y0) < 4;
  if (tool === "box" ? small : points.length < 4) {
    const latlng = map.containerPointToLatLng(points[0]);
    pick(latlng, { shiftKey: add });
    return;
  }
  const ring = tool === "box" ? [[x0, y0], [x1, y0], [x1, y1], [x0, y1]] : points;
  const found = [...objects.values()].filter(({ centre }) => {
    const { x, y } = map.latLngToContainerPoint([centre[1], centre[0]]);
    return inside(ring, x, y);
  });
  select(found.map((one) => one.id), { add });
  emit("say", `${found.length} selected`);
}

function brushed({ map, points }) {
  const size = map.getSize(), canvas = new OffscreenCanvas(size.x, size.y);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  line(context, points, Number(byId("brush-size").value), "#fff");
  const { data } = context.getImageData(0, 0, size.x, size.y);
  const mask = new Uint8Array(size.x * size.y);
  for (let i = 0; i < mask.length; i += 1) mask[i] = data[4 * i + 3] > 127 ? 1 : 0;
  const rings = outline(mask, size.x, size.y);
  if (!rings) return;
  const coordinates = rings.map((ring) => [...ring, ring[0]].map((at_) => {
    const { lng, lat } = map.containerPointToLatLng(at_);
    return [lng, lat];
  }));
  create({ type: "Polygon", coordinates });
}

function line(context, points, width, colour) {
  Object.assign(context, { lineWidth: width, lineCap: "round", lineJoin: "round", strokeStyle: colour });
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.lineTo(...points[points.length - 1]);
  context.stroke();
}

// What is being drawn, above the maps.
function draw() {
  for (const map of maps) {
    const ink = map.getContainer().querySelector(".ink"), size = map.getSize();
    if (!ink) continue;
    Object.assign(ink, { width: size.x, height: size.y });
    const context = ink.getContext("2d");
    if (corners.length) {
      const points = corners.map((latlng) => map.latLngToContainerPoint(latlng)).map(({ x, y }) => [x, y]);
      line(context, [...points, [size.x / 2, size.y / 2]], 2, "#fff");
      for (const [x, y] of points) context.strokeRect(x - 3, y - 3, 6, 6);
    }
    if (stroke?.map !== map) continue;
    const { tool, points } = stroke, [x0, y0] = points[0], [x1, y1] = points[points.length - 1];
    if (tool === "brush") { line(context, points, Number(byId("brush-size").value), "#ffc857b0"); continue; }
    const ring = tool === "box" ? [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]] : [...points, points[0]];
    line(context, ring, 4, "#000a");
    context.setLineDash([6, 4]);
    line(context, ring, 2, "#fff");
  }
}

// By keyboard: the cross in the middle of the map is the pointer.
export function enter(close) {
  if (state.tool === "shape") { keepShape(); return; }
  const centre = main().getCenter();
  if (state.tool === "select") { pick(centre, {}); return; }
  if (state.tool !== "polygon") return;
  if (!close) corners.push(centre);
  else if (corners.length > 2) {
    const ring = [...corners, corners[0]].map(({ lng, lat }) => [lng, lat]);
    corners = [];
    create({ type: "Polygon", coordinates: [ring] });
  }
  emit("say", close ? "" : `corner ${corners.length}`);
  draw();
}

export function escape() {
  if (stroke || corners.length) { stroke = null; corners = []; draw(); return; }
  if (state.tool !== "select") { setTool("select"); return; }
  select([]);
}

function tooled(before) {
  const { tool } = state;
  if (before === "shape") leaveShape();
  corners = [];
  stroke = null;
  for (const button of document.querySelectorAll("#tools [data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
  byId("stage").dataset.tool = tool;
  hint();
  for (const map of maps) {
    map.pm.disableDraw();
    if (STROKES.has(tool)) map.dragging.disable(); else map.dragging.enable();
  }
  if (tool === "polygon") {
    for (const map of shown()) map.pm.enableDraw("Polygon", { pathOptions: { color: "#ffc857" },
      templineStyle: { color: "#ffc857" }, hintlineStyle: { color: "#ffc857", dashArray: [5, 5] } });
  }
  if (tool === "shape") beginShape();
  draw();
}

function hint() {
  const { tool, armed } = state, drawn = ["polygon", "brush"].includes(tool);
  byId("hint").hidden = !HINTS[tool];
  byId("hint").textContent = (HINTS[tool] ?? "") + (drawn && armed ? ` What you draw is ${armed}.` : "");
}

function beginShape() {
  const one = state.selected.size === 1 ? objects.get([...state.selected][0]) : null;
  if (!one || keepsShape(one)) {
    emit("toast", { text: one ? `A ${one.origin} keeps its shape: draw a polygon instead.`
      : "Select one polygon that was drawn or imported, then edit its shape." });
    setTool("select");
    return;
  }
  const depth = one.geometry.type === "Polygon" ? 1 : 2;
  const layer = L.polygon(L.GeoJSON.coordsToLatLngs(one.geometry.coordinates, depth), { color: "#ffc857", weight: 2,
    fillOpacity: 0.1, pmIgnore: false }).addTo(main());
  layer.pm.enable({ allowSelfIntersection: true, snappable: false });
  hide(one.id, true);
  editing = { id: one.id, layer, base: one.version };
}

function keepShape() {
  if (!editing) return;
  const { id, layer, base } = editing;
  const { geometry } = layer.toGeoJSON(9);
  setTool("select");
  if (objects.has(id)) edit([id], { geometry }, new Map([[id, base]]));
  emit("say", "shape kept");
}

function leaveShape() {
  if (!editing) return;
  editing.layer.pm.disable();
  editing.layer.remove();
  hide(editing.id, false);
  editing = null;
}

export function resizeBrush(by) {
  const input = byId("brush-size");
  input.value = Number(input.value) + by;
  input.dispatchEvent(new Event("input"));
}
byId("brush-size").addEventListener("input", ({ target }) => { target.nextElementSibling.value = target.value; });

on("tool", tooled);
on("edited", (edits) => { // a level that its editor gives meanwhile is no conflict
  if (edits.some((one) => one.object === editing?.id && one.base === editing.base)) editing.base += 1;
});
on("armed", hint);
on("arranged", () => { if (state.tool === "polygon") tooled(); else draw(); });
for (const button of document.querySelectorAll("#tools [data-tool]")) {
  button.addEventListener("click", () => {
    if (button.classList.contains("edits") && !canEdit()) return;
    // A second press of the tool that edits shapes keeps what was edited, for those without an Enter key.
    if (button.dataset.tool === "shape" && state.tool === "shape") keepShape(); else setTool(button.dataset.tool);
  });
}

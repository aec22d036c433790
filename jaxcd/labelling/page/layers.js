// Objects on the maps: one canvas each, outlines in the colours of their levels.

import { cells, objects } from "./objects.js";
import { scoreColour, scoreOf } from "./scores.js";
import { choices, colourOf, on, state } from "./state.js";
import { boxOf, maps } from "./view.js";
import { percent } from "./words.js";

const drawn = []; // for each map: id -> layer
let overview = [], area = [], hovered = null, visible = true;
const UNJUDGED = "#ffffff";

// Under the line lies a wider one, light under dark colours: seen on any ground. The level's key or the score stands in
// the middle, for those who don't see the colours.
const Outline = L.Polygon.extend({
  _updatePath() {
    const renderer = this._renderer, context = renderer._ctx, { told } = this.options, size = this._pxBounds.getSize();
    if (!renderer._drawing || !this._parts.length) return;
    const thin = Math.max(size.x, size.y) < 22 && !told.chosen; // from afar a thick line would cover the building
    context.save();
    context.lineJoin = "round";
    context.beginPath();
    for (const part of this._parts) {
      part.forEach((point, i) => (i ? context.lineTo(point.x, point.y) : context.moveTo(point.x, point.y)));
      context.closePath();
    }
    if (told.fill) { context.fillStyle = told.fill; context.fill("evenodd"); }
    context.lineWidth = (thin ? 1 : told.width) + (thin ? 1 : told.border);
    context.strokeStyle = told.casing;
    context.stroke();
    // Small ones are dashed, too: else they would look like another class beside large ones.
    if (told.dashed) context.setLineDash(thin ? [3, 2] : [4, 3]);
    context.lineWidth = thin ? 1.25 : told.width;
    context.strokeStyle = told.colour;
    context.stroke();
    if (told.text && Math.min(size.x, size.y) > 34) write(context, this._pxBounds.getCenter(), told);
    context.restore();
  },
});

// A judged one has a badge with a tick and the level's key, a score is bare.
function write(context, { x, y }, { text, badge }) {
  context.setLineDash([]);
  context.font = `${badge ? 700 : 600} 12px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  if (badge) {
    const width = context.measureText(text).width + 10;
    context.fillStyle = "#15181ce6";
    context.beginPath();
    context.roundRect(x - width / 2, y - 10, width, 19, 4);
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = badge;
    context.stroke();
  } else {
    context.lineWidth = 3;
    context.strokeStyle = "#000c";
    context.strokeText(text, x, y);
  }
  context.fillStyle = "#fff";
  context.fillText(text, x, y);
}

function isDark(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue < 90;
}

function look(object) {
  // A member of the blind sample is judged anew: what was said of it before does not show.
  const one = state.shows === object.id ? { ...object, level: null } : object, score = scoreOf(one);
  const colour = (one.level && colourOf(one.level)) ?? (score === null ? UNJUDGED : scoreColour(score));
  const chosen = state.selected.has(one.id), near = hovered === one.id;
  return {
    colour,
    casing: chosen ? "#00c8ff" : isDark(colour) ? "#fffc" : "#000a",
    border: chosen ? 7 : 2,
    chosen,
    width: (chosen ? 2 : one.level || score !== null ? 2 : 1.25) + (near ? 1.5 : 0),
    dashed: !one.level && !chosen,
    fill: chosen ? "#ffffff24" : near ? "#ffffff18" : one.level ? `${colour}26` : score === null ? null : `${colour}1f`,
    text: one.level ? `✓ ${choices().find((choice) => choice.name === one.level)?.key.toUpperCase() ?? ""}`
      : score === null || chosen ? null : percent(score),
    badge: one.level ? colour : null,
  };
}

function latlngs(geometry) {
  return L.GeoJSON.coordsToLatLngs(geometry.coordinates, geometry.type === "Polygon" ? 1 : 2);
}

function paint(ids) {
  if (!maps.length) return;
  maps.forEach((map, i) => {
    const layers = drawn[i], group = groups[i];
    for (const id of ids ?? new Set([...layers.keys(), ...objects.keys()])) {
      const one = objects.get(id), layer = layers.get(id);
      if (!one) { if (layer) { group.removeLayer(layer); layers.delete(id); } continue; }
      const told = look(one);
      if (layer && layer.options.geometry === one.geometry) { layer.options.told = told; layer.redraw(); continue; }
      if (layer) group.removeLayer(layer);
      const made = new Outline(latlngs(one.geometry), { interactive: false, geometry: one.geometry, told,
        renderer: canvases[i] });
      layers.set(id, made);
      group.addLayer(made);
    }
  });
  if (!ids) sumUp();
}

// Where objects are too many to draw: squares, the more opaque the more of them are judged.
function sumUp() {
  for (const layer of overview) layer.remove();
  const levels = state.session.scale.levels;
  overview = (cells ?? []).flatMap(([west, south, east, north, count, judged, worst]) => maps.map((map, i) => (
    L.rectangle(boxOf([west, south, east, north]), { interactive: false, renderer: canvases[i], weight: 1,
      color: "#fff8", fillColor: levels[worst]?.colour ?? "#ffffff",
      fillOpacity: 0.06 + (0.5 * judged) / (count || 1) })
  )));
  overview.forEach((layer, i) => layer.addTo(maps[i % 2]));
}

let canvases = [], groups = [];
export function open() {
  canvases = maps.map(() => L.canvas({ padding: 0.2 }));
  groups = maps.map((map) => L.layerGroup().addTo(map));
  drawn.splice(0, 2, new Map(), new Map());
  overview = [];
  area = [];
  show(visible);
}

export function show(wanted) {
  visible = wanted;
  document.getElementById("outlines").checked = wanted;
  for (const map of maps) map.getPane("overlayPane").style.visibility = wanted ? "" : "hidden";
}

export function hover(id) {
  if (id === hovered) return;
  const touched = [hovered, id].filter((one) => one !== null);
  hovered = id;
  paint(touched);
}

// An object whose shape is being edited is not drawn a second time.
export function hide(id, hidden) {
  maps.forEach((map, i) => {
    const layer = drawn[i].get(id);
    if (layer) { if (hidden) groups[i].removeLayer(layer); else groups[i].addLayer(layer); }
  });
}

let chosen = new Set();
on("objects", paint);
on("selected", () => {
  paint(new Set([...chosen, ...state.selected]));
  chosen = new Set(state.selected);
});
on("task", () => {
  for (const layer of area) layer.remove();
  const bounds = state.task?.pair === state.pair?.id ? state.task?.bounds : null;
  area = bounds ? maps.map((map) => L.rectangle(boxOf(bounds), { interactive: false, fill: false, color: "#ffc857",
    weight: 2, dashArray: "8 6" }).addTo(map)) : [];
});
document.getElementById("outlines").addEventListener("change", (event) => show(event.target.checked));

// Coordinates are metres from the map's top left corner, to the right and up, in the projection of the map.
const [width, height] = data.size;
const bounds = L.latLngBounds([[-height, 0], [0, width]]);
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

// One canvas for all outlines: the upper one of two canvases would take all clicks.
const map = L.map("map", { crs: L.CRS.Simple, minZoom: -8, maxZoom: 5, zoomSnap: 0.25, attributionControl: false,
  renderer: L.canvas({ tolerance: 2 }), zoomAnimation: !still, fadeAnimation: !still, inertia: !still });
L.control.scale({ imperial: false }).addTo(map);
const panes = ["before", "after", ...(data.levels ? ["levels"] : []), "likely", "decided"];
panes.forEach((name, i) => { map.createPane(name).style.zIndex = 210 + 10 * i; });
for (const name of panes.slice(2)) map.getPane(name).style.pointerEvents = "none";
map.createPane("marked").style.zIndex = 450;
map.createPane("divider").style.zIndex = 680; // below the pop-ups' 700

const boxOf = ([left, top, right, bottom]) => L.latLngBounds([[-bottom, left], [-top, right]]);
for (const image of data.images) {
  for (const pane of panes.filter((name) => name in image)) {
    L.imageOverlay(image[pane], boxOf(image.box), { pane, className: pane }).addTo(map);
  }
}

// The map shows the scene before on the left of the divider, and the scene after on its right.
let split = 0.5;
const divider = byId("divider"), chips = { before: byId("chip-before"), after: byId("chip-after") };
map.getPane("divider").append(divider);
L.DomEvent.disableClickPropagation(divider);
function clip() {
  const size = map.getSize();
  const from = map.containerPointToLayerPoint([0, 0]), to = map.containerPointToLayerPoint(size);
  const at = from.x + size.x * split;
  map.getPane("before").style.clip = `rect(${from.y}px, ${at}px, ${to.y}px, ${from.x}px)`;
  map.getPane("after").style.clip = `rect(${from.y}px, ${to.x}px, ${to.y}px, ${at}px)`;
  Object.assign(divider.style, { left: `${at - divider.offsetWidth / 2}px`, top: `${from.y}px`, height: `${size.y}px` });
  const x = size.x * split;
  chips.before.style.visibility = x > chips.before.offsetWidth + 64 ? "" : "hidden"; // 64 pixels for the zoom buttons
  chips.after.style.visibility = size.x - x > chips.after.offsetWidth + 20 ? "" : "hidden";
  const before = Math.round(100 * split);
  divider.setAttribute("aria-valuenow", String(before));
  divider.setAttribute("aria-valuetext", `${before} % before, ${100 - before} % after`);
}
function swipe(share) { split = Math.min(1, Math.max(0, share)); clip(); }
map.on("move zoom resize", clip);
divider.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  divider.focus({ preventScroll: true });
  divider.setPointerCapture(event.pointerId);
});
divider.addEventListener("pointermove", (event) => {
  if (!divider.hasPointerCapture(event.pointerId)) return;
  const frame = map.getContainer().getBoundingClientRect();
  swipe((event.clientX - frame.left) / frame.width);
});
divider.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -0.05, ArrowDown: -0.05, ArrowRight: 0.05, ArrowUp: 0.05, PageDown: -0.2, PageUp: 0.2,
    Home: -1, End: 1 };
  if (event.key in steps) { swipe(split + steps[event.key]); event.preventDefault(); }
});

// Set textContent, never HTML: names and attributes come from files, which may hold markup.
function add(parent, kind, text, name = "") {
  const made = L.DomUtil.create(kind, name, parent);
  made.textContent = text;
  return made;
}
function table(rows, name = "numbers") {
  const found = L.DomUtil.create("table", name);
  for (const row of rows) {
    const line = found.insertRow();
    for (const value of row) line.insertCell().textContent = value;
  }
  return found;
}
const percent = (share) => share === null ? "–" : `${(100 * share).toFixed(1)} %`;
const square = (area) => `${Math.round(area).toLocaleString("en")} m²`;
const count = (number) => number.toLocaleString("en");

// All outlines share one pop-up: a pop-up for each would take seconds on a map of many outlines.
const popup = L.popup({ maxWidth: 290, autoPanPadding: [10, 10] });
const rowsOf = {
  polygon: (one) => [["damage", `no. ${one.id}`], ["area", square(one.area)], ["mean probability", percent(one.mean)],
    ["largest probability", percent(one.max)], ["latitude, longitude", one.at]],
  building: (one) => [["building", classAt(one)], ...(one.called === null ? [] : [[one.called_by, one.called]]),
    ...(data.levels ? levelRows(one) : []),
    ["damaged share", shareAt(one)], ["mean probability", percent(one.mean)], ["share with data", percent(one.seen)],
    ["area", square(one.area)], ["latitude, longitude", one.at]],
};
function levelRows(one) {
  const probabilities = Object.keys(data.levels.colours).map((name) => [`probability of ${name}`, percent(one[name])]);
  return [...probabilities, ["mean level", one.expected === null ? "–" : `${one.expected.toFixed(2)} of ${probabilities.length}`]];
}
function tell(layer, at) {
  popup.setContent(table(rowsOf[layer.options.kind](layer.options.told))).setLatLng(at).openOn(map);
}

function outlines({ columns, rows }, options) {
  return rows.map((row) => {
    const told = Object.fromEntries(columns.map((name, i) => [name, row[i]]));
    return L.polygon(told.outline, { ...options(told), told });
  });
}
const polygons = L.featureGroup(outlines(data.polygons, () => (
  { kind: "polygon", color: data.colours.polygon, weight: 1.5, fillOpacity: 0.1, dashArray: "5 3" }
))).addTo(map);
const houses = outlines(data.buildings, (one) => (
  { kind: "building", now: one.class, color: data.colours.classes[one.class], weight: 2, fillOpacity: 0.1 }
));
// Leaflet draws the last group on top, so the first class comes last.
const classes = Object.fromEntries(Object.keys(data.colours.classes).reverse().map((name) => [name, L.featureGroup()]));
for (const house of houses) classes[house.options.told.class].addLayer(house);
const buildings = L.featureGroup(Object.values(classes)).addTo(map);
let answered = null; // a click on an outline is also one on the map
for (const group of [polygons, buildings]) {
  group.on("click", (event) => { answered = event.originalEvent; tell(event.layer, event.latlng); });
}
map.on("click", (event) => { if (event.originalEvent !== answered) tellPatch(event.latlng); });

// A layer that is switched on again would lie on top: restore the order.
function stack() {
  polygons.bringToBack();
  for (const group of Object.values(classes)) group.bringToFront();
}
function toggle(box, change) { box.addEventListener("change", () => { change(box.checked); stack(); }); }
function within(parent, layer) { return (on) => { if (on) parent.addLayer(layer); else parent.removeLayer(layer); }; }
function showPolygons() {
  within(map, polygons)(byId("show-polygons").checked && stop === at.own);
  map.getPane("decided").style.display = byId("show-polygons").checked ? "" : "none";
}
toggle(byId("show-polygons"), showPolygons);
toggle(byId("show-buildings"), within(map, buildings));
toggle(byId("show-buildings"), (on) => { byId("classes").disabled = !on; });
function painted(pane, box, slider) {
  const show = () => { map.getPane(pane).style.display = byId(box).checked ? "" : "none"; };
  const fade = () => { map.getPane(pane).style.opacity = byId(slider).value / 100; };
  toggle(byId(box), show);
  byId(slider).addEventListener("input", fade);
  show();
  fade();
}
if (data.levels) {
  byId("show-probability").checked = false; // two coloured overlays on top of each other cannot be read
  painted("levels", "show-levels", "levels-opacity");
}
painted("likely", "show-probability", "opacity");

// Fly to an entry of a list: mark its box, and call `then` on arrival, unless the user moves the map meanwhile.
const mark = L.rectangle(bounds, { pane: "marked", renderer: L.svg({ pane: "marked" }), interactive: false, fill: false,
  color: "#fff", weight: 2 });
let arrived = null;
map.on("moveend", () => { const then = arrived; arrived = null; if (then) then(); });
for (const gesture of ["wheel", "mousedown", "touchstart", "keydown"]) {
  map.getContainer().addEventListener(gesture, () => { arrived = null; }, { passive: true });
}
function fly(button, box, view, padding, then) {
  for (const other of document.querySelectorAll(".list [aria-current]")) other.removeAttribute("aria-current");
  button.setAttribute("aria-current", "true");
  map.closePopup();
  mark.setBounds(box).addTo(map);
  const end = () => {
    const [left, right] = [box.getNorthWest(), box.getSouthEast()].map((at) => map.latLngToContainerPoint(at).x);
    const size = map.getSize().x;
    if (left - 16 < split * size && split * size < right + 16) swipe((left - 18) / size);
    if (then) then();
  };
  if (still) { map.fitBounds(view, { ...padding, animate: false }); end(); return; }
  map.flyToBounds(view, { ...padding, duration: 0.8 });
  arrived = end;
}
function around(box, least) {
  const middle = box.getCenter(), half = Math.max(least, 1.5 * (box.getEast() - box.getWest()),
    1.5 * (box.getNorth() - box.getSouth())) / 2;
  return L.latLngBounds([[middle.lat - half, middle.lng - half], [middle.lat + half, middle.lng + half]]);
}
function item(list, what, value) {
  const button = L.DomUtil.create("button", "", L.DomUtil.create("li", "", byId(list)));
  button.type = "button";
  add(button, "span", what, "what");
  add(button, "span", value, "value");
  return button;
}
function listPlaces() {
  byId("worst").replaceChildren();
  const inFull = new Set(data.worst.filter((place) => place.full).map((place) => String(place.box)));
  for (const place of at.worst[stop].map((i) => at.places[i])) {
    const coarse = !at.coarse || inFull.has(String(place.box)) ? "" : ", shown coarsely";
    const area = place.damaged[stop], share = place.seen ? area / place.seen : 0;
    const button = item("worst", square(area), `${percent(share)} of the ground${coarse}`);
    const box = boxOf(place.box);
    button.addEventListener("click", () => fly(button, box, box, { padding: [32, 32] }));
  }
}
const LISTED = 200;
const worst = data.levels ? data.levels.damaged : ["damaged", "possibly"];
let damaged = [];
function listHouses() {
  byId("houses").replaceChildren();
  damaged = houses.filter((house) => worst.includes(house.options.now));
  if (stop !== at.own && !data.levels) {
    const shares = new Map(damaged.map((house) => [house, fiftieths(house.options.told)]));
    damaged.sort((one, other) => shares.get(other) - shares.get(one));
  }
  for (const house of damaged.slice(0, LISTED)) {
    const { told: { called, area }, now: name } = house.options;
    const button = item("houses", called ?? square(area), data.levels ? name : `${shareAt(house.options.told)} damaged`);
    const colour = L.DomUtil.create("i", "");
    colour.style.borderColor = data.colours.classes[name];
    button.prepend(colour);
    button.title = name;
    button.addEventListener("click", () => {
      for (const box of [byId("show-buildings"), byId(`class-${name}`)]) if (!box.checked) box.click();
      // Leave room above the building for its pop-up.
      const padding = { paddingTopLeft: [20, 190], paddingBottomRight: [20, 20] };
      const box = house.getBounds().pad(0.15), top = [box.getNorth(), box.getCenter().lng];
      fly(button, box, around(box, 60), padding, () => tell(house, top));
    });
  }
  const counts = countsNow(), listed = counted.length ? worst.reduce((sum, name) => sum + counts[name], 0) : 0;
  const first = Math.min(damaged.length, LISTED);
  byId("houses-told").textContent = `${listed > first ? `The worst ${count(first)} of ${count(listed)}` : count(listed)} `
    + `${data.levels ? `at least ${data.levels.from}` : "damaged or possibly damaged"}, the worst first.`;
}
byId("whole").addEventListener("click", () => { mark.remove(); map.fitBounds(bounds, { animate: !still }); });

document.title = `Damage map: ${data.name}`;
byId("name").textContent = data.name;
for (const [when, date] of Object.entries(data.dates)) {
  chips[when].textContent = `${when} · ${date}`;
  add(byId("dates"), "dt", when);
  add(byId("dates"), "dd", date);
}
for (const line of data.blind.scene) add(byId("blind-scene"), "p", line, "small");
for (const line of data.blind.map) add(byId("blind-map"), "p", line, "small");
byId("blind-at").textContent = `At this map's threshold, ${short(data.threshold)}`;
byId("blind-at").hidden = byId("blind-map").hidden = !data.blind.map.length;
for (const note of data.notes) add(byId("notes"), "li", note);
byId("ramp").style.background = `linear-gradient(to right, ${data.colours.ramp.join(", ")})`;
byId("key-polygon").style.borderColor = data.colours.polygon;
const counted = Object.keys(data.colours.classes).filter((name) => name in data.counts);
for (const name of counted) {
  const label = L.DomUtil.create("label", "", byId("classes"));
  const box = L.DomUtil.create("input", "", label);
  Object.assign(box, { type: "checkbox", checked: true, id: `class-${name}` });
  toggle(box, within(buildings, classes[name]));
  L.DomUtil.create("i", "", label).style.borderColor = data.colours.classes[name];
  add(label, "span", name);
  add(label, "span", "", "count");
}
const countsNow = () => data.levels || !at.counts ? data.counts
  : Object.fromEntries(at.classes.map((name, i) => [name, at.counts[stop][i]]));
function countBuildings() {
  const counts = countsNow();
  for (const name of counted) {
    const label = byId(`class-${name}`).parentElement;
    label.className = counts[name] ? "" : "none";
    label.querySelector(".count").textContent = count(counts[name]);
  }
}
if (data.levels) {
  for (const [name, colour] of Object.entries(data.levels.colours)) {
    const line = L.DomUtil.create("li", "", byId("level-key"));
    L.DomUtil.create("i", "", line).style.background = colour;
    add(line, "span", name);
  }
  byId("probability-name").textContent = `probability of at least ${data.levels.from}`;
  byId("polygon-name").textContent = `damage: at least ${data.levels.from}`;
}
// Classes of the map in rows, true classes in columns.
function confusionTable(what, confusion, judged, told) {
  const truth = Object.keys(confusion);
  const rows = judged.map((name) => [name, ...truth.map((true_) => count(confusion[true_][name]))]);
  return table([[what, ...truth.map(told)], ...rows], "confusion");
}
function compare() {
  byId("agreement").replaceChildren();
  if (data.agreement.confusion) compareClasses(at.agreement ? at.agreement[stop] : data.agreement);
  if (data.levels && data.levels.agreement.confusion) compareLevels(data.levels.agreement);
}
function compareClasses({ confusion, ...scores }) {
  const shares = (one) => [one.precision, one.recall, one.f1].map((value) => value === null ? "–" : value.toFixed(3));
  const named = Object.entries(scores).map(([name, one]) => [name, ...shares(one)]);
  byId("agreement").append(table([["called damage", "precision", "recall", "F1"], ...named], "scores"));
  byId("agreement").append(confusionTable("buildings", confusion,
    data.levels ? data.levels.classes : Object.keys(data.colours.classes), (name) => `truly ${name}`));
}
function compareLevels({ confusion, kappa, level_error: error }) {
  add(byId("agreement"), "p", "By level, with true levels in columns:", "small");
  byId("agreement").append(confusionTable("level", confusion, Object.keys(data.colours.classes), (name) => name));
  const told = (value) => value === null ? "–" : value.toFixed(3);
  add(byId("agreement"), "p", `quadratic kappa ${told(kappa)}, mean error ${told(error)} levels`, "small");
}
byId("about").append(table(data.about, "about"));
byId("shown").textContent = data.shown.join(" ");
const wanted = { levels: Boolean(data.levels), notes: data.notes.length, buildings: counted.length, agreement: data.agreement.confusion };
for (const [name, there] of Object.entries(wanted)) byId(`with-${name}`).hidden = !there;

// All that follows the threshold.
function regroup() {
  for (const house of houses) {
    const name = classAt(house.options.told);
    if (name === house.options.now) continue;
    classes[house.options.now].removeLayer(house);
    Object.assign(house.options, { now: name, color: data.colours.classes[name] });
    classes[name].addLayer(house);
  }
  showPolygons();
  stack();
  countBuildings();
  listHouses();
  listPlaces();
  compare();
  byId("with-houses").hidden = !damaged.length;
  byId("with-worst").hidden = !at.worst[stop].length;
}
Object.assign(byId("stop"), { min: 0, max: at.stops.length - 1, step: 1 });
byId("stop").addEventListener("input", () => moveTo(Number(byId("stop").value)));
byId("own").textContent = `back to ${short(data.threshold)}`;
byId("own").addEventListener("click", () => moveTo(at.own));
window.addEventListener("hashchange", () => moveTo(linked(), false));
stop = linked();
retell();
regroup();
const ready = Promise.all(data.images.map(read)).then(repaint);

map.fitBounds(bounds);
clip();

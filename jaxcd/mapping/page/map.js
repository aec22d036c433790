"use strict";
// Coordinates are metres from the map's top left corner: right is east, up is north, in the map's own projection.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const [width, height] = data.size;
const bounds = [[-height, 0], [0, width]];

const map = L.map("map", { crs: L.CRS.Simple, minZoom: -8, maxZoom: 5, zoomSnap: 0.25, preferCanvas: true,
  attributionControl: false });
L.control.scale({ imperial: false }).addTo(map);
["before", "after", "likely"].forEach((name, i) => { map.createPane(name).style.zIndex = 210 + 10 * i; });
map.getPane("likely").style.pointerEvents = "none";

const boxOf = ([left, top, right, bottom]) => [[-bottom, left], [-top, right]];
for (const image of data.images) {
  for (const pane of ["before", "after", "likely"]) {
    L.imageOverlay(image[pane], boxOf(image.box), { pane, className: pane }).addTo(map);
  }
}

// What lies left of the divider shows the ground before, what lies right of it after.
let split = 0.5;
function clip() {
  const size = map.getSize();
  const from = map.containerPointToLayerPoint([0, 0]), to = map.containerPointToLayerPoint(size);
  const at = from.x + size.x * split;
  map.getPane("before").style.clip = `rect(${from.y}px, ${at}px, ${to.y}px, ${from.x}px)`;
  map.getPane("after").style.clip = `rect(${from.y}px, ${to.x}px, ${to.y}px, ${at}px)`;
  const divider = byId("divider");
  divider.style.left = `${size.x * split}px`;
  divider.setAttribute("aria-valuenow", String(Math.round(100 * split)));
}
function swipe(share) { split = Math.min(1, Math.max(0, share)); clip(); }
map.on("move zoom resize", clip);
byId("divider").addEventListener("pointerdown", (event) => {
  event.preventDefault();
  byId("divider").focus();
  byId("divider").setPointerCapture(event.pointerId);
});
byId("divider").addEventListener("pointermove", (event) => {
  if (byId("divider").hasPointerCapture(event.pointerId)) swipe(event.clientX / map.getSize().x);
});
byId("divider").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
  if (step) { swipe(split + step); event.preventDefault(); }
});

// Text goes in as text: names and attributes come from files.
function table(rows) {
  const found = L.DomUtil.create("table", "numbers");
  for (const [name, value] of rows) {
    const row = found.insertRow();
    row.insertCell().textContent = name;
    row.insertCell().textContent = value;
  }
  return found;
}
const percent = (share) => share === null ? "–" : `${(100 * share).toFixed(1)} %`;
const square = (area) => `${Math.round(area).toLocaleString("en")} m²`;

const polygons = L.geoJSON(data.polygons, {
  style: { color: data.colours.polygon, weight: 1.5, fillOpacity: 0.1, dashArray: "5 3" },
  onEachFeature: (one, layer) => layer.bindPopup(() => table([
    ["damage", `no. ${one.properties.id}`],
    ["area", square(one.properties.area)],
    ["mean probability", percent(one.properties.mean)],
    ["largest probability", percent(one.properties.max)],
    ["latitude, longitude", one.properties.at],
  ])),
}).addTo(map);
const buildings = L.geoJSON(data.buildings, {
  style: (one) => ({ color: data.colours.classes[one.properties.class], weight: 2, fillOpacity: 0.05 }),
  onEachFeature: (one, layer) => layer.bindPopup(() => table([
    ["building", one.properties.class],
    ["damaged share", percent(one.properties.share)],
    ["mean probability", percent(one.properties.mean)],
    ["seen", percent(one.properties.seen)],
    ["area", square(one.properties.area)],
    ["latitude, longitude", one.properties.at],
  ])),
}).addTo(map);

function toggle(id, change) { byId(id).addEventListener("change", () => change(byId(id).checked)); }
const shown = (layer) => (on) => { if (on) layer.addTo(map); else layer.remove(); };
toggle("show-polygons", shown(polygons));
toggle("show-buildings", shown(buildings));
toggle("show-probability", (on) => { map.getPane("likely").style.display = on ? "" : "none"; });
function fade() { map.getPane("likely").style.opacity = byId("opacity").value / 100; }
byId("opacity").addEventListener("input", fade);
fade();

byId("name").textContent = data.name;
document.title = `Damage map: ${data.name}`;
byId("numbers").textContent = data.numbers;
byId("notes").textContent = data.notes.join(" ");
byId("with-buildings").hidden = !data.buildings.features.length;
data.worst.forEach((place) => {
  const button = L.DomUtil.create("button", "", L.DomUtil.create("li", "", byId("worst")));
  button.type = "button";
  button.textContent = `${square(place.damaged)} (${percent(place.share)} of the ground)`;
  button.addEventListener("click", () => map.flyToBounds(boxOf(place.box), { duration: 0.8 }));
});

const legend = byId("legend");
const ramp = L.DomUtil.create("div", "ramp", legend);
ramp.style.background = `linear-gradient(to right, ${data.colours.ramp.join(", ")})`;
const ends = L.DomUtil.create("div", "ends", legend);
for (const text of ["0 %", "probability of damage", "100 %"]) L.DomUtil.create("span", "", ends).textContent = text;
function key(colour, text, dash = "solid") {
  const line = L.DomUtil.create("div", "key", legend);
  Object.assign(L.DomUtil.create("i", "", line).style, { borderColor: colour, borderStyle: dash });
  L.DomUtil.create("span", "", line).textContent = text;
}
key(data.colours.polygon, `damage (probability from ${data.threshold.toFixed(2)})`, "dashed");
if (data.buildings.features.length) {
  for (const [name, colour] of Object.entries(data.colours.classes)) key(colour, `building: ${name}`);
}

map.fitBounds(bounds);
clip();

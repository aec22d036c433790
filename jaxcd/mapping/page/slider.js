"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// The threshold: a slider over the stops for which the map's figures are known, and the images that follow it. A pixel
// is damage at stop i if its rank is above i.
const at = data.at, EMPTY = 255;
let stop = at.own;
const layersOf = []; // for each image: its ranks, and the canvases of the probability and of the damage
const flagged = (ranks, i) => ranks[i] !== EMPTY && ranks[i] > stop;
const told = (threshold) => String(Number(threshold.toPrecision(6)));
const short = (threshold) => String(Number(threshold.toPrecision(3)));

function canvasOf(image, pane, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  canvas.getContext("2d", { willReadFrequently: true }); // its pixels are written by hand at every stop
  L.svgOverlay(canvas, boxOf(image.box), { pane, className: pane }).addTo(map); // it takes any element
  return canvas;
}
async function read(image) {
  const picture = new Image();
  picture.src = image.ranks;
  await picture.decode();
  const { naturalWidth: width, naturalHeight: height } = picture;
  const [likely, decided] = ["likely", "decided"].map((pane) => canvasOf(image, pane, width, height));
  const pen = likely.getContext("2d");
  pen.drawImage(picture, 0, 0);
  const bytes = pen.getImageData(0, 0, width, height).data, ranks = new Uint8Array(width * height);
  for (let i = 0; i < ranks.length; i += 1) ranks[i] = bytes[4 * i];
  const area = (image.box[2] - image.box[0]) * (image.box[3] - image.box[1]) / ranks.length;
  layersOf.push({ box: image.box, width, height, ranks, likely, decided, pixel: area, patches: null });
}

const FAINT = 0.3; // opacity of probabilities below the threshold, as a share of that of those above it
function paintLikely({ width, height, ranks, likely }) {
  const colours = new Uint32Array(256), bytes = new Uint8ClampedArray(colours.buffer);
  data.colours.ranks.forEach((colour, rank) => {
    bytes.set(colour, 4 * rank);
    if (rank <= stop) bytes[4 * rank + 3] = FAINT * colour[3];
    else bytes[4 * rank + 3] = Math.max(colour[3], 90); // whatever is called damage can be seen
  });
  const painted = new ImageData(width, height), pixels = new Uint32Array(painted.data.buffer);
  for (let i = 0; i < ranks.length; i += 1) pixels[i] = colours[ranks[i]];
  likely.getContext("2d").putImageData(painted, 0, 0);
}

// Patches of damage of one image: the number of each pixel's patch (0: none), and the pixels and largest rank of each.
function patchesOf({ width, height, ranks }) {
  const labels = new Int32Array(width * height), parents = [0];
  const root = (one) => { while (parents[one] !== one) { parents[one] = parents[parents[one]]; one = parents[one]; } return one; };
  for (let row = 0, i = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1, i += 1) {
      if (!flagged(ranks, i)) continue;
      const left = column ? labels[i - 1] : 0, above = row ? labels[i - width] : 0;
      if (left && above) {
        const [one, other] = [root(left), root(above)];
        labels[i] = Math.min(one, other);
        parents[Math.max(one, other)] = labels[i];
      } else if (left || above) labels[i] = left || above;
      else { labels[i] = parents.length; parents.push(parents.length); }
    }
  }
  const pixels = new Int32Array(parents.length), most = new Uint8Array(parents.length);
  for (let i = 0; i < labels.length; i += 1) {
    if (!labels[i]) continue;
    labels[i] = root(labels[i]);
    pixels[labels[i]] += 1;
    if (ranks[i] > most[labels[i]]) most[labels[i]] = ranks[i];
  }
  return { labels, pixels, most };
}
const [red, green, blue] = [1, 3, 5].map((i) => parseInt(data.colours.polygon.slice(i, i + 2), 16));
function paintDecided(layer) {
  const { width, height, ranks, decided, pixel } = layer;
  const painted = new ImageData(width, height), bytes = painted.data;
  layer.patches = stop === at.own ? null : patchesOf(layer);
  if (layer.patches) {
    const { labels, pixels } = layer.patches, edge = (i) => ranks[i] !== EMPTY && !labels[i];
    for (let row = 0, i = 0; row < height; row += 1) {
      for (let column = 0; column < width; column += 1, i += 1) {
        if (!labels[i] || pixels[labels[i]] * pixel < at.min_area) continue;
        const outer = (column && edge(i - 1)) || (column < width - 1 && edge(i + 1)) || (row && edge(i - width))
          || (row < height - 1 && edge(i + width));
        bytes.set([red, green, blue, outer ? 255 : 26], 4 * i);
      }
    }
  }
  decided.getContext("2d").putImageData(painted, 0, 0);
}
function tellPatch(where) {
  if (stop === at.own || !byId("show-polygons").checked) return;
  const [right, down] = [where.lng, -where.lat];
  for (const { box, width, height, patches, pixel } of [...layersOf].reverse()) {
    const column = Math.floor((right - box[0]) / (box[2] - box[0]) * width);
    const row = Math.floor((down - box[1]) / (box[3] - box[1]) * height);
    if (column < 0 || row < 0 || column >= width || row >= height || !patches) continue;
    const patch = patches.labels[row * width + column];
    if (!patch || patches.pixels[patch] * pixel < at.min_area) continue;
    const most = patches.most[patch];
    popup.setContent(table([["damage", `at ${told(at.stops[stop])}`], ["area in this image", square(patches.pixels[patch] * pixel)],
      ["largest probability", `from ${told(at.stops[most - 1])}`]])).setLatLng(where).openOn(map);
    return;
  }
}

// What is known of a building at the stop: its class, and its damaged share (exactly at the map's own threshold only).
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
function classAt(one) {
  if (data.levels || !["intact", "possibly", "damaged"].includes(one.class)) return one.class;
  const [possibly, sure] = [0, 1].map((i) => DIGITS.indexOf(one.falls[i]) > stop);
  return sure ? "damaged" : possibly ? "possibly" : "intact";
}
function fiftieths(one) {
  let count = 0;
  while (count < 50 && DIGITS.indexOf(one.falls[2 + count]) > stop) count += 1;
  return count;
}
function shareAt(one) {
  if (stop === at.own || one.share === null) return percent(one.share);
  const count = fiftieths(one);
  return count === 50 ? "100 %" : `${2 * count} to ${2 * count + 2} %`;
}

function repaint() { for (const layer of layersOf) { paintLikely(layer); paintDecided(layer); } }
function retell() {
  const own = stop === at.own, threshold = told(at.stops[stop]), damaged = at.damaged[stop];
  const share = at.seen ? (100 * damaged / at.seen).toFixed(2) : "0.00";
  byId("numbers").textContent = `${count(Math.round(damaged * at.pixel))} m² (${share}% of the area with data before and `
    + `after) are called damage${at.at_least}, in ${count(at.polygons[stop])} polygons.`;
  byId("stop").value = stop;
  byId("stop").setAttribute("aria-valuetext", `${threshold}: ${share} % called damage`);
  byId("stop-told").textContent = `${short(at.stops[stop])} · ${share} %`;
  byId("threshold").textContent = own ? `from probability ${data.threshold.toFixed(2)} (${data.threshold_from})`
    : `from probability ${threshold}`;
  byId("stop-note").hidden = own;
  byId("stop-note").textContent = `The files beside this page are made at ${told(data.threshold)}. For files at this one, `
    + `give predict --threshold ${threshold}.${at.coarse ? ` Outlines are drawn in pixels of ${at.coarse}.` : ""}`
    + `${data.levels ? " Levels do not follow the threshold." : ""}`;
  const measured = data.blind.map.length > 0;
  byId("blind-stale").textContent = own || !measured ? "" : `The slider is at ${threshold}: these figures do not follow it.`;
  byId("blind-map").classList.toggle("stale", !own);
  byId("own").disabled = own;
  byId("ramp-mark").style.left = `${100 * at.stops[stop]}%`;
  byId("map").classList.toggle("other-threshold", !own);
}
let waiting = 0;
function moveTo(next, keep = true) {
  if (next === stop) return;
  stop = next;
  map.closePopup();
  if (keep) history.replaceState(null, "", stop === at.own ? "#" : `#threshold=${told(at.stops[stop])}`);
  retell();
  regroup();
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(repaint);
}
function linked() {
  const wanted = Number(new URLSearchParams(location.hash.slice(1)).get("threshold"));
  if (!wanted) return at.own;
  const far = at.stops.map((threshold) => Math.abs(Math.log(threshold / wanted)));
  return far.indexOf(Math.min(...far));
}

// A brush stroke as polygons: it is painted as pixels of the screen, and their borders are followed.

// Rings along the borders of the painted pixels of a mask, the painted side on the right: outer rings turn clockwise on
// the screen, holes the other way.
export function borders(mask, width, height) {
  const painted = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x] > 0;
  const edges = new Map(); // from corner -> corners that edges lead to
  const corner = (x, y) => y * (width + 1) + x;
  const add = (from, to) => { const found = edges.get(from); if (found) found.push(to); else edges.set(from, [to]); };
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!painted(x, y)) continue;
      if (!painted(x, y - 1)) add(corner(x, y), corner(x + 1, y));
      if (!painted(x + 1, y)) add(corner(x + 1, y), corner(x + 1, y + 1));
      if (!painted(x, y + 1)) add(corner(x + 1, y + 1), corner(x, y + 1));
      if (!painted(x - 1, y)) add(corner(x, y + 1), corner(x, y));
    }
  }
  const rings = [];
  for (const first of edges.keys()) {
    while (edges.has(first)) rings.push(follow(edges, first, width + 1));
  }
  return rings;
}

function follow(edges, first, across) {
  const ring = [];
  let at = first, came = 0;
  do {
    ring.push([at % across, Math.floor(at / across)]);
    const ways = edges.get(at);
    // Two pixels that touch at a corner: the turn to the right keeps each in a ring of its own.
    const turn = came === 1 ? across : came === across ? -1 : came === -1 ? -across : 1;
    const next = ways.length > 1 && ways.includes(at + turn) ? at + turn : ways[0];
    ways.splice(ways.indexOf(next), 1);
    if (!ways.length) edges.delete(at);
    came = next - at;
    at = next;
  } while (at !== first);
  return ring;
}

export function areaOf(ring) {
  let sum = 0;
  ring.forEach(([x, y], i) => { const [u, v] = ring[(i + 1) % ring.length]; sum += x * v - u * y; });
  return sum / 2;
}

// The largest painted patch with its holes: [outer, ...holes] in pixels, simplified to about a pixel.
export function outline(mask, width, height) {
  const rings = borders(mask, width, height).filter((ring) => Math.abs(areaOf(ring)) > 9);
  const outer = rings.filter((ring) => areaOf(ring) > 0).sort((a, b) => areaOf(b) - areaOf(a))[0];
  if (!outer) return null;
  return [outer, ...rings.filter((ring) => areaOf(ring) < 0)].map(simple).filter((ring) => ring.length >= 4);
}

// Cut into two halves, because a ring has no ends that stay.
function simple(ring) {
  const points = ring.map(([x, y]) => L.point(x, y)), half = points.length >> 1;
  const halves = [points.slice(0, half + 1), [...points.slice(half), points[0]]];
  const kept = halves.map((part) => L.LineUtil.simplify(part, 1.2));
  const all = [...kept[0], ...kept[1].slice(1)];
  return all.map(({ x, y }) => [x, y]);
}

// What the page's parts share: the session, the open pair, what is selected, and word of their changes.

export const state = {
  session: null, // as /api/session tells it
  pairs: [],
  pair: null, // the open one of them
  progress: null, // of the open pair
  task: null, // an area to judge, as /api/next gives it
  selected: new Set(), // ids of objects
  tool: "select",
  view: "side",
  blind: false, // whether the blind sample is judged: nobody sees scores
  shows: null, // id of its member that is judged now, whose label is not shown
  held: {}, // ids of the sample's members by pair: no order but its own leads to them
  armed: null, // level of what is drawn next
};

const listeners = new Map();

export function on(name, listener) {
  if (!listeners.has(name)) listeners.set(name, []);
  listeners.get(name).push(listener);
}

export function emit(name, detail) {
  for (const listener of listeners.get(name) ?? []) listener(detail);
}

export function select(ids, { add = false } = {}) {
  if (!add) state.selected.clear();
  for (const id of ids) state.selected.add(id);
  emit("selected");
}

export function setTool(tool) {
  if (tool === state.tool) return;
  const before = state.tool;
  state.tool = tool;
  emit("tool", before);
}

// What is judged, scored and drawn here: buildings, or cells where there are no footprints.
export const units = (count) => `${state.session?.unit ?? "building"}${count === 1 ? "" : "s"}`;
// The levels that count as damage, as "major or destroyed"; empty where the scale has no other.
export function damagedWords() {
  const { levels, damaged } = state.session.scale, names = levels.slice(damaged - 1).map((one) => one.name);
  if (names.length === levels.length) return "";
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} or ${names[names.length - 1]}`;
}
export const keepsShape = (one) => ["footprint", "cell"].includes(one?.origin);
// Members of the blind sample are judged in an order of their own.
export const isMember = (id) => state.held[state.pair?.id]?.has(id) ?? false;
export const canEdit = () => Boolean(state.session && !state.session.read_only && state.session.person);

// Levels and states of the scale in one list: what a building can be judged as.
export const choices = () => [...state.session.scale.levels, ...state.session.states];
export const colourOf = (level) => choices().find((one) => one.name === level)?.colour ?? null;

// Where the browser keeps nothing (private windows, a full store), the page goes on without.
export const kept = {
  get(name) { try { return localStorage.getItem(name); } catch { return null; } },
  set(name, value) { try { localStorage.setItem(name, value); return true; } catch { return false; } },
  remove(name) { try { localStorage.removeItem(name); } catch { /* it was never kept */ } },
  names() { try { return Object.keys(localStorage); } catch { return []; } },
};

// crypto.randomUUID is missing where the page comes without TLS from another machine.
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

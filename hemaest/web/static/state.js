// What the page knows: configuration, session, observer, fields, cells; and who wants to hear of it.

import { change, get } from "./api.js";

export const state = {
  config: null, session: null, name: "", observer: "", fields: [], cells: new Map(),
  steps: { undo: 0, redo: 0 }, signed: false, selected: new Set(), current: null, suggested: [],
};
const listeners = {};

export function on(event, listener) { (listeners[event] ??= []).push(listener); }
export function tell(event, value) { for (const listener of listeners[event] ?? []) listener(value); }

export const path = (rest) => `/sessions/${state.session}${rest}`;
export const who = () => `observer=${encodeURIComponent(state.observer)}`;
export const type = (name) => state.config.types.find((t) => t.name === name) ?? { name, key: "", color: "#777777" };

export async function loadCells() {
  if (!state.session || !state.observer) { state.cells = new Map(); tell("cells"); return; }
  const loaded = await get(path(`/cells?${who()}&outlines=false`));
  state.cells = new Map(loaded.cells.map((c) => [c.id, c]));
  state.steps = loaded.steps;
  state.signed = loaded.signed;
  for (const id of [...state.selected]) if (!state.cells.has(id)) state.selected.delete(id);
  if (!state.cells.has(state.current)) state.current = null;
  tell("cells");
}

// the page changes at once; the server hears of it after
export async function label(ids, name) {
  if (state.signed || !ids.length) { tell("refused"); return; }
  const before = new Map(ids.map((id) => [id, state.cells.get(id).label]));
  for (const id of ids) Object.assign(state.cells.get(id), { label: name, reviewed: 1, seen: 1 });
  tell("labeled", { ids, before });
  try {
    state.steps = await change("POST", path("/labels"), { observer: state.observer, cells: ids, type: name });
    tell("steps");
  } catch (error) {
    tell("error", error);
    await loadCells();
  }
}

export async function step(direction) {
  const result = await change("POST", path(`/${direction}`), { observer: state.observer }).catch((e) => tell("error", e));
  if (!result) return;
  const ids = result.cells;
  if (!ids.every((id) => state.cells.has(id))) { await loadCells(); return; }
  const before = new Map(ids.map((id) => [id, state.cells.get(id).label]));
  ids.forEach((id, i) => {
    const cell = state.cells.get(id), given = result.types[i];
    Object.assign(cell, { label: given ?? cell.type, reviewed: Number(given !== null), seen: 1 });
  });
  state.steps = result.steps;
  tell("labeled", { ids, before });
  tell("steps");
}

export function see(ids) {
  const unseen = ids.filter((id) => !state.cells.get(id)?.seen);
  if (!unseen.length || state.signed) return;
  for (const id of unseen) state.cells.get(id).seen = 1;
  change("POST", path("/seen"), { observer: state.observer, cells: unseen }).catch((e) => tell("error", e));
}

export function choose(id) {
  state.current = id;
  if (id !== null) see([id]);
  tell("current", id);
}

export const typeOfKey = (key) => state.config.types.find((t) => t.key && t.key === key.toLowerCase());

// Cells by type: arrows, keys, drag and drop; only what changed is drawn again.

import { choose, label, on, path, state, step, type, typeOfKey } from "./state.js";
import { h, number, t } from "./texts.js";

const byId = (id) => document.getElementById(id);
const bins = new Map();
let anchor = null;

export function start() {
  for (const button of document.querySelectorAll(".undo")) button.onclick = () => step("undo");
  for (const button of document.querySelectorAll(".redo")) button.onclick = () => step("redo");
  byId("sort").onchange = draw;
  byId("tile-size").oninput = (event) => byId("bins").style.setProperty("--tile", `${event.target.value}px`);
  byId("label-as").onchange = (event) => { act(event.target.value); event.target.selectedIndex = 0; };
  const box = byId("bins");
  box.addEventListener("click", click);
  box.addEventListener("keydown", key);
  box.addEventListener("dragstart", drag);
  for (const name of ["dragover", "dragleave", "drop"]) box.addEventListener(name, dropped);
  on("cells", draw);
  on("labeled", ({ ids, before }) => move(ids, before));
  on("steps", steps);
}

export function reveal(id) {
  const tile = tileOf(id);
  if (!tile) return;
  setCurrent(id);
  tile.scrollIntoView({ block: "center" });
  tile.focus();
}

export function select(ids) {
  state.selected = new Set(ids);
  paint();
  if (ids.length) reveal(ids[0]);
}

const tileOf = (id) => byId("bins").querySelector(`[data-cell="${id}"]`);
const tiles = () => [...byId("bins").querySelectorAll(".tile")];
const doubt = (c) => (c.reviewed ? 2 : 0) + (c.confidence ?? 1);
const order = (a, b) => (byId("sort").value === "doubt" ? doubt(a) - doubt(b) : 0) || a.id - b.id;

function draw() {
  const box = byId("bins");
  bins.clear();
  near.disconnect();
  const groups = new Map(state.config.types.map((x) => [x.name, []]));
  for (const cell of state.cells.values()) {
    if (!groups.has(cell.label)) groups.set(cell.label, []);
    groups.get(cell.label).push(cell);
  }
  const first = [state.config.unidentified];
  const names = [...first, ...[...groups.keys()].filter((n) => !first.includes(n))];
  const full = [], empty = [];
  for (const name of names) {
    const cells = groups.get(name).sort(order);
    const kind = type(name);
    const list = h("div", { class: "tiles", role: "listbox", "aria-multiselectable": "true", "aria-label": name },
      ...cells.map(tile));
    const count = h("span", { class: "n" }, String(cells.length));
    const bin = h("div", { class: "bin", "data-type": name, color: kind.color },
      h("header", {}, h("h3", {}, name), count, kind.key && h("kbd", {}, kind.key)), list);
    bins.set(name, { bin, list, count });
    (cells.length ? full : empty).push(bin);
  }
  const nothing = !state.cells.size;
  box.replaceChildren(
    ...(nothing ? [h("p", { class: "empty" }, state.observer ? t("gallery_none") : t("observer_needed"))] : full),
    h("div", { class: "bins-empty" }, ...(nothing ? [] : empty)),
  );
  paint();
  steps();
}

// images are fetched when their tile comes near; the browser's own lazy loading begins far too early
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    target.firstChild.src = `/api${path(`/cells/${target.dataset.cell}/image`)}`;
  }
}, { rootMargin: "300px" });
const blank = h("div", { class: "tile", role: "option", tabindex: -1, draggable: "true", "aria-selected": "false" },
  h("img", { decoding: "async", alt: "" }), h("span", { class: "mark", "aria-hidden": "true" }));

// copies of one tile: thousands are made three times as fast as from nothing
function tile(cell) {
  const made = blank.cloneNode(true);
  made.dataset.cell = cell.id;
  describe(made, cell);
  near.observe(made);
  return made;
}

function describe(tile, cell) {
  tile.title = spoken(cell);
  tile.setAttribute("aria-label", tile.title);
  tile.lastChild.textContent = mark(cell);
}

const share = (c) => number(c.confidence, 2).replace(/^0/, "").replace(/^1.*/, "1");
const mark = (c) => (c.reviewed ? "✓" : c.novel ? "!" : share(c));
const spoken = (c) => `${c.label}, ${c.reviewed ? t("reviewed_by_you") : `${t("confidence")} ${number(c.confidence, 2)}`}`
  + (c.novel ? `, ${t("novel")}` : "");

function paint() {
  for (const tile of tiles()) {
    const id = Number(tile.dataset.cell);
    tile.setAttribute("aria-selected", String(state.selected.has(id)));
    tile.tabIndex = id === state.current ? 0 : -1;
  }
  if (!tileOf(state.current)) { const one = byId("bins").querySelector(".tile"); if (one) one.tabIndex = 0; }
  byId("selection").textContent = state.selected.size ? t("selected", { n: state.selected.size }) : "";
}

function steps() {
  for (const b of document.querySelectorAll(".undo")) b.disabled = !state.steps.undo || state.signed;
  for (const b of document.querySelectorAll(".redo")) b.disabled = !state.steps.redo || state.signed;
}

function setCurrent(id) {
  const old = tileOf(state.current);
  if (old) old.tabIndex = -1;
  const now = tileOf(id);
  if (now) now.tabIndex = 0;
  choose(id);
}

function setSelected(ids) {
  for (const id of state.selected) tileOf(id)?.setAttribute("aria-selected", "false");
  state.selected = new Set(ids);
  for (const id of ids) tileOf(id)?.setAttribute("aria-selected", "true");
  byId("selection").textContent = ids.length ? t("selected", { n: ids.length }) : "";
}

function click(event) {
  const tile = event.target.closest(".tile");
  if (!tile) return;
  const id = Number(tile.dataset.cell);
  if (event.shiftKey && anchor !== null) setSelected(between(anchor, id));
  else if (event.ctrlKey || event.metaKey) {
    const now = new Set(state.selected);
    if (!now.delete(id)) now.add(id);
    setSelected([...now]);
    anchor = id;
  } else { setSelected([]); anchor = id; }
  setCurrent(id);
  tile.focus();
}

function between(a, b) {
  const ids = tiles().map((x) => Number(x.dataset.cell));
  const [i, j] = [ids.indexOf(a), ids.indexOf(b)].sort((x, y) => x - y);
  return ids.slice(Math.max(i, 0), j + 1);
}

function key(event) {
  const tile = event.target.closest(".tile");
  if (!tile) return;
  const id = Number(tile.dataset.cell);
  if (event.ctrlKey || event.metaKey) {
    if (event.key === "a") {
      event.preventDefault();
      setSelected([...tile.parentElement.children].map((x) => Number(x.dataset.cell)));
    }
    return;
  }
  const goal = neighbor(tile, event.key);
  if (goal) {
    event.preventDefault();
    const to = Number(goal.dataset.cell);
    if (event.shiftKey) { anchor ??= id; setSelected(between(anchor, to)); } else { anchor = to; setSelected([]); }
    setCurrent(to);
    goal.focus();
    return;
  }
  if (event.key === " " || event.key === "Enter") {
    event.preventDefault();
    const now = new Set(state.selected);
    if (!now.delete(id)) now.add(id);
    setSelected([...now]);
    return;
  }
  if (event.key === "Escape") setSelected([]);
  const kind = event.key.length === 1 && typeOfKey(event.key);
  if (kind) { event.preventDefault(); act(kind.name); }
}

function neighbor(tile, name) {
  const all = tiles();
  const i = all.indexOf(tile);
  if (name === "ArrowRight") return all[i + 1];
  if (name === "ArrowLeft") return all[i - 1];
  if (name === "Home") return all[0];
  if (name === "End") return all[all.length - 1];
  if (name !== "ArrowDown" && name !== "ArrowUp") return null;
  const here = tile.getBoundingClientRect();
  const way = name === "ArrowDown" ? 1 : -1;
  let best = null, row = null;
  for (let j = i + way; all[j]; j += way) {
    const there = all[j].getBoundingClientRect();
    if (Math.abs(there.top - here.top) < 4) continue;
    if (row === null) row = there.top;
    if (Math.abs(there.top - row) >= 4) break;
    if (!best || Math.abs(there.left - here.left) < Math.abs(best.left - here.left)) best = { left: there.left, tile: all[j] };
  }
  return best?.tile ?? null;
}

// label the selection, or the current cell; then continue with the cell that followed
function act(name) {
  const ids = state.selected.size ? [...state.selected] : state.current === null ? [] : [state.current];
  if (!ids.length || state.signed) { label([], name); return; }
  const all = tiles().map((x) => Number(x.dataset.cell));
  const last = Math.max(...ids.map((id) => all.indexOf(id)));
  const moving = new Set(ids);
  const next = all.slice(last + 1).find((id) => !moving.has(id)) ?? all.slice(0, last).reverse().find((id) => !moving.has(id)) ?? ids[0];
  const inside = byId("bins").contains(document.activeElement);
  label(ids, name);
  setSelected([]);
  anchor = next;
  setCurrent(next);
  if (inside) tileOf(next)?.focus();
}

function move(ids, before) {
  for (const id of ids) {
    const cell = state.cells.get(id);
    const from = bins.get(before.get(id));
    if (!bins.has(cell.label)) { draw(); return; }
    const to = bins.get(cell.label);
    const old = tileOf(id);
    if (!old) { draw(); return; }
    describe(old, cell);
    if (from === to) continue;
    const after = [...to.list.children].find((x) => order(state.cells.get(Number(x.dataset.cell)), cell) > 0);
    to.list.insertBefore(old, after ?? null);
    for (const bin of [from, to]) count(bin);
  }
}

function count({ bin, list, count: shown }) {
  const n = list.children.length;
  shown.textContent = String(n);
  const strip = byId("bins").querySelector(".bins-empty");
  const isEmpty = bin.parentElement === strip;
  if (n && isEmpty) {
    const names = [...bins.keys()];
    const at = names.indexOf(bin.dataset.type);
    const after = [...byId("bins").children].find((b) => b.dataset.type && names.indexOf(b.dataset.type) > at);
    byId("bins").insertBefore(bin, after ?? strip);
  } else if (!n && !isEmpty) strip.append(bin);
}

function drag(event) {
  const tile = event.target.closest?.(".tile");
  if (!tile) return;
  const id = Number(tile.dataset.cell);
  const ids = state.selected.has(id) ? [...state.selected] : [id];
  event.dataTransfer.setData("application/x-hemaest-cells", JSON.stringify(ids));
  event.dataTransfer.effectAllowed = "move";
}

function dropped(event) {
  const bin = event.target.closest?.(".bin");
  if (!bin || !event.dataTransfer.types.includes("application/x-hemaest-cells")) return;
  event.preventDefault();
  bin.classList.toggle("over", event.type === "dragover");
  if (event.type !== "drop") return;
  const ids = JSON.parse(event.dataTransfer.getData("application/x-hemaest-cells")).filter((id) => state.cells.has(id));
  label(ids, bin.dataset.type);
  setSelected([]);
}

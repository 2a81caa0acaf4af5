// The field in full resolution: zoom, pan, outlines, hover; add a missed cell, label or delete one.

import { change, get } from "./api.js";
import { choose, label, loadCells, on, path, state, step, tell, type, typeOfKey, who } from "./state.js";
import { h, number, t } from "./texts.js";

const byId = (id) => document.getElementById(id);
const image = new Image();
const TILE = 512, KEPT_TILES = 160, SMALL = 26;
const tiles = new Map(), outlines = new Map();
const view = { field: null, loaded: null, slide: false, width: 0, height: 0, scale: 1, x: 0, y: 0, adding: false, hover: null };
let canvas, pen, waiting = false;

export function start() {
  canvas = byId("canvas");
  pen = canvas.getContext("2d");
  image.onload = () => { busy(false); fit(); };
  image.onerror = () => busy(false);
  new ResizeObserver(() => { size(); paint(); }).observe(byId("view"));
  byId("field-choice").onchange = (event) => show(Number(event.target.value));
  byId("field-previous").onclick = () => neighbor(-1);
  byId("field-next").onclick = () => neighbor(1);
  byId("zoom-in").onclick = () => zoom(1.3);
  byId("zoom-out").onclick = () => zoom(1 / 1.3);
  byId("zoom-fit").onclick = fit;
  byId("outlines").onchange = paint;
  byId("add-cell").onclick = () => adding(!view.adding);
  pointer();
  byId("view").addEventListener("keydown", key);
  on("fields", fields);
  on("cells", paint);
  on("labeled", paint);
  on("current", paint);
}

const busy = (now) => byId("view").setAttribute("aria-busy", String(now));
const done = () => state.fields.filter((f) => f.state === "done");
const cells = () => [...state.cells.values()].filter((c) => c.field === view.field);

function fields() {
  const ready = done();
  const box = byId("field-choice");
  box.replaceChildren(...ready.map((f) => h("option", { value: f.id, selected: f.id === view.field }, f.name)));
  box.disabled = !ready.length;
  if (!ready.length) {
    view.field = view.loaded = null;
    image.removeAttribute("src");
    byId("field-warnings").textContent = t("smear_none");
    paint();
  } else if (!ready.some((f) => f.id === view.field)) show(ready[0].id);
}

export function show(field) {
  const known = done().find((f) => f.id === field);
  if (!known) return;
  Object.assign(view, { field, slide: known.kind === "slide", width: known.width, height: known.height, hover: null });
  byId("field-choice").value = String(field);
  byId("field-warnings").textContent = known.warnings.map((w) => `${t("warning")}: ${w}`).join("  ");
  load();
}

const keyOf = (field) => `${field} ${state.observer}`;

// image and outlines are much to carry: they come when they are looked at
function load() {
  if (view.field === null || view.loaded === keyOf(view.field) || byId("smear").hidden) return;
  view.loaded = keyOf(view.field);
  tiles.clear();
  outlines.clear();
  busy(true);
  image.src = `/api${path(`/fields/${view.field}/image`)}`;
  if (!state.observer) return;
  get(path(`/cells?${who()}&field=${view.field}`)).then(({ cells }) => {
    for (const { id, outline, nucleus } of cells) outlines.set(id, { outline, nucleus });
    paint();
  }, (error) => tell("error", error));
}

export function refit() {
  load();
  fit();
}

export function showCell(id) {
  const cell = state.cells.get(id);
  if (!cell) return;
  const center = () => {
    view.scale = Math.max(view.scale, 160 / Math.max(cell.x1 - cell.x0, cell.y1 - cell.y0));
    view.x = canvas.clientWidth / 2 - ((cell.x0 + cell.x1) / 2) * view.scale;
    view.y = canvas.clientHeight / 2 - ((cell.y0 + cell.y1) / 2) * view.scale;
    paint();
  };
  choose(id);
  if (view.loaded === keyOf(cell.field) && image.complete) center();
  else { show(cell.field); image.addEventListener("load", center, { once: true }); }
}

function neighbor(way) {
  const ready = done();
  const i = ready.findIndex((f) => f.id === view.field);
  const next = ready[i + way];
  if (next) show(next.id);
}

function size() {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
}

function fit() {
  size();
  if (!image.naturalWidth) return;
  view.scale = whole();
  view.x = (canvas.clientWidth - view.width * view.scale) / 2;
  view.y = (canvas.clientHeight - view.height * view.scale) / 2;
  paint();
}

const whole = () => Math.min(canvas.clientWidth / view.width, canvas.clientHeight / view.height);

function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const scale = Math.min(40, Math.max(whole() / 2, view.scale * factor));
  view.x = x - (x - view.x) * (scale / view.scale);
  view.y = y - (y - view.y) * (scale / view.scale);
  view.scale = scale;
  paint();
}

function paint() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

function draw() {
  if (!canvas.clientWidth) return; // another tab is open
  const ratio = window.devicePixelRatio || 1;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (!image.naturalWidth || view.field === null) return;
  pen.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
  pen.imageSmoothingEnabled = view.scale < 2;
  pen.drawImage(image, 0, 0, view.width, view.height);
  if (view.slide) drawTiles(ratio);
  if (!byId("outlines").checked) return;
  for (const cell of cells()) {
    if (cell.label === state.config.not_counted && cell.id !== state.current) continue;
    if (!visible(cell)) continue;
    const now = cell.id === state.current || cell.id === view.hover;
    if ((cell.x1 - cell.x0) * view.scale < SMALL) { dot(cell, now); if (now) name(cell); continue; }
    const { outline, nucleus } = outlines.get(cell.id) ?? {};
    const edge = outline?.length ? outline : corners(cell);
    trace(edge, "#ffffff", now ? 6 : 4);
    trace(edge, type(cell.label).color, now ? 4 : 2);
    if (nucleus?.length) trace(nucleus, type(cell.label).color, 1);
    name(cell);
  }
}

// the slide in the resolution of the screen, as far as it is seen
function drawTiles(ratio) {
  const level = Math.max(0, Math.floor(Math.log2(1 / (view.scale * ratio))));
  const reach = TILE * 2 ** level;
  if (Math.max(view.width, view.height) / 2 ** level <= Math.max(image.naturalWidth, image.naturalHeight)) return;
  const [left, top] = [Math.max(0, -view.x / view.scale), Math.max(0, -view.y / view.scale)];
  const right = Math.min(view.width, (canvas.clientWidth - view.x) / view.scale);
  const bottom = Math.min(view.height, (canvas.clientHeight - view.y) / view.scale);
  for (let row = Math.floor(top / reach); row * reach < bottom; row += 1) {
    for (let column = Math.floor(left / reach); column * reach < right; column += 1) {
      const [x, y] = [column * reach, row * reach];
      const tile = tileAt(level, column, row);
      if (tile.complete && tile.naturalWidth) {
        pen.drawImage(tile, x, y, Math.min(reach, view.width - x), Math.min(reach, view.height - y));
      }
    }
  }
}

function tileAt(level, column, row) {
  const key = `${level}/${column}/${row}`;
  const tile = tiles.get(key) ?? new Image();
  tiles.delete(key);
  tiles.set(key, tile); // the last used stand at the end
  if (!tile.src) {
    tile.onload = paint;
    tile.src = `/api${path(`/fields/${view.field}/tiles/${key}`)}`;
    if (tiles.size > KEPT_TILES) tiles.delete(tiles.keys().next().value);
  }
  return tile;
}

function visible(cell) {
  const far = 40 / view.scale;
  return cell.x1 * view.scale + view.x > -40 && cell.x0 * view.scale + view.x < canvas.clientWidth + 40
    && (cell.y1 + far) * view.scale + view.y > 0 && (cell.y0 - far) * view.scale + view.y < canvas.clientHeight;
}

// outlines that would be too small to see
function dot(cell, now) {
  pen.beginPath();
  pen.arc((cell.x0 + cell.x1) / 2, (cell.y0 + cell.y1) / 2, (now ? 8 : 5) / view.scale, 0, 2 * Math.PI);
  pen.fillStyle = type(cell.label).color;
  pen.fill();
  pen.strokeStyle = "#ffffff";
  pen.lineWidth = 1.5 / view.scale;
  pen.stroke();
}

const corners = (c) => [[c.x0, c.y0], [c.x1, c.y0], [c.x1, c.y1], [c.x0, c.y1]];

function trace(points, color, width) {
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.closePath();
  pen.strokeStyle = color;
  pen.lineWidth = width / view.scale;
  pen.stroke();
}

function name(cell) {
  const text = cell.label + (cell.reviewed ? " ✓" : "");
  pen.font = `${13 / view.scale}px system-ui, "DejaVu Sans", sans-serif`;
  const wide = pen.measureText(text).width + 8 / view.scale;
  const x = cell.x0, y = Math.max(cell.y0 - 20 / view.scale, 0);
  pen.fillStyle = "rgba(255,255,255,0.88)";
  pen.fillRect(x, y, wide + 8 / view.scale, 18 / view.scale);
  pen.fillStyle = type(cell.label).color;
  pen.fillRect(x, y, 5 / view.scale, 18 / view.scale);
  pen.fillStyle = "#1b1f24";
  pen.fillText(text, x + 9 / view.scale, y + 13.5 / view.scale);
}

const place = (event) => {
  const box = canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  return { x, y, px: (x - view.x) / view.scale, py: (y - view.y) / view.scale };
};

function at(px, py) {
  const more = (c) => Math.max(0, SMALL / view.scale - (c.x1 - c.x0)) / 2;
  const hits = cells().filter((c) => px >= c.x0 - more(c) && px <= c.x1 + more(c) && py >= c.y0 - more(c) && py <= c.y1 + more(c));
  const away = (c) => Math.hypot((c.x0 + c.x1) / 2 - px, (c.y0 + c.y1) / 2 - py);
  return hits.sort((a, b) => away(a) - away(b))[0] ?? null;
}

function pointer() {
  const box = byId("view");
  const touches = new Map();
  let moved = 0;
  box.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = place(event);
    zoom(Math.exp(-event.deltaY / 400), x, y);
  }, { passive: false });
  box.addEventListener("pointerdown", (event) => {
    touches.set(event.pointerId, event);
    moved = 0;
    box.setPointerCapture(event.pointerId);
  });
  box.addEventListener("pointermove", (event) => {
    const last = touches.get(event.pointerId);
    if (!last) { hover(event); return; }
    if (touches.size === 2) {
      const [a, b] = [...touches.values()];
      const other = a.pointerId === event.pointerId ? b : a;
      const span = (e) => Math.hypot(e.clientX - other.clientX, e.clientY - other.clientY);
      const { x, y } = place(other);
      zoom(span(event) / Math.max(span(last), 1), x, y);
    } else {
      view.x += event.clientX - last.clientX;
      view.y += event.clientY - last.clientY;
      moved += Math.abs(event.clientX - last.clientX) + Math.abs(event.clientY - last.clientY);
      paint();
    }
    touches.set(event.pointerId, event);
  });
  const up = (event) => { if (touches.delete(event.pointerId) && event.type === "pointerup" && moved < 5) clicked(event); };
  box.addEventListener("pointerup", up);
  box.addEventListener("pointercancel", up);
  box.addEventListener("pointerleave", () => { byId("tip").hidden = true; });
}

async function clicked(event) {
  const { px, py } = place(event);
  byId("view").focus();
  if (!view.adding) { const cell = at(px, py); choose(cell?.id ?? null); return; }
  if (state.signed || !state.observer) { tell("refused"); return; }
  if (px < 0 || py < 0 || px >= view.width || py >= view.height) return;
  const body = { observer: state.observer, field: view.field, x: px, y: py, type: state.config.unidentified };
  const added = await change("POST", path("/cells"), body).catch((e) => tell("error", e));
  if (!added) return;
  await loadCells();
  choose(added.id);
}

function hover(event) {
  const { x, y, px, py } = place(event);
  const cell = at(px, py);
  const tip = byId("tip");
  if (cell?.id !== view.hover) { view.hover = cell?.id ?? null; paint(); }
  tip.hidden = !cell;
  if (!cell) return;
  tip.textContent = [cell.label, cell.confidence !== null && !cell.reviewed ? `${t("confidence")} ${number(cell.confidence, 2)}` : "",
    cell.nc_ratio !== null ? `${t("nc_ratio")} ${number(cell.nc_ratio, 2)}` : ""].filter(Boolean).join(", ");
  tip.style.left = `${Math.min(x + 12, canvas.clientWidth - 180)}px`;
  tip.style.top = `${y + 14}px`;
}

function adding(active) {
  view.adding = active;
  byId("add-cell").setAttribute("aria-pressed", String(active));
  byId("view").classList.toggle("adding", active);
  if (active) tell("notice", t("add_cell_hint")); else tell("notice", "");
}

function key(event) {
  const ways = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (ways[event.key]) {
    event.preventDefault();
    view.x += ways[event.key][0];
    view.y += ways[event.key][1];
    paint();
  } else if (event.key === "+" || event.key === "=") zoom(1.3);
  else if (event.key === "-") zoom(1 / 1.3);
  else if (event.key === "," || event.key === ".") {
    const all = cells().sort((a, b) => a.id - b.id);
    const i = all.findIndex((c) => c.id === state.current);
    const next = all[(i + (event.key === "." ? 1 : -1) + all.length) % all.length];
    if (next) showCell(next.id);
  } else if (event.key === "Escape") adding(false);
  else if (event.key === "Delete" && state.current !== null) label([state.current], state.config.not_counted);
  else if (event.key.length === 1 && state.current !== null && typeOfKey(event.key)) {
    event.preventDefault();
    label([state.current], typeOfKey(event.key).name);
  }
}

export { step };

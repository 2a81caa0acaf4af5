// The cell beside the gallery and the smear: what the model says, why, and what it looks like.

import { get, picture } from "./api.js";
import { on, path, state, tell } from "./state.js";
import { h, number, t } from "./texts.js";

let types = null;

// the model renders its reference cells once; they are known when the first field is
async function referenceTypes() {
  types ??= get("/references");
  return types;
}

export function start() {
  on("current", draw);
  on("cells", draw);
  on("labeled", draw);
  on("tab", draw);
}

function draw() {
  const cell = state.cells.get(state.current);
  const none = t(state.observer ? "details_none" : "observer_needed");
  for (const panel of document.querySelectorAll("section:not([hidden]) .details")) {
    panel.replaceChildren(...(cell ? content(cell) : [h("p", { class: "empty" }, none)]));
  }
}

function caption(id) {
  const text = h("figcaption", {}, t("rendered"));
  referenceTypes().then((known) => { if (known[id]) text.textContent = `${known[id]}, ${t("rendered")}`; }, () => { types = null; });
  return text;
}

// the heat map is made on a click: it takes the model a second
async function why(cell, box) {
  box.replaceChildren(h("p", { role: "status" }, t("why_working")));
  try {
    const { url, headers } = await picture(path(`/cells/${cell.id}/why`));
    const fall = Number(headers.get("Hemaest-Largest-Fall"));
    const img = h("img", { class: "cell", src: url, alt: t("why_alt") });
    img.onload = () => URL.revokeObjectURL(url);
    box.replaceChildren(img, h("p", { class: "hint", role: "status" },
      t(fall < 0.05 ? "why_flat" : "why_text", { type: cell.type, fall: number(fall, 2) })));
  } catch (error) { box.replaceChildren(h("p", { class: "hint", role: "status" }, error.message)); }
}

// whoever walks through the gallery needs the small image only
function portrait(cell) {
  const img = h("img", { class: "cell", alt: "", src: `/api${path(`/cells/${cell.id}/image`)}` });
  setTimeout(() => { if (img.isConnected) img.src = `/api${path(`/cells/${cell.id}/image?full=true`)}`; }, 250);
  return img;
}

function explanation(cell) {
  const box = h("div", { class: "why" });
  box.append(h("button", { type: "button", onclick: () => why(cell, box) }, t("why")));
  return box;
}

function content(cell) {
  const top = Object.entries(cell.probabilities ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 5);
  const rows = [
    [t("label_as"), cell.label],
    !cell.author && [t("predicted"), cell.type],
    cell.confidence !== null && [t("confidence"), number(cell.confidence, 2)],
    cell.nc_ratio !== null && [t("nc_ratio"), number(cell.nc_ratio, 2)],
  ].filter(Boolean);
  return [
    portrait(cell),
    h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    cell.novel ? h("p", { class: "warn" }, t("novel")) : null,
    cell.author ? h("p", {}, t("added_by_you")) : cell.reviewed ? h("p", {}, t("reviewed_by_you")) : null,
    cell.reference_cells.length ? h("h3", {}, t("nearest")) : null,
    h("div", { class: "references" }, ...cell.reference_cells.map((id) =>
      h("figure", {}, h("img", { src: `/api/references/${id}`, alt: "" }), caption(id)))),
    top.length && cell.type in cell.probabilities ? explanation(cell) : null,
    top.length ? h("div", { class: "bars" }, h("h3", {}, t("probabilities")), ...top.map(([name, p]) =>
      h("div", {}, h("span", {}, name), h("meter", { min: 0, max: 1, value: p, "aria-label": name }),
        h("span", {}, number(p, 2))))) : null,
    h("p", {}, h("button", { type: "button", onclick: () => tell("open-cell", cell.id) }, t("show_field"))),
  ].filter(Boolean);
}

// The differential, the signature, and what can be taken away.

import { change, get, send, settled } from "./api.js";
import { loadCells, on, path, state, tell, type, who } from "./state.js";
import { counted, h, number, t, when } from "./texts.js";

const byId = (id) => document.getElementById(id);

export async function drawDifferential() {
  const box = byId("differential-content");
  if (!state.session || !state.observer) { box.replaceChildren(h("p", { class: "empty" }, t("observer_needed"))); return; }
  await settled();
  const [result, next] = await Promise.all([get(path(`/differential?${who()}`)), get(path(`/suggest?k=12&${who()}`))]);
  if (!result.rows.length && !state.cells.size) {
    box.replaceChildren(h("p", { class: "empty" }, t("differential_none")));
    return;
  }
  box.replaceChildren(
    h("p", {}, counted("total", result.n, { reviewed: result.n_reviewed, unidentified: result.unidentified, not_counted: result.not_counted })),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("tab_differential") }, table(result.rows)),
    h("p", { class: "hint" }, t(result.intervals === "counting" ? "interval_counting" : "interval_both")),
    result.corrected_wbc === null && !result.nrbc_per_100 ? "" : h("p", {},
      t("nrbc", { n: number(result.nrbc_per_100), wbc: number(result.corrected_wbc, 2) || "–" })),
    wbc(result.wbc),
    h("h2", {}, t("flags")),
    result.flags.length ? h("ul", { class: "plain" }, ...result.flags.map(flag)) : h("p", {}, t("flags_none")),
    next.cells.length ? h("p", {}, h("button", { type: "button", class: "main", id: "review-next",
      onclick: () => tell("show-cells", next.cells) }, counted("review_next", next.cells.length))) : "",
  );
}

function table(rows) {
  const heads = ["type", "count", "percent", "interval", "reference", "absolute", "before"];
  return h("table", {}, h("thead", {}, h("tr", {}, ...heads.map((x) => h("th", { scope: "col" }, t(x))))),
    h("tbody", {}, ...rows.map((r) => h("tr", { class: r.outside === "yes" ? "outside" : null },
      h("td", { color: type(r.type).color }, h("span", { class: "swatch" }), r.type,
        r.outside ? h("span", { class: r.outside === "yes" ? "bad" : null }, ` (${t(`outside_${r.outside}`)})`) : null),
      h("td", {}, String(r.n)), h("td", {}, number(r.percent)),
      h("td", {}, r.low === null ? "" : `${number(r.low)} – ${number(r.high)}`),
      h("td", {}, r.reference ? `${r.reference[0]} – ${r.reference[1]}` : ""),
      h("td", {}, number(r.absolute, 2)), h("td", {}, number(r.percent_before))))));
}

function wbc(value) {
  const input = h("input", { type: "number", id: "wbc", min: "0", max: "2000", step: "0.1", value: value ?? "" });
  return h("form", { class: "row", onsubmit: async (event) => {
    event.preventDefault();
    const given = input.value === "" ? null : Number(input.value);
    await change("PATCH", path(""), { observer: state.observer, wbc: given }).catch((e) => tell("error", e));
    drawDifferential();
  } }, h("label", { class: "pair" }, t("wbc"), input), h("button", {}, t("save")));
}

function flag(f) {
  return h("li", { class: "row" }, h("strong", {}, t("flag_line", { flag: f.flag, n: f.cells.length, seen: f.seen })),
    h("button", { type: "button", "aria-label": `${t("show")}: ${f.flag}`, onclick: () => tell("show-cells", f.cells) }, t("show")));
}

export async function drawSign() {
  const box = byId("sign-content");
  if (!state.session || !state.observer) { box.replaceChildren(h("p", { class: "empty" }, t("observer_needed"))); return; }
  await settled();
  const [result, session, log] = await Promise.all(
    [get(path(`/differential?${who()}`)), get(path("")), get(path("/log"))]);
  const signed = session.signatures.map((s) => s.observer);
  box.replaceChildren(
    h("h2", {}, t("sign_title")),
    ...session.signatures.map((s) => h("p", { class: "good" }, t("signed_by", { name: s.observer, when: when(s.time) }))),
    signed.includes(state.observer) ? reopen() : form(result.to_do, result.unidentified),
    h("p", { class: "hint" }, t("second")),
    ...(signed.length > 1 ? await agreement(signed) : []),
    h("h2", {}, t("take_away")),
    h("p", { class: "row" }, ...state.config.exports.map((kind) =>
      h("a", { href: `/api${path(`/export/${kind}?${who()}`)}`, download: "", class: "button", id: `export-${kind}` }, t(`export_${kind}`)))),
    h("label", { class: "pair" }, t("import"), h("input", { type: "file", id: "import", accept: ".json,.geojson",
      onchange: (event) => readBack(event.target.files[0]) })),
    h("h2", {}, t("log")),
    h("div", { class: "log", tabindex: 0, role: "region", "aria-label": t("log") }, h("ol", {}, ...log.slice(-300).reverse().map((e) =>
      h("li", { value: e.id }, `${when(e.time)}, ${e.observer || "–"}: `, h("strong", {}, e.event), ` ${short(e.details)}`)))),
  );
}

const short = (details) => {
  const text = Object.entries(details).filter(([, v]) => (typeof v !== "object" || Array.isArray(v)) && v !== "")
    .map(([k, v]) => `${k}: ${Array.isArray(v) && v.length > 6 ? `${v.slice(0, 6).join(", ")}, … (${v.length})` : v}`).join("; ");
  return text.length > 160 ? `${text.slice(0, 159)}…` : text;
};

function form(problems, unidentified) {
  const accept = h("input", { type: "checkbox", id: "accept" });
  const note = h("input", { id: "note", maxlength: 2000, size: 40 });
  return h("form", { onsubmit: async (event) => {
    event.preventDefault();
    try {
      await change("POST", path("/signature"), { observer: state.observer, note: note.value, accept_unidentified: accept.checked });
      await loadCells();
      tell("notice", t("saved"));
    } catch (error) { tell("error", error); }
    drawSign();
  } },
  problems.length ? h("div", {}, h("p", {}, t("to_do")), h("ul", { id: "to-do" }, ...problems.map((p) => h("li", {}, p)))) : h("p", {}, t("sign_ready")),
  unidentified ? h("p", {}, h("label", { class: "pair" }, accept, t("accept_unidentified"))) : "",
  h("p", { class: "row" }, h("label", { class: "pair" }, t("note"), note),
    h("button", { class: "main", id: "sign-button" }, t("sign", { name: state.observer }))));
}

function reopen() {
  return h("p", {}, h("button", { type: "button", id: "reopen", onclick: async () => {
    const reason = await ask(t("reopen_reason"));
    if (!reason) return;
    await change("POST", path("/reopen"), { observer: state.observer, reason }).catch((e) => tell("error", e));
    await loadCells();
    drawSign();
  } }, t("reopen")));
}

async function agreement(signed) {
  const [first, second] = [signed[0], signed.find((s) => s !== signed[0])];
  const result = await get(path(`/agreement?first=${encodeURIComponent(first)}&second=${encodeURIComponent(second)}`));
  return [
    h("p", { id: "agreement" }, t("agreement", { first, second, percent: number(100 * (result.agreement ?? 0)), n: result.n,
      kappa: result.kappa === null ? "–" : number(result.kappa, 2) })),
    result.differences.length ? h("p", {}, h("button", { type: "button", onclick: () => tell("show-cells", result.differences.map((d) => d.cell)) },
      `${t("differences")}: ${result.differences.length}`)) : "",
  ];
}

async function readBack(file) {
  if (!file) return;
  const body = new FormData();
  body.append("file", file, file.name);
  try {
    const result = await send("POST", `${path("/import")}?${who()}`, body);
    await loadCells();
    tell("notice", t("imported", result));
  } catch (error) { tell("error", error); }
  drawSign();
}

export function ask(text, value = "") {
  const dialog = byId("ask");
  byId("ask-text").textContent = text;
  byId("ask-value").value = value;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () =>
    done(dialog.returnValue === "ok" ? byId("ask-value").value.trim() : null), { once: true }));
}

// Puts the page together: tabs, session, observer, notices, keys that work everywhere.

import { change, get, onOffline } from "./api.js";
import * as details from "./details.js";
import * as gallery from "./gallery.js";
import { ask, drawDifferential, drawSign } from "./results.js";
import * as smear from "./smear.js";
import * as files from "./start.js";
import { loadCells, on, path, state, step, tell } from "./state.js";
import { h, t } from "./texts.js";

const byId = (id) => document.getElementById(id);
const TABS = ["start", "smear", "gallery", "differential", "sign"];
let tab = "start";

function notice(text, lasting = false) {
  byId("notice").replaceChildren(...(text ? [h("p", {}, text)] : []));
  clearTimeout(notice.timer);
  if (text && !lasting) notice.timer = setTimeout(() => notice(""), 8000);
}

function open(name) {
  tab = name;
  for (const one of TABS) {
    byId(one).hidden = one !== name;
    byId(`tab-${one}`).setAttribute("aria-selected", String(one === name));
    byId(`tab-${one}`).tabIndex = one === name ? 0 : -1;
  }
  location.hash = state.session ? `${state.session}/${name}` : "";
  tell("tab", name);
  if (name === "smear") smear.refit();
  if (name === "differential") drawDifferential().catch((e) => tell("error", e));
  if (name === "sign") drawSign().catch((e) => tell("error", e));
}

async function sessions(wanted) {
  let all = await get("/sessions");
  if (!all.length) {
    await change("POST", "/sessions", { name: t("session_default") });
    all = await get("/sessions");
  }
  const chosen = all.find((s) => s.id === wanted) ?? all[0];
  byId("session").replaceChildren(...all.map((s) =>
    h("option", { value: s.id, selected: s.id === chosen.id }, s.signatures ? `${s.name} ✓` : s.name)));
  await use(chosen.id);
}

async function use(id) {
  state.session = id;
  state.selected.clear();
  state.current = null;
  const [known] = await Promise.all([get(path("")), loadCells()]);
  state.fields = known.fields;
  tell("fields");
  tell("session");
  tell("current", null);
  open(tab);
}

function observer() {
  const box = byId("observer");
  box.value = localStorage.getItem("hemaest-observer") ?? "";
  state.observer = box.value.trim();
  box.onchange = async () => {
    state.observer = box.value.trim();
    localStorage.setItem("hemaest-observer", state.observer);
    await loadCells().catch((e) => tell("error", e));
    open(tab);
  };
}

function theme() {
  const root = document.documentElement;
  const kept = localStorage.getItem("hemaest-theme");
  if (kept) root.dataset.theme = kept;
  byId("theme").onclick = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("hemaest-theme", root.dataset.theme);
  };
}

function tabs() {
  for (const name of TABS) byId(`tab-${name}`).onclick = () => open(name);
  document.querySelector("nav").addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!way) return;
    const next = TABS[(TABS.indexOf(tab) + way + TABS.length) % TABS.length];
    open(next);
    byId(`tab-${next}`).focus();
  });
}

function keys() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, textarea, select");
    if ((event.ctrlKey || event.metaKey) && !typing) {
      const name = event.key.toLowerCase();
      if (name === "z") { event.preventDefault(); step(event.shiftKey ? "redo" : "undo"); }
      if (name === "y") { event.preventDefault(); step("redo"); }
    } else if (event.key === "?" && !typing) help();
  });
  byId("help-button").onclick = help;
}

function help() {
  byId("help-keys").replaceChildren(...state.config.types.filter((x) => x.key).map((x) =>
    h("div", {}, h("dt", {}, h("kbd", {}, x.key)), h("dd", {}, x.name))));
  byId("help").showModal();
}

async function begin() {
  on("error", (error) => notice(t("error", { reason: error.message })));
  on("notice", (text) => notice(text));
  on("refused", () => notice(state.signed ? t("signed_by", { name: state.observer, when: "" }) : t("observer_needed")));
  on("sessions", () => sessions());
  on("open-field", (id) => { open("smear"); smear.show(id); });
  on("open-cell", (id) => { open("smear"); smear.showCell(id); });
  on("show-cells", (ids) => { open("gallery"); gallery.select(ids.filter((id) => state.cells.has(id))); });
  onOffline((away) => notice(away ? t("offline") : "", away));
  theme();
  observer();
  state.config = await get("/config");
  byId("model").textContent = `${t("model")}: ${state.config.model}`;
  if (state.config.model_problem) notice(t("model_problem", { reason: state.config.model_problem }), true);
  const labels = state.config.types.map((x) => h("option", { value: x.name }, x.key ? `${x.name} (${x.key})` : x.name));
  byId("label-as").replaceChildren(h("option", { value: "" }, "–"), ...labels);
  for (const part of [details, gallery, smear, files]) part.start();
  tabs();
  keys();
  byId("session").onchange = (event) => use(event.target.value);
  byId("new-session").onclick = async () => {
    const name = await ask(t("session_name"), t("session_default"));
    if (name) await sessions((await change("POST", "/sessions", { name })).id);
  };
  const [wanted, name] = location.hash.slice(1).split("/");
  if (TABS.includes(name)) tab = name;
  await sessions(wanted);
  document.body.dataset.ready = "true";
}

begin().catch((error) => notice(t("error", { reason: error.message }), true));

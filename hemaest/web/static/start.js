// The first tab: choose images, follow their analysis, see what failed and why.

import { change, get, send } from "./api.js";
import { loadCells, on, path, state, tell, who } from "./state.js";
import { cellsOf, h, t } from "./texts.js";

const byId = (id) => document.getElementById(id);
let refused = [];
let news = null;

export function start() {
  const drop = byId("drop");
  byId("choose-files").onclick = () => byId("files").click();
  byId("choose-folder").onclick = () => byId("folder").click();
  byId("choose-slide").onclick = () => byId("slide").click();
  for (const id of ["files", "folder", "slide"]) {
    byId(id).onchange = (event) => { upload([...event.target.files]); event.target.value = ""; };
  }
  drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    upload(await filesOf(event.dataTransfer));
  };
  byId("delete-session").onclick = async () => {
    if (!state.session || !confirm(t("session_delete_sure"))) return;
    await change("DELETE", `${path("")}?${who()}`);
    tell("sessions");
  };
  on("session", () => { refused = []; listen(); });
  on("fields", draw);
}

// a dropped folder is read to its end
async function filesOf(transfer) {
  const entries = [...transfer.items].map((i) => i.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const files = [];
  async function walk(entry) {
    if (entry.isFile) files.push(await new Promise((done, fail) => entry.file(done, fail)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const part = await new Promise((done, fail) => reader.readEntries(done, fail));
        if (!part.length) break;
        for (const inner of part) await walk(inner);
      }
    }
  }
  for (const entry of entries) await walk(entry);
  return files;
}

async function upload(files) {
  if (!files.length || !state.session) return;
  const progress = byId("progress");
  progress.hidden = false;
  progress.max = files.length;
  for (let i = 0; i < files.length; i += 1) {
    progress.value = i;
    byId("file-summary").textContent = t("uploading", { done: i, total: files.length });
    const form = new FormData();
    form.append("files", files[i], files[i].name);
    try {
      refused.push(...(await send("POST", path("/fields"), form)).refused);
    } catch (error) {
      refused.push(...(error.detail?.refused ?? [{ name: files[i].name, reason: error.message }]));
    }
  }
  progress.hidden = true;
  state.fields = (await get(path(""))).fields;
  tell("fields");
  listen();
}

function listen() {
  news?.close();
  if (!state.session) return;
  let done = state.fields.filter((f) => f.state === "done").length;
  news = new EventSource(`/api${path("/events")}`);
  news.onmessage = async (event) => {
    state.fields = JSON.parse(event.data);
    tell("fields");
    const now = state.fields.filter((f) => f.state === "done").length;
    if (now !== done) { done = now; await loadCells(); }
  };
  news.addEventListener("idle", () => news.close());
}

function draw() {
  const list = byId("file-list");
  list.replaceChildren(
    ...refused.map((r) => h("li", {}, h("span", { class: "name" }, r.name),
      h("span", { class: "state refused" }, t("state_refused")), h("span", { class: "about" }), h("span", { class: "act" }),
      h("span", { class: "reason" }, r.reason))),
    ...state.fields.map(row),
  );
  const count = (name) => state.fields.filter((f) => f.state === name).length;
  const total = state.fields.length;
  byId("file-summary").textContent = total
    ? t("of_files", { done: count("done"), total, failed: count("failed") }) : t("files_empty");
  const waiting = count("queued") + count("working");
  const progress = byId("progress");
  progress.hidden = !waiting;
  progress.max = total;
  progress.value = total - waiting;
}

function about(field) {
  const kind = field.kind === "slide" ? [t("slide")] : [];
  if (field.state === "done") kind.push(cellsOf(field.cells));
  else if (field.state === "working" && field.tiles_done) kind.push(t("tiles_n", { n: field.tiles_done }));
  return kind.join(", ");
}

function row(field) {
  return h("li", {},
    h("span", { class: "name" }, field.name),
    h("span", { class: `state ${field.state}` }, t(`state_${field.state}`)),
    h("span", { class: "about" }, about(field)),
    h("span", { class: "act" },
      field.state === "done" && h("button", { type: "button", "aria-label": `${t("open")} ${field.name}`,
        onclick: () => tell("open-field", field.id) }, t("open")),
      field.state === "failed" && h("button", { type: "button", "aria-label": `${t("retry")} ${field.name}`,
        onclick: () => change("POST", path(`/fields/${field.id}/retry`), { observer: state.observer || "unknown" }).then(listen) }, t("retry"))),
    field.state === "failed" && h("span", { class: "reason" }, field.reason),
    ...field.warnings.map((w) => h("span", { class: "note" }, h("span", { class: "warn" }, w))),
  );
}

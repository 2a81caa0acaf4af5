// Lists the calls of the API from its OpenAPI document.

import { h } from "./texts.js";

const document_ = await (await fetch("/openapi.json")).json();
const calls = Object.entries(document_.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, call]) => ({ path, method, call })));

function parameters(call) {
  const named = (call.parameters ?? []).map((p) => `${p.name}${p.required ? "" : "?"} (${p.in})`);
  const body = Object.values(call.requestBody?.content ?? {})[0]?.schema;
  const schema = body?.$ref ? document_.components.schemas[body.$ref.split("/").pop()] : body;
  for (const [name, about] of Object.entries(schema?.properties ?? {})) {
    named.push(`${name}${schema.required?.includes(name) ? "" : "?"}: ${about.type ?? about.anyOf?.map((a) => a.type).join(" | ") ?? ""}`);
  }
  return named;
}

document.getElementById("calls").replaceChildren(...calls.map(({ path, method, call }) =>
  h("section", { class: "call" }, h("h3", {}, h("code", {}, `${method.toUpperCase()} ${path}`)), h("p", {}, call.description ?? ""),
    parameters(call).length ? h("p", { class: "hint" }, parameters(call).join(", ")) : "")));

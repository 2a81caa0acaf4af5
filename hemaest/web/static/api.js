// Every call to the server. Changes are sent one after the other and wait for a server that is away.

let notify = () => {};
let chain = Promise.resolve();

export function onOffline(listener) { notify = listener; }

async function read(response) {
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const detail = body.detail ?? response.statusText;
  const error = new Error(words(detail));
  error.detail = detail;
  error.status = response.status;
  throw error;
}

function words(detail) {
  if (typeof detail === "string") return detail;
  if (Array.isArray(detail)) return detail.map((d) => d.msg ?? JSON.stringify(d)).join("; ");
  if (detail?.to_do) return detail.to_do.join(" ");
  if (detail?.refused) return detail.refused.map((r) => `${r.name}: ${r.reason}`).join("; ");
  return JSON.stringify(detail);
}

export async function get(path) {
  return read(await fetch(`/api${path}`));
}

export async function picture(path) {
  const response = await fetch(`/api${path}`);
  if (!response.ok) await read(response);
  return { url: URL.createObjectURL(await response.blob()), headers: response.headers };
}

async function once(method, path, body) {
  const form = body instanceof FormData;
  const headers = { "X-Hemaest": "1", ...(form || body === undefined ? {} : { "Content-Type": "application/json" }) };
  return read(await fetch(`/api${path}`, { method, headers, body: form ? body : JSON.stringify(body) }));
}

// a label that was given while the server was away must not be lost
async function persistent(method, path, body) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 4000)) {
    try {
      const result = await once(method, path, body);
      notify(false);
      return result;
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      notify(true);
      await new Promise((done) => setTimeout(done, wait));
    }
  }
}

export function change(method, path, body) {
  const result = chain.then(() => persistent(method, path, body));
  chain = result.catch(() => {});
  return result;
}

export const send = once;
export const settled = () => chain;

// The words of the page: all of them stand in texts.json.

const texts = await (await fetch("/static/texts.json")).json();

export function t(name, values = {}) {
  return (texts[name] ?? name).replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

// "name_1" stands beside "name" where one thing is said in other words than several
export function counted(name, n, values = {}) { return t(n === 1 ? `${name}_1` : name, { n, ...values }); }

export function cellsOf(n) { return counted("cells", n); }

export function number(value, digits = 1) {
  return value === null || value === undefined ? "" : value.toFixed(digits);
}

export function when(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

// h("p", {class: "big"}, "text", node): a small way to write elements without innerHTML
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "color") element.style.setProperty("--type", value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

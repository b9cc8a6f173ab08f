// The little that the page needs to keep its elements while their numbers change: focus, open details and selections survive.

/** Make an element. `attrs`: attributes, or `on*` listeners; children: nodes, text, or nothing. */
export function h(tag, attrs = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attrs)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else set(element, name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set an attribute; null, undefined and false remove it. */
export function set(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

/** Set text, if it changed. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
  return element;
}

/** Show a number of the snapshot: text for people, the exact value in data attributes. */
export function metric(element, name, key, value, shown) {
  set(element, "data-metric", name);
  set(element, "data-key", key);
  set(element, "data-value", value === null || value === undefined ? "" : value);
  return text(element, shown);
}

/** Make the children of `parent` follow `items`: one element a key, made once, updated each time. */
export function keyed(parent, items, keyOf, make, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.keyed, child]));
  let place = parent.firstElementChild;
  items.forEach((item, i) => {
    const key = String(keyOf(item, i));
    let element = old.get(key);
    if (element) old.delete(key);
    else {
      element = make(item, i);
      element.dataset.keyed = key;
    }
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
    update(element, item, i);
  });
  for (const gone of old.values()) gone.remove();
}

/** The element of a made tree that bears data-p="name". */
export function part(element, name) {
  return element.querySelector(`[data-p="${name}"]`);
}

/** A table for people who do not see the chart; filled only while it is open. */
export function tableOf(label, columns) {
  const body = h("tbody");
  const head = h("tr", {}, columns.map((column) => h("th", { scope: "col" }, column)));
  const table = h("table", {}, h("caption", { class: "hidden" }, label), h("thead", {}, head), body);
  const box = h("details", {}, h("summary", {}, "As a table"), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, table));
  let rows = [];
  const fill = () => {
    if (!box.open) return;
    keyed(
      body, rows, (_, i) => i,
      (row) => h("tr", {}, row.map((_, i) => (i ? h("td") : h("th", { scope: "row" })))),
      (line, row) => row.forEach((value, i) => text(line.children[i], value)),
    );
  };
  box.addEventListener("toggle", fill);
  box.show = (next) => { rows = next; fill(); };
  return box;
}

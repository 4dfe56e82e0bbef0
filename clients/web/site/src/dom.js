/** Creates and updates elements without parsing HTML, so names of files are always text. */

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`There is no #${id}.`);
  return element;
}

/**
 * Returns the descendant that matches a selector. It must be of the given class.
 *
 * @template {Element} T
 * @param {ParentNode} parent
 * @param {string} selector
 * @param {new () => T} kind
 * @returns {T}
 */
export function find(parent, selector, kind) {
  const element = parent.querySelector(selector);
  if (!(element instanceof kind)) throw new Error(`There is no ${selector}.`);
  return element;
}

/**
 * Creates an element. A property whose name begins with `on` is a listener, `class` sets the classes, any other is an attribute. Properties
 * with the value `false`, `null` or `undefined` are omitted.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * Creates an icon from the page's sprite.
 *
 * @param {string} name
 */
export function icon(name) {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(namespace, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/**
 * Creates a button with an icon and an accessible label.
 *
 * @param {string} name of the icon
 * @param {string} label
 * @param {() => void} onclick
 */
export function iconButton(name, label, onclick) {
  return h("button", { type: "button", class: "button icon-button", "aria-label": label, title: label, onclick }, icon(name));
}

/** Sets an element's text only if it differs, because a live region announces every assignment. @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A row of a list: its element, and the function that updates it.
 *
 * @template T
 * @typedef {{ element: Element, update: (item: T) => void }} Row
 */

/** @type {WeakMap<Element, Map<string, Row<any>>>} */
const lists = new WeakMap();

/**
 * Updates a list's children to its items. Elements of remaining items are kept, and with them focus and scroll position.
 *
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => Row<T>} create
 */
export function keyed(parent, items, keyOf, create) {
  const known = lists.get(parent) ?? new Map();
  lists.set(parent, known);
  const keys = new Set(items.map(keyOf));
  for (const [key, row] of known) {
    if (keys.has(key)) continue;
    row.element.remove();
    known.delete(key);
  }
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const row = known.get(key) ?? create(item);
    known.set(key, row);
    row.update(item);
    if (at && row.element === at) at = at.nextElementSibling;
    else parent.insertBefore(row.element, at);
  }
}

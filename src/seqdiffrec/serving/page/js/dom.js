// Elements are made here alone, and texts only ever become text: a title can hold markup, and must not become any.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** An element: attributes, `on…` listeners, and children (elements, or texts). */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for a part of a drawing. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Say something to those who hear the page. */
export function say(text) {
  byId("live").textContent = text;
}

/** Show a text in an element, or hide the element where there is none. */
export function note(id, text) {
  byId(id).textContent = text ?? "";
  byId(id).hidden = !text;
}

/** What to call an item. */
export function label(item) {
  return item.title || `Item ${item.item_id}`;
}

export const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`;

export const stillness = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// The list of recommended items, with what moved since the one before.

import { byId, el, label, percent, say, stillness } from "./dom.js";

export const FIRST = 5; // of a seed's list, as in Figure 6 of the paper
let before = null; // rank by id

/** The next list is not compared with this one: it is another person's. */
export function forgetList() {
  before = null;
}

/** Draw it. seeds: the list of each seed, or null. take, leaveOut: what the buttons do with an item. */
export function drawList(items, { take, leaveOut, seeds }) {
  const list = byId("next");
  const places = new Map([...list.children].map((row) => [row.dataset.id, row.getBoundingClientRect().top]));
  const focused = [...list.children].findIndex((row) => row.contains(document.activeElement));
  const which = list.children[focused]?.querySelector(".take") === document.activeElement ? ".take" : ".cross";
  const most = Math.max(...items.map((item) => item.score), Number.MIN_VALUE);
  list.replaceChildren(...items.map((item, place) => rowOf(item, place, most, { take, leaveOut, seeds })));
  if (focused >= 0) list.children[Math.min(focused, items.length - 1)]?.querySelector(which)?.focus();
  if (before && !stillness()) for (const row of list.children) slide(row, places.get(row.dataset.id));
  tell(items);
  before = new Map(items.map((item, place) => [item.item_id, place]));
}

function rowOf(item, place, most, { take, leaveOut, seeds }) {
  const name = label(item);
  const bar = el("span", { class: "fill" });
  bar.style.width = `${(100 * item.score) / most}%`;
  const row = el("li", {},
    el("span", { class: "rank", "aria-hidden": "true" }, String(item.rank)),
    el("span", { class: "what" },
      el("span", { class: "line" }, el("span", { class: "name", title: name }, name), moved(item, place)),
      el("span", { class: "track", "aria-hidden": "true" }, bar),
      seeds ? el("span", { class: "quiet" }, agreement(item, seeds)) : null),
    el("span", { class: "share" }, percent(item.score)),
    el("span", { class: "acts" },
      el("button", {
        class: "take", "aria-label": `What if I take this next: ${name}`, title: "What if I take this next",
        onclick: () => take(item.item_id, name),
      }, "Take next"),
      el("button", { class: "cross", "aria-label": `Leave out ${name}`, title: "Leave it out", onclick: () => leaveOut(item) }, "×")));
  row.dataset.id = item.item_id;
  return row;
}

function moved(item, place) {
  if (!before) return null;
  const was = before.get(item.item_id);
  if (was === undefined) return el("span", { class: "moved new" }, "new");
  if (was === place) return null;
  const up = was > place;
  const by = Math.abs(was - place);
  return el("span", { class: "moved" },
    el("span", { "aria-hidden": "true" }, `${up ? "↑" : "↓"}${by}`), el("span", { class: "unseen" }, `${up ? "up" : "down"} ${by}`));
}

function agreement(item, seeds) {
  const agree = seeds.filter((list) => list.slice(0, FIRST).some((one) => one.item_id === item.item_id)).length;
  return agree ? `picked by ${agree} of ${seeds.length} ${seeds.length === 1 ? "seed" : "seeds"}` : "in no seed's first five";
}

function slide(row, from) {
  const to = row.getBoundingClientRect().top;
  const frames = from === undefined ? { opacity: [0, 1] } : { transform: [`translateY(${from - to}px)`, "none"] };
  if (from !== to) row.animate(frames, { duration: 220, easing: "ease-out" });
}

function tell(items) {
  if (!before || !items.length) return;
  const fresh = items.filter((item) => !before.has(item.item_id)).length;
  say(`The list has changed: ${fresh} of ${items.length} are new. First now: ${label(items[0])}.`);
}

// Figure 6 of the paper to play with: the first items of each single noise draw, beside each other.

import { byId, el, label, percent } from "./dom.js";
import { FIRST } from "./list.js";

export function hidePicks() {
  byId("picks").hidden = true;
}

/** A column for each seed; nothing but a word where there are no picks. */
export function drawPicks(seeds, list, popular) {
  const grid = byId("picks-grid");
  byId("picks").hidden = false;
  if (!seeds) {
    grid.replaceChildren(el("p", { class: "note" }, popular
      ? "An empty history gets the most popular items, without any noise."
      : "This model does not tell single seeds apart."));
    return;
  }
  const firsts = seeds.map((one) => one.slice(0, FIRST));
  const count = new Map();
  for (const item of firsts.flat()) count.set(item.item_id, (count.get(item.item_id) ?? 0) + 1);
  const inList = new Set(list.map((item) => item.item_id));
  grid.replaceChildren(...firsts.map((items, seed) => el("section", { "aria-label": `Seed ${seed + 1}` },
    el("h3", {}, `Seed ${seed + 1}`),
    el("ol", {}, ...items.map((item) => pick(item, count.get(item.item_id) / seeds.length, inList))))));
}

function pick(item, share, inList) {
  const name = label(item);
  const cell = el("li", {
    title: `${name}: ${percent(item.score)} for this seed`, class: inList.has(item.item_id) ? "" : "alone",
    onpointerenter: () => light(item.item_id), onpointerleave: () => light(null),
  }, el("span", {}, name));
  cell.dataset.id = item.item_id;
  cell.style.setProperty("--share", share.toFixed(2));
  return cell;
}

function light(id) {
  for (const node of document.querySelectorAll("#picks-grid li, #next li")) node.classList.toggle("lit", node.dataset.id === id);
}

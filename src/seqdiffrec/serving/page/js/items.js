// Titles of items, remembered: a state holds ids alone.

import { ask } from "./api.js";

const MOST = 10_000; // items that the service names at a time
const known = new Map();

/** Remember items of an answer; returns them with their ids as texts. */
export function remember(items) {
  return items.map((item) => {
    const kept = { ...item, item_id: String(item.item_id) };
    known.set(kept.item_id, { item_id: kept.item_id, title: kept.title, known: kept.known ?? true });
    return kept;
  });
}

/** The items of some ids, in their order. */
export async function named(ids, signal = null) {
  const missing = [...new Set(ids)].filter((id) => !known.has(id)).slice(0, MOST);
  if (missing.length) {
    const answer = await ask("v1/page/items", { method: "POST", body: { items: missing }, signal });
    remember(answer.items);
  }
  return ids.map((id) => known.get(id) ?? { item_id: id, title: null, known: false });
}

// All that the page shows follows from this state, and the address holds it.
//
// user: whose history it is, or null. history: ids, oldest first; null is what the service has of the user.
// All ids are texts: the service takes "4711" for 4711.

export const MOST_SEEDS = 20;
const LENGTHS = [5, 10, 20, 50];
const START = {
  tab: "ask", user: null, history: null, excluded: [], seeds: null, k: 10, viewed: false, picks: false, noise: 0,
};

let state = read();
let before = null; // what "Undo" goes back to
let writing = null;
const listeners = [];
const PAUSE = 200; // milliseconds: browsers refuse an address that changes with every move of a slider

export const current = () => state;

/** Have a function called with the new and the old state after each change. */
export const onChange = (listener) => listeners.push(listener);

/** Change some of it. `undoable` changes are a step for the browser's Back, and for `undo`. */
export function change(some, { undoable = false } = {}) {
  if (undoable) before = state;
  move({ ...state, ...some });
  clearTimeout(writing);
  if (undoable) history.pushState(null, "", written(state));
  else writing = setTimeout(() => history.replaceState(null, "", written(state)), PAUSE);
}

/** Go back to what was before the last change that can be undone. */
export function undo() {
  if (before === null) return;
  const { history: items, user, excluded } = before;
  before = null;
  change({ history: items, user, excluded }, { undoable: true });
}

function move(next) {
  const old = state;
  state = next;
  for (const listener of listeners) listener(state, old);
}

for (const event of ["popstate", "hashchange"]) {
  addEventListener(event, () => {
    clearTimeout(writing);
    if (written(state) !== written(read())) move(read());
  });
}

function written({ tab, user, history: items, excluded, seeds, k, viewed, picks, noise }) {
  const ids = (list) => list.map(encodeURIComponent).join(",");
  const parts = {
    tab: tab === "ask" ? null : tab,
    user: user === null ? null : encodeURIComponent(user),
    history: items === null ? null : ids(items),
    without: excluded.length ? ids(excluded) : null,
    seeds,
    k: k === START.k ? null : k,
    viewed: viewed ? "shown" : null,
    picks: picks ? "shown" : null,
    noise: noise || null,
  };
  const kept = Object.entries(parts).filter(([, value]) => value !== null);
  return `#${kept.map(([name, value]) => `${name}=${value}`).join("&")}`;
}

function read() {
  const parts = new Map(location.hash.slice(1).split("&").map((part) => part.split(/=(.*)/s, 2)));
  const ids = (name) => (parts.get(name) ?? "").split(",").filter(Boolean).map(decoded).filter((id) => id !== null);
  const number = (name, least, most) => {
    const value = parts.has(name) ? Math.round(Number(parts.get(name))) : NaN;
    return Number.isFinite(value) ? Math.min(most, Math.max(least, value)) : null;
  };
  const k = number("k", 1, 50);
  return {
    tab: parts.get("tab") === "run" ? "run" : "ask",
    user: parts.get("user") ? decoded(parts.get("user")) : null,
    history: parts.has("history") ? ids("history") : null,
    excluded: ids("without"),
    seeds: number("seeds", 1, MOST_SEEDS),
    k: LENGTHS.includes(k) ? k : START.k,
    viewed: parts.get("viewed") === "shown",
    picks: parts.get("picks") === "shown",
    noise: number("noise", 0, 999) ?? 0,
  };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return null; // an address that was cut or mistyped
  }
}

// The first tab: a history, what comes next, and what would come next if …

import { ask, whileWanted } from "./api.js";
import { byId, el, label, note, say } from "./dom.js";
import { makeFinder } from "./finder.js";
import { named, remember } from "./items.js";
import { drawList, forgetList } from "./list.js";
import { drawPicks, hidePicks } from "./picks.js";
import { MOST_SEEDS, change, current, undo } from "./state.js";

const LONGEST_SHOWN = 1000; // items of a user's history, as many as the service tells at a time
const PAUSE = 60; // milliseconds for a slider to come to rest

let run = null; // the run's facts
let shown = []; // the history on the screen
let shownOf = null; // and whose it is
let asking = null; // ends the question under way
let timer = null;

/** Wire the controls up, once the run's facts are there. */
export function startAsking(facts) {
  run = facts;
  makeFinder(byId("find-item"), {
    name: "item", title: run.has_titles ? "Add to the history" : "Add to the history, by id",
    hint: run.has_titles ? "Search a title" : "Search an id", look: findItems,
    choose: (id) => take(id), none: (text) => `No item's ${run.has_titles ? "title" : "id"} holds “${text}”.`,
  });
  makeFinder(byId("find-user"), {
    name: "user", title: "Or pick a user", hint: "Search a user's id", look: findUsers,
    choose: (user) => change({ user, history: null, excluded: [] }, { undoable: true }), none: () => "No user.",
  });
  byId("seeds").addEventListener("input", () => change({ seeds: Number(byId("seeds").value) }));
  byId("length").addEventListener("change", () => change({ k: Number(byId("length").value) }));
  byId("viewed").addEventListener("change", () => change({ viewed: !byId("viewed").checked }));
  byId("picks-toggle").addEventListener("click", () => change({ picks: !current().picks }));
  byId("clear").addEventListener("click", () => {
    done("Started over.", { user: null, history: null, excluded: [] });
    byId("item-input").focus();
  });
  byId("undo").addEventListener("click", () => { hideToast(); undo(); byId("history").focus(); });
  byId("share").addEventListener("click", share);
  byId("reload").addEventListener("click", () => location.reload());
  byId("draws").hidden = !run.draws_noise;
}

/** Ask again where the state has changed in what the list depends on. */
export function showAsk(state, old) {
  byId("seeds").value = seedsOf(state);
  byId("seeds-shown").textContent = String(seedsOf(state));
  byId("length").value = state.k;
  byId("viewed").checked = !state.viewed;
  byId("picks-toggle").setAttribute("aria-expanded", String(state.picks));
  byId("picks-toggle").textContent = state.picks ? "Hide what each seed picks" : "Show what each seed picks";
  if (!state.picks || !run.draws_noise) hidePicks();
  if (state.tab !== "ask") hideToast();
  if (old && ["user", "history", "excluded", "seeds", "k", "viewed", "picks"].every((part) => state[part] === old[part])) return;
  if (old && state.user !== old.user) forgetList();
  const calm = old && state.seeds !== old.seeds;
  clearTimeout(timer);
  timer = setTimeout(() => refresh(state), calm ? PAUSE : 0);
}

/** The history that is on the screen, for the other tab. */
export async function historyNow(state, signal = null) {
  if (state.history !== null || state.user === null) return named(state.history ?? [], signal);
  const answer = await ask(`v1/users/${encodeURIComponent(state.user)}/history?limit=${LONGEST_SHOWN}`, { signal });
  return remember(answer.items);
}

async function refresh(state) {
  asking?.abort();
  const mine = (asking = new AbortController());
  const wait = setTimeout(() => { byId("waiting").hidden = false; }, 250);
  byId("next").setAttribute("aria-busy", "true");
  await whileWanted(async () => {
    const answer = ask("v1/recommendations", { method: "POST", body: question(state), signal: mine.signal });
    const history = historyNow(state, mine.signal);
    const left = named(state.excluded, mine.signal);
    const [list, items, excluded] = await Promise.all([answer, history, left]);
    mine.signal.throwIfAborted();
    drawHistory(items, state);
    drawExcluded(excluded);
    drawAnswer(list, state);
  }, (why) => { note("next-note", why); say(why); byId("next").replaceChildren(); hidePicks(); });
  clearTimeout(wait);
  if (asking === mine) {
    byId("waiting").hidden = true;
    byId("next").removeAttribute("aria-busy");
  }
}

function question(state) {
  const edited = state.history !== null || state.user === null;
  return {
    ...(edited ? { history: state.history ?? [] } : { user_id: state.user }),
    k: state.k,
    filter_viewed: !state.viewed,
    exclude_items: state.excluded,
    ...(run.draws_noise ? { seeds: seedsOf(state), picks: state.picks } : {}),
  };
}

const seedsOf = (state) => state.seeds ?? Math.min(MOST_SEEDS, Math.max(1, run.default_seeds));

function drawAnswer(answer, state) {
  byId("newer").hidden = answer.model.hash === run.hash;
  const list = remember(answer.recommendations);
  const popular = answer.history_length === 0;
  const { count } = answer.skipped;
  const skipped = count ? ` ${count} ${count === 1 ? "item is" : "items are"} unknown to the model and left out.` : "";
  const start = state.user !== null && !shown.length ? `Nothing is known of user ${state.user}, so` : "With an empty history";
  const near = answer.approximate ? "Approximate: the run's index named the items that were looked at." : "";
  note("next-note", popular ? `${start} these are the items that most people take.${skipped}` : `${near}${skipped}`.trim());
  const seeds = answer.picks ? answer.picks.map((one) => remember(one)) : null;
  drawList(list, { take, leaveOut, seeds: popular ? null : seeds });
  if (!list.length) note("next-note", "No item is left to recommend.");
  if (state.picks && run.draws_noise) drawPicks(popular ? null : seeds, list, popular);
}

function drawHistory(items, state) {
  [shown, shownOf] = [items, state.user];
  const edited = state.user !== null && state.history !== null;
  const of = state.user === null ? "" : edited ? `User ${state.user}, changed. ` : `User ${state.user}. `;
  const seen = run.max_length - 1;
  const reads = items.length > seen ? ` The model reads the newest ${seen}.` : "";
  const count = `${items.length} ${items.length === 1 ? "item" : "items"}, oldest first.`;
  byId("history-note").textContent = `${of}${items.length ? count + reads : "Empty."}`;
  byId("clear").hidden = !items.length && state.user === null && !state.excluded.length;
  const row = byId("history");
  row.replaceChildren(...items.map((item, place) => el(
    "li", { class: place < items.length - seen ? "unread" : "", title: label(item) },
    el("span", {}, item.known === false ? `${label(item)} (unknown)` : label(item)),
    el("button", { class: "cross", "aria-label": `Remove ${label(item)} from the history`, onclick: () => remove(place) }, "×"),
  )));
  row.scrollLeft = row.scrollWidth;
}

function drawExcluded(items) {
  byId("left-out").hidden = !items.length;
  byId("excluded").replaceChildren(...items.map((item) => el(
    "li", {}, el("span", {}, label(item)),
    el("button", { class: "cross", "aria-label": `Put ${label(item)} back`, onclick: () => putBack(item) }, "×"),
  )));
}

/** The history's ids; null while that of a user who was just chosen is on its way. */
function ids() {
  const { history, user } = current();
  return history ?? (user === null ? [] : user === shownOf ? shown.map((item) => item.item_id) : null);
}

function take(id, title = null) {
  if (ids() === null) return;
  change({ history: [...ids(), id], user: current().user }, { undoable: true });
  if (title) toast(`Taken: ${title}.`);
}

function remove(place) {
  const [items, gone] = [[...(ids() ?? [])], shown[place]];
  if (items[place] !== gone.item_id) return; // the row is about to be drawn anew
  items.splice(place, 1);
  done(`Removed: ${label(gone)}.`, { history: items });
  byId("history").focus();
}

function leaveOut(item) {
  done(`Left out: ${label(item)}.`, { excluded: [...current().excluded, item.item_id] });
}

function putBack(item) {
  done(`Back again: ${label(item)}.`, { excluded: current().excluded.filter((id) => id !== item.item_id) });
  byId("next-head").focus();
}

function done(text, some) {
  change(some, { undoable: true });
  toast(text);
}

let hiding = null;

function toast(text) {
  byId("toast-text").textContent = text;
  byId("toast").hidden = false;
  say(`${text} It can be undone.`);
  clearTimeout(hiding);
  hiding = setTimeout(() => { if (!byId("toast").matches(":focus-within, :hover")) hideToast(); }, 8000);
}

function hideToast() {
  byId("toast").hidden = true;
}

async function findItems(text, askNewest) {
  const answer = await askNewest(`v1/page/items?q=${encodeURIComponent(text)}`);
  return remember(answer.items).map((item) => ({
    text: label(item), detail: item.title ? item.item_id : null, value: item.item_id,
  }));
}

async function findUsers(text, askNewest) {
  const answer = await askNewest(`v1/page/users?q=${encodeURIComponent(text)}`);
  const options = answer.users.map(({ user_id: id, length }) => ({
    text: `User ${id}`, detail: `${length} ${length === 1 ? "item" : "items"}`, value: String(id),
  }));
  if (text && !options.some((option) => option.value === text)) {
    options.push({ text: `User ${text}`, detail: "not in the log", value: text });
  }
  return options;
}

async function share() {
  try {
    await navigator.clipboard.writeText(location.href);
    say("The address is copied.");
    byId("share").textContent = "Copied";
  } catch {
    byId("share").textContent = "Copy it from the address line"; // a browser may forbid it
  }
  setTimeout(() => { byId("share").textContent = "Copy the address"; }, 3000);
}


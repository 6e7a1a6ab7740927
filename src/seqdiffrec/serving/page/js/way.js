// From noise to an item: Algorithm 2 step by step on the map, after the history of the first tab.

import { ask, newest } from "./api.js";
import { historyNow } from "./ask.js";
import { byId, el, label, note, percent, stillness } from "./dom.js";
import { drawMap, drawStage, hoverMap } from "./map.js";
import { change } from "./state.js";

const STEPS = 30;
const SECONDS = 6; // for the whole way

const askNewest = newest();
let run = null;
let map = null;
let stages = [];
let asked = null; // what the way on the screen was asked with
let playing = null;

export function startWay(facts) {
  run = facts;
  byId("stage").addEventListener("input", () => { stop(); show(); });
  byId("play").addEventListener("click", () => (playing ? stop() : play()));
  byId("noise-seed").addEventListener("change", () => {
    const seed = Math.round(Number(byId("noise-seed").value));
    change({ noise: Math.min(999, Math.max(0, Number.isFinite(seed) ? seed : 0)) });
  });
}

/** Ask for the way after the state's history, where it is another one than that on the screen. */
export async function showWay(state) {
  byId("noise-seed").value = state.noise;
  const wanted = JSON.stringify([state.user, state.history, state.noise, state.viewed]);
  if (wanted === asked) return;
  map ??= await ask("v1/page/map");
  const history = await historyNow(state);
  const items = history.map((item) => item.item_id);
  const body = { history: items, seed: state.noise, steps: STEPS, filter_viewed: !state.viewed };
  const way = await askNewest("v1/page/denoising", { method: "POST", body });
  asked = wanted;
  stop();
  const newestItems = history.slice(-3).map(label);
  const more = history.length > 3 ? `… (${history.length} items)` : "";
  byId("way-after").textContent = items.length
    ? `After ${more} ${newestItems.join(", ")}: the history of the first tab.`
    : "The history of the first tab is empty.";
  note("way-note", way.note);
  stages = way.stages;
  byId("way-controls").hidden = way.kind !== "diffusion";
  byId("way-side").hidden = !stages.length;
  byId("near-head").textContent = way.kind === "diffusion" ? "Items nearest to the noisy point" : "Items nearest to the state";
  byId("said-head").textContent = way.kind === "diffusion" ? "What the model makes of it" : "What it stands for";
  byId("map-key").hidden = !stages.length;
  byId("key-state").textContent = way.kind === "diffusion" ? "the noisy point" : "the state";
  byId("key-prediction").hidden = way.kind !== "diffusion";
  byId("stage").max = Math.max(0, stages.length - 1);
  byId("stage").value = byId("stage").max;
  drawMap(byId("map"), map, history);
  hoverMap(byId("map"));
  show();
}

function show() {
  const place = Number(byId("stage").value);
  const stage = stages[place];
  drawStage(byId("map"), stages, place);
  if (!stage) {
    byId("map-caption").textContent = map.note ? "" : caption();
    return;
  }
  const of = run.num_steps === null ? "" : `${stage.step} of ${run.num_steps}`;
  byId("stage-shown").textContent = of;
  byId("stage").setAttribute("aria-valuetext", `step ${of}`);
  byId("said").replaceChildren(...stage.said.map((item) => el("li", {}, el("span", {}, label(item)), el("span", { class: "quiet" }, percent(item.score)))));
  byId("near").replaceChildren(...stage.nearest.map((item) => el("li", {}, el("span", {}, label(item)))));
  const first = stage.said[0] ? ` At step ${stage.step} the model would say ${label(stage.said[0])}.` : "";
  byId("map-caption").textContent = caption() + (run.num_steps === null ? "" : first);
}

function caption() {
  const share = map.shares.reduce((sum, one) => sum + one, 0);
  const others = map.points.length < run.num_items ? `the ${map.points.length.toLocaleString("en")} most popular` : "all";
  return `Each dot is an item, ${others} of ${run.num_items.toLocaleString("en")}, on the two axes along which their vectors differ most ` +
    `(${percent(share)} of what there is).`;
}

function play() {
  const pause = (1000 * SECONDS) / stages.length;
  if (Number(byId("stage").value) >= stages.length - 1) byId("stage").value = 0;
  show();
  playing = setInterval(() => {
    byId("stage").value = Number(byId("stage").value) + 1;
    show();
    if (Number(byId("stage").value) >= stages.length - 1) stop();
  }, stillness() ? Math.max(pause, 1000) : pause);
  byId("play").textContent = "Pause";
  byId("play").setAttribute("aria-pressed", "true");
}

function stop() {
  clearInterval(playing);
  playing = null;
  byId("play").textContent = "Play";
  byId("play").setAttribute("aria-pressed", "false");
}


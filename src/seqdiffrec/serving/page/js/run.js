// The second tab: the run's course and figures, and the way from noise to an item on the map.

import { whileWanted } from "./api.js";
import { byId, el, note } from "./dom.js";
import { drawLines } from "./chart.js";
import { drawFigures } from "./figures.js";
import { showWay, startWay } from "./way.js";

let drawn = false;
let run = null;

export function startRun(facts) {
  run = facts;
  startWay(facts);
  byId("metric").addEventListener("change", drawValidation);
}

/** Draw it when it is first looked at. */
export async function showRun(state) {
  if (state.tab !== "run") return;
  if (!drawn) {
    drawn = true;
    drawAll();
  }
  await whileWanted(() => showWay(state), (why) => note("way-note", why));
}

function drawAll() {
  const parts = Object.keys(run.curves[0]?.train ?? {});
  drawLines(byId("loss"), { title: "Loss by epoch", lines: parts.map((part) => series(part, (row) => row.train[part])) });
  const metrics = Object.keys(run.curves[0]?.validation.seen_kept ?? {});
  byId("metric").replaceChildren(...metrics.map((metric) => el("option", {}, metric)));
  byId("metric").value = metrics.includes("NDCG@10") ? "NDCG@10" : metrics[0];
  byId("metric").closest(".field").hidden = !metrics.length;
  drawValidation();
  drawFigures(byId("figures"), run);
  pairs("facts", { Model: run.paper ? `${run.model} (${run.paper})` : run.model, ...run.facts });
  pairs("settings", run.settings);
  byId("run-note").hidden = true;
  byId("run-content").hidden = false;
}

function drawValidation() {
  const metric = byId("metric").value;
  drawLines(byId("validation"), {
    title: `Validation ${metric} by epoch`, digits: 4, mark: run.curves.length ? run.best_epoch : null,
    lines: [
      series("all items ranked", (row) => row.validation.seen_kept[metric]),
      series("seen items removed", (row) => row.validation.seen_removed[metric]),
    ],
  });
}

function series(name, value) {
  const points = run.curves.map((row) => [row.epoch, value(row)]).filter(([, one]) => one !== undefined);
  return { name, points };
}

function pairs(id, values) {
  byId(id).replaceChildren(...Object.entries(values).flatMap(([name, value]) => [
    el("dt", {}, name), el("dd", {}, value === null ? "not set" : String(value)),
  ]));
}

// How good a run is: its metrics under both protocols, what it was compared with, and parts of the data.

import { el } from "./dom.js";
import { scrolled } from "./chart.js";

const PROTOCOLS = { seen_kept: "All items ranked", seen_removed: "Seen items removed" };

export function drawFigures(place, run) {
  const parts = [
    run.compared.length ? comparison(run.compared) : null,
    run.figures.length ? ofTheRun(run) : null,
    run.segments.length ? bySegment(run.segments) : null,
  ].filter(Boolean);
  place.replaceChildren(...(parts.length ? parts : [el("p", { class: "note" }, "No figures are recorded for this run.")]));
}

function ofTheRun(run) {
  const shown = run.figures.filter((figure) => !figure.metric.startsWith("MRR"));
  const metrics = [...new Set(shown.map((figure) => figure.metric))];
  const rows = Object.keys(PROTOCOLS).map((protocol) => [
    PROTOCOLS[protocol],
    ...metrics.map((metric) => interval(shown.find((one) => one.metric === metric && one.protocol === protocol))),
  ]);
  return block(`On the validation cases, epoch ${run.best_epoch}`,
    "HR is the share of people whose next item is among the first; NDCG also counts how far up it stands.",
    ["", ...metrics], rows);
}

function comparison(systems) {
  const [first] = systems;
  const heads = first.figures.map((figure) => `${figure.part} ${figure.metric}`);
  const rows = systems.map((one) => [one.chosen ? `${one.model}, chosen` : one.model, ...one.figures.map(interval)]);
  const { protocol } = first.figures[0];
  return block("Chosen from", `${PROTOCOLS[protocol]}. In brackets are 95 % intervals over people.`, ["", ...heads], rows);
}

function bySegment(segments) {
  const shown = (one) => one.figures.filter((figure) => !figure.metric.startsWith("MRR"));
  const heads = shown(segments[0]).map((figure) => `${figure.metric}, ${PROTOCOLS[figure.protocol].toLowerCase()}`);
  const rows = segments.map((one) => [one.told ? `${one.name}: ${one.told}` : one.name, one.cases.toLocaleString("en"), ...shown(one).map(interval)]);
  return block("By part of the test cases", "In brackets are 95 % intervals over people.", ["", "cases", ...heads], rows);
}

function block(title, text, heads, rows) {
  return el("div", { class: "block" },
    el("h3", {}, title), el("p", { class: "quiet" }, text),
    scrolled(title, el("table", {},
      el("caption", { class: "unseen" }, title),
      el("thead", {}, el("tr", {}, ...heads.map((head) => (head ? el("th", { scope: "col" }, head) : el("td", {}))))),
      el("tbody", {}, ...rows.map(([name, ...cells]) => el("tr", {},
        el("th", { scope: "row" }, name), ...cells.map((cell) => el("td", {}, cell))))))));
}

function interval(figure) {
  if (!figure) return "";
  const value = figure.value.toFixed(4);
  return figure.low === null ? value : `${value} [${figure.low.toFixed(4)}, ${figure.high.toFixed(4)}]`;
}

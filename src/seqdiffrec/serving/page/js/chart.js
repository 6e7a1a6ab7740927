// Lines by epoch, as a drawing and, for those who do not see it, as a table.

import { el, svg } from "./dom.js";

const WIDTH = 520, HEIGHT = 250, LEFT = 52, RIGHT = 12, TOP = 12, BOTTOM = 34;

/** Draw lines: { name, points: [[epoch, value], …] } each; `mark` is the epoch that was chosen. */
export function drawLines(place, { title, lines, mark = null, digits = 3, fromZero = true }) {
  const points = lines.flatMap((line) => line.points);
  if (!points.length) {
    place.replaceChildren(el("p", { class: "note" }, "This model is not trained by epochs: it only counts."));
    return;
  }
  const epochs = points.map(([epoch]) => epoch);
  const values = points.map(([, value]) => value);
  const ticks = roundTicks(fromZero ? Math.min(0, ...values) : Math.min(...values), Math.max(...values));
  const [low, high] = [ticks[0], ticks.at(-1)];
  const [first, last] = [Math.min(...epochs), Math.max(...epochs)];
  const x = (epoch) => LEFT + ((epoch - first) / (last - first || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": `${title}; the figures stand in the table below` },
    ...ticks.flatMap((tick) => [
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }),
      svg("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, String(Number(tick.toPrecision(6)))),
    ]),
    ...epochTicks(first, last).map((epoch) => svg("text", { x: x(epoch), y: HEIGHT - 12, "text-anchor": "middle" }, String(epoch))),
    mark === null ? null : svg("line", { class: "mark", x1: x(mark), x2: x(mark), y1: TOP, y2: HEIGHT - BOTTOM }),
    ...lines.map((line, number) => svg("g", { class: `line line-${number}` },
      svg("polyline", { points: line.points.map(([epoch, value]) => `${x(epoch)},${y(value)}`).join(" ") }),
      ...(line.points.length <= 40 ? line.points : []).map(([epoch, value]) =>
        svg("circle", { cx: x(epoch), cy: y(value), r: 2.5 }, svg("title", {}, `${line.name}, epoch ${epoch}: ${value.toFixed(digits)}`))))));
  const legend = el("ul", { class: "legend" },
    ...lines.map((line, number) => el("li", { class: `line-${number}` }, line.name)),
    mark === null ? null : el("li", { class: "marked" }, `epoch ${mark}, the best`));
  place.replaceChildren(drawing, legend, el("details", {}, el("summary", {}, "As a table"), table(title, lines, digits)));
}

function table(title, lines, digits) {
  const epochs = [...new Set(lines.flatMap((line) => line.points.map(([epoch]) => epoch)))];
  const cell = (line, epoch) => line.points.find(([one]) => one === epoch)?.[1].toFixed(digits) ?? "";
  return scrolled(`${title}, as a table`, el("table", {},
    el("caption", { class: "unseen" }, title),
    el("thead", {}, el("tr", {}, ...["Epoch", ...lines.map((line) => line.name)].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...epochs.map((epoch) => el("tr", {},
      el("th", { scope: "row" }, String(epoch)), ...lines.map((line) => el("td", {}, cell(line, epoch))))))));
}

/** A table in a frame that scrolls where it is wider than the page, also by keyboard. */
export function scrolled(name, of) {
  return el("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": name }, of);
}

/** Three to six round values from at most `low` to at least `high`. */
function roundTicks(low, high) {
  const rough = (high - low || Math.abs(high) || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  const ticks = [];
  for (let tick = Math.floor(low / step); tick <= Math.ceil(high / step - 1e-9); tick += 1) ticks.push(tick * step);
  return ticks;
}

function epochTicks(first, last) {
  const step = Math.max(1, Math.ceil((last - first) / 8));
  return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, number) => first + number * step);
}

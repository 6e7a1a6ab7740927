// The map of the items, and the point that walks on it.

import { label, svg } from "./dom.js";

const WIDTH = 640, HEIGHT = 460, EDGE = 24;
let items = []; // the map's points, with names, and where they are in the drawing now

/** Draw a new map, for a new way. */
export function drawMap(drawing, map, history) {
  const seen = new Set(history.map((item) => item.item_id));
  items = map.points.map((point) => ({ ...point, name: label(point), taken: seen.has(String(point.item_id)) }));
  drawing.replaceChildren(...(items.length ? [
    svg("path", { class: "items" }), svg("path", { class: "taken" }), svg("polyline", { class: "whole-way" }),
    svg("polyline", { class: "way-so-far" }), svg("g", { class: "names" }), svg("line", { class: "aim" }),
    svg("circle", { class: "predicted", r: 6 }), svg("circle", { class: "state", r: 7 }),
    svg("text", { class: "pointed", "text-anchor": "middle" }),
  ] : []));
  if (items.length) drawStage(drawing, [], 0);
}

/**
 * Put the point where it is at one stage.
 *
 * Noise begins far outside the items, so the map is drawn as far as the rest of the way needs: it comes nearer with
 * each step, and at the end the items fill it.
 */
export function drawStage(drawing, stages, place) {
  if (!drawing.firstChild) return;
  const rest = stages.slice(place);
  const scale = fitted([...items, ...rest, ...rest.map(predicted)]);
  for (const item of items) item.at = scale(item);
  const part = (name) => drawing.querySelector(`.${name}`);
  const set = (name, values) => Object.entries(values).forEach(([key, value]) => part(name).setAttribute(key, value));
  const dots = (some) => some.map(({ at: { x, y } }) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join("");
  const way = (some) => some.map((stage) => pair(scale(stage))).join(" ");
  set("items", { d: dots(items.filter((item) => !item.taken)) });
  set("taken", { d: dots(items.filter((item) => item.taken)) });
  part("pointed").textContent = "";
  const stage = stages[place];
  for (const name of ["aim", "predicted", "state"]) part(name).toggleAttribute("hidden", !stage);
  if (!stage) return;
  const [at, aim] = [scale(stage), scale(predicted(stage))];
  set("whole-way", { points: way(stages) });
  set("way-so-far", { points: way(stages.slice(0, place + 1)) });
  set("state", { cx: at.x, cy: at.y });
  set("predicted", { cx: aim.x, cy: aim.y });
  set("aim", { x1: at.x, y1: at.y, x2: aim.x, y2: aim.y });
  const near = stage.nearest.slice(0, 3).map((item) => ({ ...scale(item), name: label(item) }));
  part("names").replaceChildren(...near.map(({ x, y }) => svg("circle", { cx: x, cy: y, r: 4.5 })), ...apart(near).map(textAt));
}

/** Name the item that is pointed at. */
export function hoverMap(drawing) {
  drawing.onpointermove = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
    let [best, least] = [null, 14 ** 2];
    for (const item of items) {
      const distance = (item.at.x - at.x) ** 2 + (item.at.y - at.y) ** 2;
      if (distance < least) [best, least] = [item, distance];
    }
    const text = drawing.querySelector(".pointed");
    if (!text) return;
    text.textContent = best ? short(best.name) : "";
    if (best) { text.setAttribute("x", inside(best.at.x)); text.setAttribute("y", Math.max(14, best.at.y - 10)); }
  };
  drawing.onpointerleave = () => { const text = drawing.querySelector(".pointed"); if (text) text.textContent = ""; };
}

const predicted = (stage) => ({ x: stage.predicted_x, y: stage.predicted_y });
const pair = ({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`;
const short = (name) => (name.length > 34 ? `${name.slice(0, 33)}…` : name);
const inside = (x) => Math.min(WIDTH - 110, Math.max(110, x));

function textAt({ x, y, name }) {
  return svg("text", { x: inside(x), y, "text-anchor": "middle" }, short(name));
}

/** The same names with their lines moved down until none covers another. */
function apart(names) {
  const placed = [];
  for (const one of [...names].sort((a, b) => a.y - b.y)) {
    let y = Math.max(14, one.y - 9);
    for (const other of placed) if (Math.abs(other.y - y) < 15 && Math.abs(other.x - one.x) < 220) y = other.y + 15;
    placed.push({ ...one, y: Math.min(HEIGHT - 4, y) });
  }
  return placed;
}

/** One scale for both axes, so that all points fit in. */
function fitted(points) {
  const [xs, ys] = [points.map((one) => one.x), points.map((one) => one.y)];
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const factor = Math.min((WIDTH - 2 * EDGE) / (right - left || 1), (HEIGHT - 2 * EDGE) / (high - low || 1));
  const [middleX, middleY] = [(left + right) / 2, (low + high) / 2];
  return ({ x, y }) => ({ x: WIDTH / 2 + (x - middleX) * factor, y: HEIGHT / 2 - (y - middleY) * factor });
}

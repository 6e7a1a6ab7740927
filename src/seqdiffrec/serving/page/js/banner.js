// The line that says that the service is gone, until it is back.

import { byId, el, say } from "./dom.js";

let waiting = new Set(); // what ends the wait of each question that tries again
let until = 0;
let clock = null;

/** Say that the service is away, and wait before the next try: some seconds, or until somebody says "now". */
export function away(why, seconds, signal) {
  return new Promise((again, dropped) => {
    const wait = { end };
    const timer = setTimeout(end, 1000 * seconds);
    function end() {
      clearTimeout(timer);
      waiting.delete(wait);
      signal?.removeEventListener("abort", drop);
      again();
    }
    function drop() {
      clearTimeout(timer);
      waiting.delete(wait);
      dropped(signal.reason);
    }
    signal?.addEventListener("abort", drop, { once: true });
    waiting.add(wait);
    show(why, seconds);
  });
}

/** The service has answered. */
export function back() {
  const banner = byId("banner");
  if (banner.hidden) return;
  clearInterval(clock);
  banner.hidden = true;
  banner.replaceChildren();
  say("The service answers again.");
  for (const wait of [...waiting]) wait.end();
}

function show(why, seconds) {
  const banner = byId("banner");
  const left = el("span", { "aria-hidden": "true" });
  const now = el("button", { onclick: () => [...waiting].forEach((wait) => wait.end()) }, "Try now");
  const tick = () => {
    const rest = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    left.textContent = rest ? ` Trying again in ${rest} s.` : " Trying again…";
  };
  until = Date.now() + 1000 * seconds;
  clearInterval(clock);
  clock = setInterval(tick, 250);
  tick();
  const text = banner.querySelector("strong");
  if (text?.textContent === why) {
    banner.replaceChild(left, banner.querySelector("span")); // so that it is not read out again
    return;
  }
  const before = byId("next").childElementCount ? " What you see is from before. " : " ";
  banner.replaceChildren(el("strong", {}, why), left, before, now);
  banner.hidden = false;
}

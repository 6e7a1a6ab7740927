// The page's beginning: the run's facts, the two tabs, and the state that both are drawn from.

import { ask, whileWanted } from "./api.js";
import { showAsk, startAsking } from "./ask.js";
import { byId, el } from "./dom.js";
import { showRun, startRun } from "./run.js";
import { change, current, onChange } from "./state.js";

const TABS = ["ask", "run"];

for (const name of TABS) {
  byId(`tab-${name}`).addEventListener("click", () => change({ tab: name }));
  byId(`tab-${name}`).addEventListener("keydown", (event) => {
    const other = { ArrowLeft: -1, ArrowRight: 1, Home: 0, End: 0 }[event.key];
    if (other === undefined) return;
    event.preventDefault();
    const next = event.key === "Home" ? TABS[0] : event.key === "End" ? TABS.at(-1) : TABS.find((one) => one !== name);
    change({ tab: next });
    byId(`tab-${next}`).focus();
  });
}
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address holds the state, not a place on the page
  byId("main").focus();
});

function showTab({ tab }) {
  for (const name of TABS) {
    byId(name).hidden = name !== tab;
    byId(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
    byId(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
  }
}

showTab(current());
await whileWanted(async () => {
  const facts = await ask("v1/page/run");
  byId("about").textContent =
    `${facts.model}, ${facts.summary}; trained on ${facts.data}, ${facts.num_items.toLocaleString("en")} items`;
  startAsking(facts);
  startRun(facts);
  onChange((state, old) => {
    showTab(state);
    showAsk(state, old);
    showRun(state);
  });
  showAsk(current(), null);
  showRun(current());
}, (why) => byId("main").prepend(el("p", { class: "note", role: "alert" }, why)));

// A field that finds something while one types: a combobox with a list below it.

import { newest, whileWanted } from "./api.js";
import { el } from "./dom.js";

const PAUSE = 120; // milliseconds after the last key before it asks

/**
 * Build it in `place`.
 * look(text, ask): the options for a text, each { text, detail, value }.
 * choose(value): what happens with the chosen one. none: what to say where nothing is found.
 */
export function makeFinder(place, { name, title, hint, look, choose, none }) {
  const ask = newest();
  let options = [];
  let active = -1;
  let timer = null;
  let wantsFirst = false; // Enter was pressed before the answer came

  const input = el("input", {
    id: `${name}-input`, type: "text", role: "combobox", autocomplete: "off", spellcheck: "false", maxlength: 200,
    placeholder: hint, "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": `${name}-list`,
    oninput: () => later(), onfocus: () => later(), onkeydown: onKey, onblur: close,
  });
  const list = el("ul", { id: `${name}-list`, role: "listbox", "aria-label": title, class: "options", hidden: true });
  const message = el("p", { class: "options message", role: "status", hidden: true });
  place.append(el("label", { for: input.id }, title), input, list, message);

  function later() {
    clearTimeout(timer);
    timer = setTimeout(find, PAUSE);
  }

  async function find() {
    const text = input.value.trim();
    await whileWanted(async () => {
      options = await look(text, ask);
      if (document.activeElement !== input) return;
      show(options.length ? "" : none(text));
      if (wantsFirst && options.length) pick(0);
    }, show);
    wantsFirst = false;
  }

  function show(text) {
    active = -1;
    list.replaceChildren(...options.map((option, place) =>
      el("li", {
        id: `${name}-${place}`, role: "option", "aria-selected": "false",
        onpointerdown: (event) => { event.preventDefault(); pick(place); },
      }, el("span", {}, option.text), option.detail ? el("span", { class: "quiet" }, option.detail) : null)));
    list.hidden = !options.length || Boolean(text);
    message.textContent = text;
    message.hidden = !text;
    input.setAttribute("aria-expanded", String(!list.hidden));
    input.removeAttribute("aria-activedescendant");
  }

  function mark(place) {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = (place + options.length) % options.length;
    list.children[active].setAttribute("aria-selected", "true");
    list.children[active].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", `${name}-${active}`);
  }

  function pick(place) {
    const { value } = options[place];
    input.value = "";
    close();
    choose(value);
  }

  function close() {
    clearTimeout(timer);
    options = [];
    list.hidden = message.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function onKey(event) {
    if (event.key === "Escape") close();
    else if (event.key === "Enter") {
      event.preventDefault();
      if (options.length && !list.hidden) pick(Math.max(active, 0));
      else if (input.value.trim()) { wantsFirst = true; clearTimeout(timer); find(); }
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden || !options.length) later();
      else mark(active < 0 && event.key === "ArrowUp" ? -1 : active + (event.key === "ArrowDown" ? 1 : -1));
    }
  }

  return { focus: () => input.focus() };
}

// The key of a service that wants one: asked for once, kept for as long as the tab is open.

import { byId } from "./dom.js";

const NAME = "seqdiffrec-key";
let asking = null;

export const heldKey = () => sessionStorage.getItem(NAME);

/** Ask for the key; all who wait for it wait for the same answer. */
export function askForKey(wasWrong) {
  if (wasWrong && !asking) sessionStorage.removeItem(NAME);
  if (!wasWrong && !asking && heldKey()) return Promise.resolve(); // another question has got it meanwhile
  byId("key-wrong").hidden = !wasWrong;
  asking ??= new Promise((done) => {
    const dialog = byId("key-dialog");
    dialog.showModal();
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    byId("key-form").addEventListener(
      "submit",
      () => {
        sessionStorage.setItem(NAME, byId("key").value.trim());
        byId("key").value = "";
        asking = null;
        done();
      },
      { once: true },
    );
  });
  return asking;
}

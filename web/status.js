// The state of the connection, in a colour and in words, and the buttons that change it.

import { byId } from "./dom.js";

/** @typedef {import("./connection.js").Phase} Phase */

/** @type {Record<Phase, string>} */
const WORDS = {
  connecting: "Connecting…",
  open: "Connected",
  reconnecting: "Reconnecting…",
  closing: "Disconnecting…",
  closed: "Disconnected",
};

export class Status {
  #words = byId("status-words", HTMLElement);
  #detail = byId("status-detail", HTMLElement);
  #connect = byId("connect", HTMLButtonElement);
  #disconnect = byId("disconnect", HTMLButtonElement);

  /** @param {{ onDisconnect: () => void }} callbacks */
  constructor({ onDisconnect }) {
    this.#disconnect.addEventListener("click", onDisconnect);
  }

  /** @param {Phase} phase @param {string} detail why, where that is worth a sentence */
  show(phase, detail) {
    document.body.dataset.phase = phase;
    this.#words.textContent = WORDS[phase];
    this.#detail.textContent = detail;
    this.#detail.hidden = detail === "";
    const closed = phase === "closed";
    const pressed = document.activeElement;
    this.#connect.hidden = !closed;
    this.#disconnect.hidden = closed;
    // One of the two takes the other's place, and with it the focus.
    if (pressed === this.#disconnect && closed) this.#connect.focus();
  }
}

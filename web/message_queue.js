// Messages that wait on the server until the running answer is over, in the order in which they will
// be answered. The first of them can be sent now, which stops that answer.

import { element } from "./dom.js";

/** @typedef {import("./socket.js").Frame} Frame */
/** @typedef {{ seq: number, interrupts: boolean, shown: HTMLElement }} Waiting */

export class WaitingMessages {
  #place;
  #onHurry;
  /** @type {Waiting[]} */
  #waiting = [];

  /** @param {HTMLElement} place @param {() => void} onHurry the running answer is to be stopped */
  constructor(place, onHurry) {
    this.#place = place;
    this.#onHurry = onHurry;
  }

  /** What a turn, or a message that is on its way, is shown above of. */
  get first() {
    return this.#waiting[0]?.shown ?? null;
  }

  clear() {
    this.#waiting = [];
  }

  /**
   * Shows a message that waits.
   *
   * @param {Frame} frame its `message_queued`
   * @param {Element | null} next what follows all that wait
   */
  add(frame, next) {
    const interrupts = frame.on_busy === "interrupt";
    // As the server has it: those that interrupt go before those that do not.
    const index = interrupts ? this.#waiting.filter((other) => other.interrupts).length : this.#waiting.length;
    const shown = this.#bubble(String(frame.text));
    this.#place.insertBefore(shown, this.#waiting[index]?.shown ?? next);
    this.#waiting.splice(index, 0, { seq: Number(frame.seq), interrupts, shown });
  }

  /** Its turn has begun, and shows it from now on. @param {number} seq of its `message_queued` */
  remove(seq) {
    const index = this.#waiting.findIndex((other) => other.seq === seq);
    if (index >= 0) this.#waiting.splice(index, 1)[0].shown.remove();
  }

  /** @param {string} text */
  #bubble(text) {
    const now = element("button", { type: "button", class: "hurry" }, "Send now");
    now.addEventListener("click", () => {
      // A second click would stop this message's own answer.
      now.disabled = true;
      this.#onHurry();
    });
    return element(
      "div",
      { class: "said", "data-state": "queued" },
      element("p", { class: "text" }, text),
      element("p", { class: "receipt" }, "Waiting", now),
    );
  }
}

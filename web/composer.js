// Where the user writes: Enter sends, Shift+Enter begins a new line, Escape stops the answer.

import { byId } from "./dom.js";

export class Composer {
  #form = byId("composer", HTMLFormElement);
  #message = byId("message", HTMLTextAreaElement);
  #stop = byId("stop", HTMLButtonElement);
  #onSay;
  #onStop;

  /** @param {{ onSay: (text: string) => boolean, onStop: () => void }} callbacks `onSay` is false for a text that is not sent */
  constructor({ onSay, onStop }) {
    this.#onSay = onSay;
    this.#onStop = onStop;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#message.addEventListener("keydown", (event) => this.#key(event));
    this.#stop.addEventListener("click", () => this.#halt());
    if (!CSS.supports("field-sizing", "content")) {
      this.#message.addEventListener("input", () => this.#fit());
    }
  }

  /** Whether there is an answer to stop. @param {boolean} running */
  set running(running) {
    // A button that vanishes takes the focus with it.
    if (!running && document.activeElement === this.#stop) this.focus();
    this.#stop.hidden = !running;
  }

  focus() {
    this.#message.focus();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    // While an input method composes a character, Enter and Escape belong to it.
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "Escape" && !this.#stop.hidden) {
      this.#halt();
    }
  }

  #submit() {
    const text = this.#message.value;
    if (text.trim() === "" || !this.#onSay(text)) return;
    this.#message.value = "";
    this.#message.style.height = "";
  }

  #halt() {
    this.#onStop();
    this.focus();
  }

  // For browsers without `field-sizing`; `layout.css` limits the height.
  #fit() {
    this.#message.style.height = "auto";
    this.#message.style.height = `${this.#message.scrollHeight}px`;
  }
}

// The frames as they pass, for those who want to see how it works.

import { byId, element } from "./dom.js";
import { clockTime, counted } from "./format.js";

/** @typedef {import("./socket.js").Frame} Frame */

/** The oldest rows make room for new ones. */
const ROWS_MAX = 500;
/** What passes so often that it hides everything else. */
const FREQUENT = new Set(["token", "ping", "pong"]);

export class EventPanel {
  #panel = byId("events", HTMLElement);
  #rows = byId("event-rows", HTMLOListElement);
  #count = byId("event-count", HTMLElement);
  #all = byId("show-tokens", HTMLInputElement);
  #toggle = byId("toggle-events", HTMLButtonElement);
  #seen = 0;
  #hidden = 0;
  /** @type {HTMLElement[]} rows that wait for the next animation frame */
  #unshown = [];
  #animationFrame = 0;

  constructor() {
    // Beside the conversation there is room for it, below it there is not.
    this.#show(window.matchMedia("(min-width: 64rem)").matches);
    this.#toggle.addEventListener("click", () => this.#show(this.#panel.hidden));
    byId("close-events", HTMLButtonElement).addEventListener("click", () => {
      this.#show(false);
      this.#toggle.focus();
    });
    byId("clear-events", HTMLButtonElement).addEventListener("click", () => this.clear());
  }

  /** @param {"in" | "out"} direction @param {Frame} frame */
  add(direction, frame) {
    this.#seen += 1;
    if (FREQUENT.has(frame.type) && !this.#all.checked) this.#hidden += 1;
    else this.#unshown.push(row(direction, frame));
    // A hidden page paints nothing, and would let the rows pile up.
    if (this.#unshown.length > ROWS_MAX) this.#unshown.shift();
    this.#animationFrame ||= requestAnimationFrame(() => this.#paint());
  }

  clear() {
    this.#rows.replaceChildren();
    this.#unshown = [];
    this.#seen = 0;
    this.#hidden = 0;
    this.#paint();
  }

  #paint() {
    this.#animationFrame = 0;
    const follows = this.#rows.scrollHeight - this.#rows.scrollTop - this.#rows.clientHeight < 48;
    this.#rows.append(...this.#unshown);
    this.#unshown = [];
    while (this.#rows.childElementCount > ROWS_MAX) this.#rows.firstElementChild?.remove();
    if (follows) this.#rows.scrollTop = this.#rows.scrollHeight;
    const hidden = this.#hidden > 0 ? `, ${this.#hidden} not shown` : "";
    this.#count.textContent = counted(this.#seen, "frame") + hidden;
  }

  #show(/** @type {boolean} */ shown) {
    this.#panel.hidden = !shown;
    this.#toggle.setAttribute("aria-expanded", String(shown));
  }
}

/** @param {"in" | "out"} direction @param {Frame} frame */
function row(direction, frame) {
  const { type, seq, occurred_at, ...rest } = frame;
  // `replayed` names an event, but is none.
  const number = occurred_at === undefined ? undefined : seq;
  if (number === undefined && seq !== undefined) rest.seq = seq;
  const pretty = element("pre", {});
  const details = element(
    "details",
    {},
    element(
      "summary",
      {},
      element("span", { class: "event-seq" }, number === undefined ? "" : `#${number}`),
      element("span", { class: "event-type" }, direction === "out" ? `→ ${type}` : type),
      element("time", { class: "event-time" }, clockTime(occurred_at ? new Date(occurred_at) : new Date())),
      element("code", { class: "event-brief" }, Object.keys(rest).length > 0 ? JSON.stringify(rest) : ""),
    ),
    pretty,
  );
  // Made only when somebody looks.
  details.addEventListener("toggle", () => {
    if (details.open && pretty.textContent === "") pretty.textContent = JSON.stringify(frame, null, 2);
  });
  return element("li", { "data-direction": direction, "data-type": type, "data-seq": number ?? "" }, details);
}

// What was said, as turns on the page. It applies each frame once, in order, whether it is live or
// replayed, and so always shows what the session's log says.

import { element } from "./dom.js";
import { Ending } from "./session_end.js";
import { Turn } from "./turn.js";
import { WaitingMessages } from "./message_queue.js";

/** @typedef {import("./socket.js").Frame} Frame */
/**
 * @typedef {object} Callbacks
 * @property {(text: string) => boolean} say speaks in the user's name; false if that is not sent
 * @property {() => void} hurry stops the running answer, for the sake of the next message
 * @property {() => void} onChange the conversation may be empty, or run, where it did not before
 * @property {(text: string) => void} announce tells those who listen to the page
 * @property {() => void} onFreshSession the user wants another session
 */

/** What tells of a turn. Frames of other types are not for us, whatever fields they have. */
const OF_TURNS = new Set([
  "user_message",
  "start",
  "routed",
  "tool_call",
  "tool_result",
  "follow_up",
  "token",
  "draft",
  "error",
  "done",
]);

export class Conversation {
  #place;
  #callbacks;
  /** @type {Map<string, Turn>} */
  #turns = new Map();
  /** @type {Turn | null} */
  #latest = null;
  #running = 0;
  /** Messages without a receipt. @type {Map<string, HTMLElement>} */
  #unheard = new Map();
  /** Messages with a receipt, but without a turn. */
  #waiting;
  /** What is shown below the last turn of a session that has ended. @type {Ending | null} */
  #ending = null;
  /** Replayed news is old; it is not read out. */
  isLive = false;

  /** @param {HTMLElement} place @param {Callbacks} callbacks */
  constructor(place, callbacks) {
    this.#place = place;
    this.#callbacks = callbacks;
    this.#waiting = new WaitingMessages(place, callbacks.hurry);
  }

  get isEmpty() {
    return this.#place.childElementCount === 0;
  }

  /** Whether an answer is forming, or waited for. */
  get isRunning() {
    return this.#running > 0;
  }

  clear() {
    this.#place.replaceChildren();
    this.#turns.clear();
    this.#latest = null;
    this.#running = 0;
    this.#unheard.clear();
    this.#waiting.clear();
    this.#ending = null;
    this.#callbacks.onChange();
  }

  /** Shows a message that is on its way. @param {string} id @param {string} text */
  send(id, text) {
    const state = element("p", { class: "receipt" }, "Sending…");
    const said = element("p", { class: "text" }, text);
    const shown = element("div", { class: "said", "data-state": "sending" }, said, state);
    this.#unheard.set(id, shown);
    this.#place.append(shown);
    this.#callbacks.onChange();
  }

  /** The server did not take a message. @param {string} id @param {string} why */
  refuse(id, why) {
    const shown = this.#unheard.get(id);
    if (!shown) return false;
    this.#unheard.delete(id);
    shown.dataset.state = "refused";
    const state = shown.querySelector(".receipt");
    state?.replaceChildren(why);
    state?.setAttribute("role", "alert");
    return true;
  }

  /** A message will not be sent by itself; the user may send it again. @param {string} id @param {string} why */
  giveUp(id, why) {
    const shown = this.#unheard.get(id);
    if (!shown) return;
    const text = shown.querySelector(".text")?.textContent ?? "";
    const again = element("button", { type: "button", class: "again" }, "Send again");
    again.addEventListener("click", () => {
      if (this.#callbacks.say(text)) shown.remove();
    });
    this.refuse(id, why);
    shown.querySelector(".receipt")?.append(again);
  }

  /** Shows that the session ends here, unless that is shown already. */
  end() {
    if (this.#ending === null) {
      this.#ending = new Ending(this.#callbacks.onFreshSession);
      this.#place.append(this.#ending.element);
      this.#callbacks.onChange();
    }
    return this.#ending;
  }

  /** @param {Frame} frame */
  apply(frame) {
    switch (frame.type) {
      case "client_connected":
        if (frame.reopened) this.#reopened();
        return;
      case "message_queued":
        return this.#queued(frame);
      case "session_ended":
        return this.end().ended(String(frame.reason));
      case "session_summarized":
        return this.end().summarized(frame.status, frame.summary);
      default:
        if (OF_TURNS.has(frame.type) && typeof frame.turn_id === "string") {
          this.#applyToTurn(frame.turn_id, frame);
        }
    }
  }

  /** @param {string} id @param {Frame} frame */
  #applyToTurn(id, frame) {
    const turn = this.#turns.get(id) ?? this.#begin(id);
    if (frame.type === "user_message") this.#received(turn, frame);
    turn.apply(frame);
    if (frame.type !== "done") return;
    this.#running -= 1;
    this.#callbacks.onChange();
    if (this.isLive) this.#callbacks.announce(turn.text);
  }

  /** @param {string} id */
  #begin(id) {
    this.#latest?.pass();
    const turn = new Turn(id, this.#callbacks.say);
    this.#latest = turn;
    this.#running += 1;
    this.#turns.set(id, turn);
    // What waits comes after what has a turn, and last of all what is not yet received.
    this.#place.insertBefore(turn.element, this.#waiting.first ?? this.#firstUnheard);
    this.#callbacks.onChange();
    return turn;
  }

  get #firstUnheard() {
    const [first] = this.#unheard.values();
    return first ?? null;
  }

  /** The receipt of a message that has to wait for its turn. @param {Frame} frame */
  #queued(frame) {
    const sent = this.#unheard.get(String(frame.id));
    this.#unheard.delete(String(frame.id));
    sent?.remove();
    this.#waiting.add(frame, this.#firstUnheard);
    this.#callbacks.onChange();
  }

  /** The receipt of a message: from now on its turn shows it. @param {Turn} turn @param {Frame} frame */
  #received(turn, frame) {
    if (typeof frame.queued_seq === "number") this.#waiting.remove(frame.queued_seq);
    const shown = typeof frame.id === "string" ? this.#unheard.get(frame.id) : undefined;
    if (!shown) return;
    this.#unheard.delete(frame.id);
    shown.replaceWith(turn.element);
  }

  #reopened() {
    this.#ending?.superseded();
    this.#ending = null;
    this.#place.append(element("p", { class: "divider" }, "The session goes on"));
    // What waits to be said belongs after that.
    this.#place.append(...this.#unheard.values());
  }
}

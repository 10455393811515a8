// Messages that the server has not yet acknowledged. After a lost connection they are sent again
// under the same ids, which the server stores and answers once.

import { uuid } from "./uuid.js";

/** @typedef {{ type: "message", message: string, id: string }} MessageFrame */

export class Outbox {
  /** @type {Map<string, MessageFrame>} by their ids, in the order of their writing */
  #waiting = new Map();

  /** @param {string} message */
  add(message) {
    /** @type {MessageFrame} */
    const frame = { type: "message", message, id: uuid() };
    this.#waiting.set(frame.id, frame);
    return frame;
  }

  /** The server has stored it, or refused it: either way it need not be sent again. @param {string} id */
  settle(id) {
    this.#waiting.delete(id);
  }

  /** What to send, in order. */
  frames() {
    return [...this.#waiting.values()];
  }

  /** Gives all messages up, and says which they were. */
  drain() {
    const ids = [...this.#waiting.keys()];
    this.#waiting.clear();
    return ids;
  }
}

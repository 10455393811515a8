// Messages that the server has not yet acknowledged. After a lost connection they are sent again
// under the same ids, which the server stores and answers once.

import { uuid } from "./uuid.js";

export class Outbox {
  /** @type {Map<string, string>} ids to texts, in the order of their writing */
  #waiting = new Map();

  /** @param {string} text @returns {string} the message's id */
  add(text) {
    const id = uuid();
    this.#waiting.set(id, text);
    return id;
  }

  /** The server has stored it, or refused it: either way it need not be sent again. @param {string} id */
  settle(id) {
    this.#waiting.delete(id);
  }

  /** @returns {object[]} the frames to send, in order */
  frames() {
    return [...this.#waiting].map(([id, text]) => Outbox.frame(id, text));
  }

  /** Gives all messages up, and says which they were. @returns {string[]} their ids */
  drain() {
    const ids = [...this.#waiting.keys()];
    this.#waiting.clear();
    return ids;
  }

  /** @param {string} id @param {string} text */
  static frame(id, text) {
    return { type: "message", message: text, id };
  }
}

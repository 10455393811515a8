// Messages that the server has not yet acknowledged. After a lost connection they are sent again
// under the same ids, which the server stores and answers once. A message that was the first without
// a receipt when several connections were lost is probably the cause, and is given up.

import { uuid } from "./uuid.js";

/** @typedef {{ type: "message", message: string, id: string }} MessageFrame */

/** After so many lost connections a message is given up. */
export const LOSSES_MAX = 3;

const encoder = new TextEncoder();

export class Outbox {
  /** @type {Map<string, MessageFrame>} by their ids, in the order of their writing */
  #waiting = new Map();
  /** Ids of messages that were sent over this connection. @type {Set<string>} */
  #sent = new Set();
  /** Lost connections in which a message was the first without a receipt. @type {Map<string, number>} */
  #losses = new Map();

  /** @param {string} message */
  add(message) {
    const frame = messageFrame(message, uuid());
    this.#waiting.set(frame.id, frame);
    return frame;
  }

  /** The server has stored it, or refused it: either way it need not be sent again. @param {string} id */
  settle(id) {
    this.#waiting.delete(id);
    this.#losses.delete(id);
  }

  /** A message is sent over this connection. @param {string} id */
  sent(id) {
    this.#sent.add(id);
  }

  /** Removes the messages that are too big for the server, and returns their ids. @param {number} bytesMax */
  removeTooBig(bytesMax) {
    const ids = this.frames().filter((frame) => bytesOf(frame) > bytesMax).map(({ id }) => id);
    for (const id of ids) this.settle(id);
    return ids;
  }

  /** The connection is lost. Returns the id of the message that is given up, or null. */
  connectionLost() {
    const first = this.frames().find(({ id }) => this.#sent.has(id));
    this.#sent.clear();
    if (!first) return null;
    const losses = (this.#losses.get(first.id) ?? 0) + 1;
    this.#losses.set(first.id, losses);
    if (losses < LOSSES_MAX) return null;
    this.settle(first.id);
    return first.id;
  }

  /** What to send, in order. */
  frames() {
    return [...this.#waiting.values()];
  }

  /** Gives all messages up, and says which they were. */
  drain() {
    const ids = [...this.#waiting.keys()];
    this.#waiting.clear();
    this.#sent.clear();
    this.#losses.clear();
    return ids;
  }
}

/** The size of the frame of a message, as the server counts it. @param {string} message */
export function messageBytes(message) {
  return bytesOf(messageFrame(message, uuid()));
}

/** @param {string} message @param {string} id @returns {MessageFrame} */
function messageFrame(message, id) {
  return { type: "message", message, id };
}

/** @param {MessageFrame} frame */
function bytesOf(frame) {
  return encoder.encode(JSON.stringify(frame)).length;
}

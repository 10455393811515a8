// One session's connection: a socket, and the next one when it is lost. It follows the section
// "Resuming" of `docs/protocol.md`: it knows the last event it saw, asks for what came after it, and
// passes every event on exactly once and in order, whatever happens to the sockets beneath.

import { Backoff } from "./backoff.js";
import { LOSSES_MAX, messageBytes, Outbox } from "./outbox.js";
import { finalRefusal } from "./refusal.js";
import { FrameSocket } from "./socket.js";

/** @typedef {import("./address.js").ServerAddress} ServerAddress */
/** @typedef {import("./address.js").Identity} Identity */
/** @typedef {import("./socket.js").Frame} Frame */
/** @typedef {"connecting" | "open" | "reconnecting" | "closing" | "closed"} Phase */
/**
 * @typedef {object} Listener
 * @property {(phase: Phase, detail: string) => void} onPhase
 * @property {(frame: Frame) => void} onFrame news: each event once, and all that is no event
 * @property {(direction: "in" | "out", frame: Frame) => void} onTraffic all that passes, for show
 * @property {() => void} onForget the log that was known is gone; what it said does not hold
 * @property {(why: string) => void} onTokenWanted the server wants a token, or a better one
 * @property {(messageIds: string[], why: string) => void} onGiveUp these messages will not be sent again
 */

/** After these the client does not come back by itself. */
const FINAL_CLOSES = new Map([
  [1000, "The session has ended."],
  [1002, "The server could not read what was sent."],
  [1007, "The server could not read what was sent."],
  [1009, "The message was too long for the server."],
  [4404, "There is no such session, or it belongs to another user."],
]);
/** After this it comes back with another token only. */
const TOKEN_CLOSE = 4401;

/** What a message is answered by: either of its receipts, or a refusal. */
const ANSWERS = new Set(["user_message", "message_queued", "error"]);

const RECONNECT = { firstMs: 500, mostMs: 30_000 };
/** A connection that held this long was a good one: the next pause is short again. */
const GOOD_AFTER_MS = 10_000;

export class Connection {
  #server;
  #identity;
  #listener;
  #outbox = new Outbox();
  #backoff = new Backoff(RECONNECT);
  /** @type {FrameSocket | null} */
  #socket = null;
  /** @type {Phase} */
  #phase = "closed";
  #lastSeq = 0;
  /** Names the history in which that event was seen. @type {string | null} */
  #logId = null;
  /** Whether this socket began the session. */
  #isNew = false;
  /** The largest message that the server accepts, in bytes; unknown before the first connection. */
  #messageBytesMax = Infinity;
  /** As asked by `goaway`: when, at the earliest, to come back. */
  #notBefore = 0;
  #retryTimer = 0;

  /** @param {ServerAddress} server @param {Identity} identity @param {Listener} listener */
  constructor(server, identity, listener) {
    this.#server = server;
    this.#identity = identity;
    this.#listener = listener;
    window.addEventListener("online", this.#retryNow);
  }

  get server() {
    return this.#server;
  }

  get identity() {
    return this.#identity;
  }

  /** The last event of the session's log that has arrived; 0 if none has. */
  get lastSeq() {
    return this.#lastSeq;
  }

  get phase() {
    return this.#phase;
  }

  /** Connects; also again, after it was closed, and then perhaps with another token. */
  open(token = this.#identity.token) {
    if (this.#phase !== "closed") return;
    this.#identity = { ...this.#identity, token };
    this.#backoff.reset();
    this.#enter("connecting");
    this.#dial();
  }

  /** Why the server would not accept a message; empty if it would. @param {string} text */
  problemOf(text) {
    const bytes = messageBytes(text);
    return bytes > this.#messageBytesMax ? tooLong(bytes, this.#messageBytesMax) : "";
  }

  /**
   * Sends a user's message: now if the session listens, otherwise as soon as it does.
   *
   * @param {string} text
   * @returns {string} the id under which its receipt will come
   */
  say(text) {
    const frame = this.#outbox.add(text);
    if (this.#phase === "open") this.#transmit(frame);
    return frame.id;
  }

  /** Asks for the running turn to be stopped. */
  cancel() {
    if (this.#phase === "open") this.#socket?.send({ type: "cancel" });
  }

  /** Says that the user is done, which ends the session. */
  close() {
    if (this.#phase === "closed" || this.#phase === "closing") return;
    if (this.#socket?.isOpen) {
      this.#enter("closing");
      this.#socket.close();
    } else {
      this.#finish("The server was not reached, so it ends the session by itself after a while.");
    }
  }

  /** Releases everything. Nothing is called afterwards; the session is left as it is. */
  dispose() {
    window.removeEventListener("online", this.#retryNow);
    this.#drop();
    this.#phase = "closed";
  }

  // From here on: what a socket brings.

  #dial() {
    const url = new URL(this.#server.socket(this.#identity));
    url.searchParams.set("after", String(this.#lastSeq));
    if (this.#logId !== null) url.searchParams.set("log_id", this.#logId);
    // The server may be set to speak bare text to those who do not ask.
    url.searchParams.set("frames", "json");
    try {
      this.#socket = new FrameSocket(url, this.#identity.token, {
        onFrame: (frame) => this.#receive(frame),
        onSent: (frame) => this.#listener.onTraffic("out", frame),
        onEnd: ({ code, wasOpen }) => void this.#ended(code, wasOpen),
      });
    } catch {
      this.#finish("The browser forbids this address; a page from https needs a server with wss.");
    }
  }

  /** @param {Frame} frame */
  #receive(frame) {
    this.#listener.onTraffic("in", frame);
    // Only the first frame has it; the event in a replay does not.
    if (typeof frame.resumed === "boolean") {
      this.#logId = typeof frame.log_id === "string" ? frame.log_id : null;
      this.#isNew = !frame.resumed;
      // The session is new to the server: what the page shows is from a log that is gone.
      if (this.#isNew && this.#lastSeq > 0) this.#forget();
    }
    if (typeof frame.message_bytes_max === "number") this.#messageBytesMax = frame.message_bytes_max;
    // Also an event that was seen before may be the receipt of a message that was sent twice.
    const isAnswer = ANSWERS.has(frame.type);
    if (isAnswer && typeof frame.id === "string") this.#outbox.settle(frame.id);
    if (typeof frame.seq === "number" && frame.type !== "replayed") {
      if (frame.seq <= this.#lastSeq) return;
      this.#lastSeq = frame.seq;
    }
    this.#listener.onFrame(frame);
    this.#follow(frame);
  }

  /** What a frame means for the connection itself. @param {Frame} frame */
  #follow(frame) {
    switch (frame.type) {
      case "session_started":
        // A session that existed before replays first; what waits to be sent may be in there.
        if (frame.resumed === false) this.#settle();
        break;
      case "replayed":
        this.#settle();
        break;
      case "goaway": {
        const asked = Number(frame.reconnect_after_ms);
        // Somewhat later than asked, so that not all come back at once.
        this.#notBefore = Date.now() + asked * (1 + Math.random());
        break;
      }
      case "auth_required":
        this.#wantToken("The server wants a token.");
        break;
      case "error":
        // In a new session the page already has nothing left, and the log is coming in.
        if (frame.code === "unknown_position" && !this.#isNew) {
          this.#forget();
          this.#lose("The server has lost a part of the session.");
        }
        break;
    }
  }

  /** The session listens: sends what has waited for that. */
  #settle() {
    if (this.#phase === "closing") return;
    this.#enter("open");
    const tooBig = this.#outbox.removeTooBig(this.#messageBytesMax);
    if (tooBig.length > 0) this.#listener.onGiveUp(tooBig, "Not sent: it is too long for the server");
    for (const frame of this.#outbox.frames()) this.#transmit(frame);
  }

  /** @param {import("./outbox.js").MessageFrame} frame */
  #transmit(frame) {
    this.#outbox.sent(frame.id);
    this.#socket?.send(frame);
  }

  #forget() {
    this.#lastSeq = 0;
    this.#listener.onForget();
  }

  // From here on: how sockets end, and what follows.

  /** @param {number} code @param {boolean} wasOpen */
  async #ended(code, wasOpen) {
    const socket = this.#socket;
    const final = FINAL_CLOSES.get(code);
    if (this.#phase === "closing") this.#finish("");
    else if (code === TOKEN_CLOSE) this.#wantToken("The token has expired.");
    else if (final !== undefined) this.#finish(final);
    else if (wasOpen) this.#lose("The connection was lost.");
    else {
      const refusal = await finalRefusal(this.#server, this.#identity);
      // Meanwhile the user may have decided otherwise.
      if (this.#socket !== socket) return;
      if (refusal?.wantsToken) this.#wantToken(`Refused: ${refusal.why}.`);
      else if (refusal !== null) this.#finish(`Refused: ${refusal.why}.`);
      else this.#lose("The server cannot be reached.");
    }
  }

  /** Comes back after a pause. @param {string} why */
  #lose(why) {
    if (this.#socket && this.#socket.age > GOOD_AFTER_MS) this.#backoff.reset();
    this.#drop();
    const cause = this.#outbox.connectionLost();
    if (cause !== null) {
      this.#listener.onGiveUp([cause], `Not sent: the connection was lost ${LOSSES_MAX} times after it`);
    }
    const pause = Math.max(this.#backoff.next(), this.#notBefore - Date.now());
    this.#retryTimer = window.setTimeout(() => this.#dial(), pause);
    this.#enter("reconnecting", why);
  }

  /** The network is back: no need to wait any longer. */
  #retryNow = () => {
    if (this.#phase !== "reconnecting" || this.#socket !== null) return;
    window.clearTimeout(this.#retryTimer);
    this.#dial();
  };

  /** Comes back when there is another token. @param {string} why */
  #wantToken(why) {
    this.#finish(why);
    this.#listener.onTokenWanted(why);
  }

  /** Does not come back by itself. @param {string} why empty if the user wants it so */
  #finish(why) {
    this.#drop();
    const givenUp = this.#outbox.drain();
    if (givenUp.length > 0) this.#listener.onGiveUp(givenUp, "Not sent");
    this.#enter("closed", why);
  }

  #drop() {
    window.clearTimeout(this.#retryTimer);
    this.#socket?.drop();
    this.#socket = null;
  }

  /** @param {Phase} phase */
  #enter(phase, detail = "") {
    this.#phase = phase;
    this.#listener.onPhase(phase, detail);
  }
}

/** @param {number} bytes @param {number} bytesMax */
function tooLong(bytes, bytesMax) {
  const [size, limit] = [bytes, bytesMax].map((count) => count.toLocaleString("en"));
  return `The message has ${size} bytes, and the server accepts ${limit}. Shorten it, or send it in parts.`;
}

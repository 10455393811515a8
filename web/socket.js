// One WebSocket that carries frames. It notices a peer that is silently gone, which browsers do not,
// and tells its end exactly once.

/** @typedef {{ type: string, seq?: number, [field: string]: any }} Frame */
/**
 * How a socket ended.
 *
 * @typedef {object} End
 * @property {number} code of the close frame; 1006 if there was none
 * @property {boolean} wasOpen whether it ever carried anything
 */
/**
 * @typedef {object} SocketListener
 * @property {(frame: Frame) => void} onFrame
 * @property {(frame: Frame) => void} onSent
 * @property {(end: End) => void} onEnd nothing is called after it
 */

/** What is given as the code where there was no close frame; see RFC 6455. */
const CLOSE_MISSING = 1006;
/** Our own: we drop a socket, but are not done with the session. */
const CLOSE_DROPPED = 4000;

/** How long the server may take to accept, and to answer a close frame. */
const DIAL_TIMEOUT_MS = 15_000;
const CLOSE_TIMEOUT_MS = 3_000;
/** Between two pings. A server that sends nothing for so long is lost. */
const PING_INTERVAL_MS = 20_000;

export class FrameSocket {
  #socket;
  /** @type {SocketListener | null} null once it has ended */
  #listener;
  #openedAt = 0;
  #pingUnanswered = false;
  #pingTimer = 0;
  /** For dialling first, and for closing later. */
  #patience;

  /**
   * @param {URL} url
   * @param {string} token empty if there is none; it is a subprotocol, since browsers set no headers
   * @param {SocketListener} listener
   * @throws where the browser forbids the address
   */
  constructor(url, token, listener) {
    this.#socket = new WebSocket(url, token === "" ? [] : ["duologue", `duologue.bearer.${token}`]);
    this.#listener = listener;
    this.#patience = window.setTimeout(() => this.#end(CLOSE_MISSING), DIAL_TIMEOUT_MS);
    this.#socket.addEventListener("open", () => this.#opened());
    this.#socket.addEventListener("message", ({ data }) => {
      this.#pingUnanswered = false;
      this.#listener?.onFrame(read(String(data)));
    });
    this.#socket.addEventListener("close", ({ code }) => this.#end(code));
  }

  get isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** How long it has been open, in milliseconds. */
  get age() {
    return this.#openedAt === 0 ? 0 : Date.now() - this.#openedAt;
  }

  /** @param {Frame} frame */
  send(frame) {
    if (!this.isOpen) return;
    this.#socket.send(JSON.stringify(frame));
    this.#listener?.onSent(frame);
  }

  /** Says that the user is done. What was sent before still arrives. */
  close() {
    this.#socket.close(1000, "done");
    this.#patience = window.setTimeout(() => this.#end(CLOSE_MISSING), CLOSE_TIMEOUT_MS);
  }

  /** Closes it and calls the listener no more. */
  drop() {
    this.#listener = null;
    this.#end(CLOSE_DROPPED);
  }

  #opened() {
    window.clearTimeout(this.#patience);
    this.#openedAt = Date.now();
    this.#pingTimer = window.setInterval(() => this.#ping(), PING_INTERVAL_MS);
  }

  #ping() {
    if (this.#pingUnanswered) {
      this.#end(CLOSE_MISSING);
      return;
    }
    this.#pingUnanswered = true;
    this.send({ type: "ping" });
  }

  /** @param {number} code */
  #end(code) {
    window.clearTimeout(this.#patience);
    window.clearInterval(this.#pingTimer);
    if (this.#socket.readyState < WebSocket.CLOSING) this.#socket.close(CLOSE_DROPPED, "dropped");
    const listener = this.#listener;
    this.#listener = null;
    listener?.onEnd({ code, wasOpen: this.#openedAt > 0 });
  }
}

/** @param {string} text @returns {Frame} */
function read(text) {
  try {
    const frame = JSON.parse(text);
    if (typeof frame?.type === "string") return frame;
  } catch {
    // Not JSON: told apart below, with what is JSON but no frame.
  }
  return { type: "unreadable", text };
}

// The demo page: puts its parts together.

import { authorization } from "./address.js";
import { Bottom } from "./bottom.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { Conversation } from "./conversation.js";
import { byId } from "./dom.js";
import { EventPanel } from "./event_panel.js";
import { IdentityForm } from "./identity.js";
import { Status } from "./status.js";
import { awaitSummary } from "./summary.js";

/** @typedef {import("./socket.js").Frame} Frame */
/** @typedef {import("./connection.js").Phase} Phase */

class Demo {
  #identity = new IdentityForm({ onConnect: () => this.#connect("composer") });
  #status = new Status({ onDisconnect: () => this.#connection?.close() });
  #composer = new Composer({
    onSay: (text) => this.#say(text),
    onStop: () => this.#connection?.cancel(),
  });
  #events = new EventPanel();
  #conversation = new Conversation(byId("turns", HTMLElement), {
    say: (text) => this.#say(text),
    hurry: () => {
      this.#connection?.cancel();
      this.#composer.focus();
    },
    onChange: () => this.#conversationChanged(),
    announce: (text) => byId("announcement", HTMLElement).replaceChildren(`Assistant: ${text}`),
    onFreshSession: () => this.#startAfresh(),
  });
  #bottom = new Bottom(
    byId("log", HTMLElement),
    byId("log-content", HTMLElement),
    byId("to-bottom", HTMLButtonElement),
  );
  #notice = byId("notice", HTMLElement);
  /** @type {Connection | null} */
  #connection = null;
  /** Stops the waiting for a summary. */
  #waiting = new AbortController();

  constructor() {
    for (const example of document.querySelectorAll("#examples button")) {
      example.addEventListener("click", () => this.#say(example.textContent ?? ""));
    }
    byId("notice-close", HTMLButtonElement).addEventListener("click", () => {
      this.#notice.hidden = true;
      this.#composer.focus();
    });
    byId("identity", HTMLFormElement).addEventListener("input", () => this.#showRoot());
    this.#showRoot();
    this.#conversationChanged();
  }

  /** Connects as the form says, unless it is wrong. @param {"composer"} [focus] where to go then */
  #connect(focus) {
    const wanted = this.#identity.read();
    if (!wanted) return false;
    const { server, userId, sessionId, token } = wanted;
    const known = this.#connection;
    const isSame =
      known?.server.root === server.root &&
      known.identity.userId === userId &&
      known.identity.sessionId === sessionId;
    if (!known || !isSame) {
      known?.dispose();
      this.#events.clear();
      this.#conversation.clear();
      this.#connection = new Connection(server, { userId, sessionId, token }, this.#listener());
    }
    this.#waiting.abort();
    this.#notice.hidden = true;
    this.#connection?.open(token);
    if (focus === "composer") this.#composer.focus();
    return true;
  }

  /** @returns {import("./connection.js").Listener} */
  #listener() {
    return {
      onPhase: (phase, detail) => this.#phaseChanged(phase, detail),
      onFrame: (frame) => this.#apply(frame),
      onTraffic: (direction, frame) => this.#events.add(direction, frame),
      onTokenWanted: (why) => this.#identity.wantToken(why),
      onForget: () => this.#conversation.clear(),
      onGiveUp: (ids, why) => {
        for (const id of ids) this.#conversation.giveUp(id, why);
      },
    };
  }

  /** Says something in the user's name; connects for it if need be. False: not sent. @param {string} text */
  #say(text) {
    const isClosed = !this.#connection || this.#connection.phase === "closed";
    if (isClosed && !this.#connect()) return false;
    const connection = this.#connection;
    if (!connection) return false;
    const problem = connection.problemOf(text);
    if (problem !== "") {
      this.#notify(problem);
      return false;
    }
    this.#conversation.send(connection.say(text), text);
    this.#bottom.go();
    this.#composer.focus();
    return true;
  }

  /** @param {Frame} frame */
  #apply(frame) {
    this.#conversation.apply(frame);
    const ofTurn = typeof frame.turn_id === "string";
    if (frame.type === "error" && !ofTurn) this.#refused(frame);
    if (frame.type === "degraded") this.#notify("The server cannot store anything for now, and goes on trying.");
    if (frame.type === "recovered") this.#notify("The server can store again.");
    if (frame.type === "auth_expiring") this.#notify("The token expires soon; then a fresh one is asked for.");
    if (frame.type === "goaway") this.#notify(goAwayNotice(frame));
  }

  /** @param {Frame} error a request was refused */
  #refused(error) {
    const why = String(error.message);
    const shown = typeof error.id === "string" && this.#conversation.refuse(error.id, `Not taken: ${why}`);
    if (!shown) this.#notify(`The server refused: ${why}`);
  }

  /** @param {Phase} phase @param {string} detail */
  #phaseChanged(phase, detail) {
    this.#status.show(phase, detail);
    this.#identity.locked = phase !== "closed";
    this.#conversation.isLive = phase === "open";
    if (phase === "open") this.#notice.hidden = true;
    if (phase === "closed") void this.#showEnding();
    this.#conversationChanged();
  }

  /** The session is over or will soon be: waits for its summary. */
  async #showEnding() {
    const connection = this.#connection;
    if (!connection || connection.lastSeq === 0) return;
    this.#waiting.abort();
    const waiting = (this.#waiting = new AbortController());
    const ending = this.#conversation.end();
    const { identity, server } = connection;
    const url = server.session(identity);
    try {
      const why = await awaitSummary(url, authorization(identity), waiting.signal, (facts) => ending.show(facts));
      if (why !== null) ending.unknown(why);
    } catch (error) {
      // Somebody connects again; then there is nothing to wait for.
      if (!waiting.signal.aborted) throw error;
    }
  }

  #startAfresh() {
    this.#identity.renew();
    this.#connect("composer");
  }

  #conversationChanged() {
    // An answer that was forming when the session was left comes to its end without us.
    const isRunning = this.#connection?.phase === "open" && this.#conversation.isRunning;
    this.#composer.running = isRunning;
    byId("empty", HTMLElement).hidden = !this.#conversation.isEmpty;
    byId("log", HTMLElement).setAttribute("aria-busy", String(isRunning));
  }

  /** @param {string} text */
  #notify(text) {
    byId("notice-text", HTMLElement).textContent = text;
    this.#notice.hidden = false;
  }

  #showRoot() {
    const { server } = this.#identity;
    if (server) byId("api-link", HTMLAnchorElement).href = server.root;
  }
}

/** @param {Frame} frame a `goaway` */
function goAwayNotice(frame) {
  return frame.reason === "age"
    ? "This connection has reached its maximum age. The page reconnects; the session continues."
    : "The server is restarting. The page reconnects; the session continues.";
}

new Demo();

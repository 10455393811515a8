// The end of a session: why and after how long, and its summary as soon as there is one. What it
// shows comes from the session's events or from asking for its facts; both say the same.

import { element } from "./dom.js";
import { duration } from "./format.js";

/** @typedef {import("./summary.js").SessionFacts} SessionFacts */

const REASONS = new Map([
  ["closed", "You disconnected"],
  ["requested", "You asked for it"],
  ["abandoned", "The connection was lost and nobody came back"],
  ["idle", "Nobody said anything for a while"],
]);

export class Ending {
  element;
  #heading = element("h2", {}, "Connection closed");
  #why = element("p", { class: "ending-why" });
  #summary = element("p", { class: "text summary" });
  #progress = element(
    "p",
    { class: "ending-progress", role: "status" },
    "Waiting for the server to end the session…",
  );
  /** @type {number | undefined} */
  #seconds;
  #fresh = element("button", { type: "button", class: "button button-quiet" }, "New session");

  /** @param {() => void} onFreshSession */
  constructor(onFreshSession) {
    this.#summary.hidden = true;
    this.#fresh.addEventListener("click", onFreshSession);
    this.element = element(
      "section",
      { class: "ending", "aria-label": "Session summary", "data-state": "waiting" },
      this.#heading,
      this.#why,
      this.#summary,
      this.#progress,
      this.#fresh,
    );
  }

  /** @param {string} reason @param {number} [seconds] how long the session was, if known */
  ended(reason, seconds) {
    this.#heading.textContent = "Session ended";
    const facts = [REASONS.get(reason) ?? reason];
    this.#seconds = seconds ?? this.#seconds;
    if (this.#seconds !== undefined) facts.push(`it lasted ${duration(this.#seconds * 1_000)}`);
    this.#why.textContent = facts.join(" · ");
    if (this.element.dataset.state === "waiting") this.#say("ended", "Writing the summary…");
  }

  /** @param {string} status @param {string | null | undefined} summary */
  summarized(status, summary) {
    if (status === "done" && summary) {
      this.#summary.textContent = summary;
      this.#summary.hidden = false;
      this.#say("summarized", "");
    } else if (status === "done") {
      this.#say("summarized", "Nothing was said, so there is nothing to summarise.");
    } else if (status === "failed") {
      this.#say("failed", "The summary could not be made. The conversation itself is kept.");
    }
  }

  /** Everything that is known of it. @param {SessionFacts} facts */
  show(facts) {
    if (facts.end_reason === null) return;
    this.ended(facts.end_reason, facts.duration_seconds ?? undefined);
    if (facts.status === "completed") this.summarized(facts.summary_status ?? "failed", facts.summary);
  }

  /** Nobody is going to tell more. @param {string} why */
  unknown(why) {
    this.#say("unknown", why);
  }

  /** The session goes on; this was not its end. */
  superseded() {
    this.#fresh.hidden = true;
    if (this.element.dataset.state !== "summarized") {
      this.#say("superseded", "The session continued before this part was summarised.");
    }
  }

  /** @param {string} state @param {string} progress */
  #say(state, progress) {
    this.element.dataset.state = state;
    this.#progress.textContent = progress;
    this.#progress.hidden = progress === "";
  }
}

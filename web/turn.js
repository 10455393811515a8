// One turn on the page: what the user said, what was done about it, and the answer.

import { element } from "./dom.js";
import { FollowUpCard } from "./follow_up.js";
import { AnswerText } from "./answer_text.js";
import { counted, duration } from "./format.js";
import { ToolCard } from "./tool_card.js";

/** @typedef {import("./socket.js").Frame} Frame */

/** How an answer ended, where that is not as it should be. */
const UNUSUAL_ENDS = new Map([
  ["length", "Cut off: the answer reached its limit"],
  ["cancelled", "Stopped"],
  ["error", "Failed"],
  ["interrupted", "Interrupted: the server went away"],
]);

export class Turn {
  element;
  /** Whether its answer is complete, or as complete as it will be. */
  isOver = false;
  #say;
  #question = "";
  #steps = element("div", { class: "steps" });
  #answer = element("p", { class: "text" });
  #answerBlock = element("div", { class: "answer" }, speaker("Assistant"), this.#answer);
  #forming = new AnswerText(this.#answer);
  /** @type {Map<string, ToolCard>} */
  #tools = new Map();
  /** @type {FollowUpCard | null} */
  #followUp = null;

  /** @param {string} id @param {(text: string) => void} say speaks in the user's name */
  constructor(id, say) {
    this.#say = say;
    this.#answerBlock.hidden = true;
    this.element = element(
      "section",
      { class: "turn", "data-turn": id, "data-state": "running" },
      this.#steps,
      this.#answerBlock,
    );
  }

  /** The answer as far as it is known. */
  get text() {
    return this.#forming.text;
  }

  /** Applies one frame of this turn. @param {Frame} frame */
  apply(frame) {
    switch (frame.type) {
      case "user_message":
        return this.#heard(frame);
      case "start":
        return this.#started();
      case "routed":
        return this.#routed(frame);
      case "tool_call":
        return this.#called(frame);
      case "tool_result":
        return this.#returned(frame);
      case "follow_up":
        return this.#asked(frame);
      case "token":
        this.#started();
        return this.#forming.append(Number(frame.index), String(frame.token));
      case "draft":
        this.#started();
        return this.#forming.replace(String(frame.text), Number(frame.next_index));
      case "error":
        return this.#failed(frame);
      case "done":
        return this.#done(frame);
    }
  }

  /** A later message has come: what was asked here waits no longer. */
  pass() {
    this.#followUp?.close();
  }

  /** @param {Frame} frame */
  #heard(frame) {
    this.#question = String(frame.text);
    this.element.prepend(
      element("div", { class: "said" }, speaker("You"), element("p", { class: "text" }, this.#question)),
    );
  }

  #started() {
    if (!this.isOver) this.#answerBlock.hidden = false;
  }

  /** @param {Frame} frame */
  #routed(frame) {
    const tool = frame.tool ? [" → ", element("code", {}, String(frame.tool))] : [];
    this.#steps.append(
      element("p", { class: "routed" }, "Routed to ", element("code", {}, String(frame.route)), ...tool),
    );
  }

  /** @param {Frame} frame */
  #called(frame) {
    const card = new ToolCard(frame);
    this.#tools.set(String(frame.call_id), card);
    this.#steps.append(card.element);
    return card;
  }

  /** @param {Frame} frame */
  #returned(frame) {
    const card = this.#tools.get(String(frame.call_id)) ?? this.#called(frame);
    card.finish(frame);
  }

  /** @param {Frame} frame */
  #asked(frame) {
    this.#followUp = new FollowUpCard(frame, this.#say);
    // Below the question, which is the answer's text.
    this.element.append(this.#followUp.element);
  }

  /** @param {Frame} frame */
  #failed(frame) {
    const notice = element(
      "div",
      { class: "notice notice-bad", role: "alert" },
      element("p", {}, sentence(String(frame.message))),
    );
    if (frame.retryable) {
      const again = element("button", { type: "button", class: "button button-quiet" }, "Ask again");
      again.addEventListener("click", () => this.#say(this.#question));
      notice.append(again);
    }
    this.element.append(notice);
  }

  /** @param {Frame} frame */
  #done(frame) {
    this.isOver = true;
    this.#forming.finish(String(frame.text));
    this.#answerBlock.hidden = this.#forming.text === "";
    for (const card of this.#tools.values()) card.abandon();
    const reason = String(frame.finish_reason);
    this.element.dataset.state = UNUSUAL_ENDS.has(reason) ? reason : "done";
    this.element.append(outcome(frame, UNUSUAL_ENDS.get(reason)));
  }
}

/** What the answer cost. @param {Frame} done @param {string | undefined} unusual */
function outcome(done, unusual) {
  const facts = [`answered in ${duration(Number(done.duration_ms))}`];
  if (typeof done.ttft_ms === "number") facts.push(`first words after ${duration(done.ttft_ms)}`);
  if (done.usage) facts.push(counted(Number(done.usage.output_tokens), "token"));
  if (done.model && done.model !== "none") facts.push(String(done.model));
  const line = element("p", { class: "outcome" });
  if (unusual) {
    const why = done.error ? ` (${String(done.error).replaceAll("_", " ")})` : "";
    line.append(element("strong", {}, unusual + why), " · ");
  }
  line.append(facts.join(" · "));
  return line;
}

/** Says who speaks, to those who do not see it. @param {string} name */
function speaker(name) {
  return element("span", { class: "visually-hidden" }, `${name}: `);
}

/** @param {string} text */
function sentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

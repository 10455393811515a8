// One use of a tool: what it is called, with which arguments, and what came of it.

import { element } from "./dom.js";
import { duration } from "./format.js";

/** @typedef {import("./socket.js").Frame} Frame */

export class ToolCard {
  #state = element("span", { class: "tool-state" }, "running…");
  #facts = element("dl", { class: "tool-facts" });
  element;

  /** @param {Frame} call the frame `tool_call`, or `tool_result` where the call was not seen */
  constructor(call) {
    this.element = element(
      "details",
      { class: "tool", "data-state": "running", "data-call": String(call.call_id) },
      element(
        "summary",
        {},
        element("span", { class: "tool-kind" }, "Tool"),
        element("code", { class: "tool-name" }, String(call.name)),
        this.#state,
      ),
      this.#facts,
    );
    if ("arguments" in call) this.#fact("Arguments", call.arguments);
  }

  /** @param {Frame} result the frame `tool_result` */
  finish(result) {
    const failed = "error" in result;
    const took = duration(Number(result.duration_ms));
    this.element.dataset.state = failed ? "failed" : "done";
    this.#state.textContent = failed ? `failed after ${took}` : `done in ${took}`;
    if (failed) this.#fact("Error", result.error);
    else this.#fact("Result", result.result);
    // What went wrong should not have to be looked for.
    if (failed) this.element.open = true;
  }

  /** The turn is over without a result. */
  abandon() {
    if (this.element.dataset.state !== "running") return;
    this.element.dataset.state = "abandoned";
    this.#state.textContent = "no result";
  }

  /** @param {string} name @param {unknown} value */
  #fact(name, value) {
    const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    this.#facts.append(element("dt", {}, name), element("dd", {}, element("pre", {}, text)));
  }
}

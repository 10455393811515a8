// A question that a tool waits for: what is missing, as a small form made from its JSON Schema. The
// question itself is the answer's text and is shown there.

import { element } from "./dom.js";

/** @typedef {import("./socket.js").Frame} Frame */

export class FollowUpCard {
  element;
  /** @type {Map<string, HTMLInputElement | HTMLSelectElement>} */
  #fields = new Map();
  #submit = element("button", { type: "submit", class: "button button-quiet" }, "Answer");

  /**
   * @param {Frame} frame the frame `follow_up`
   * @param {(text: string) => void} onAnswer what to say in the user's name
   */
  constructor(frame, onAnswer) {
    /** @type {string[]} */
    const missing = Array.isArray(frame.missing) ? frame.missing.map(String) : [];
    const names = missing.flatMap((name, index) => [
      index > 0 ? ", " : "",
      element("code", {}, name),
    ]);
    const form = element("form", { class: "follow-up-form", autocomplete: "off" });
    for (const name of missing) {
      const schema = frame.schema?.properties?.[name] ?? {};
      const id = `follow-up-${frame.seq}-${name}`;
      const field = fieldFor(id, schema);
      this.#fields.set(name, field);
      form.append(
        element(
          "div",
          { class: "field" },
          element("label", { for: id }, String(schema.title ?? name.replaceAll("_", " "))),
          field,
        ),
      );
    }
    form.append(this.#submit);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      onAnswer(this.#answer());
    });
    this.element = element(
      "div",
      { class: "follow-up", role: "group", "aria-label": "Follow-up question" },
      element(
        "p",
        { class: "follow-up-what" },
        element("strong", {}, "Follow-up question"),
        " · ",
        element("code", {}, String(frame.tool)),
        " needs ",
        ...names,
      ),
      form,
    );
  }

  /** The conversation has gone on; the form is only a record now. */
  close() {
    for (const field of this.#fields.values()) field.disabled = true;
    this.#submit.disabled = true;
    this.element.dataset.state = "closed";
  }

  /** What was filled in, as the server reads it from an ordinary message. */
  #answer() {
    const given = [...this.#fields].map(([name, { value }]) => `${name}=${quoted(value.trim())}`);
    return given.join(", ");
  }
}

/** @param {string} id @param {Record<string, any>} schema */
function fieldFor(id, schema) {
  const description = String(schema.description ?? "");
  if (Array.isArray(schema.enum)) {
    const options = schema.enum.map((choice) => element("option", {}, String(choice)));
    return element("select", { id, required: true, title: description }, ...options);
  }
  const example = schema.examples?.[0];
  const numeric = schema.type === "integer" || schema.type === "number";
  return element("input", {
    id,
    required: true,
    title: description,
    inputmode: numeric ? "decimal" : "text",
    placeholder: example === undefined ? description : `such as ${example}`,
  });
}

/** A value with white space in it would be taken for several. @param {string} value */
function quoted(value) {
  return /[\s,;]/.test(value) ? `"${value.replaceAll('"', "'")}"` : value;
}

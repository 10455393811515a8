// The text of an answer while it forms. Pieces are appended to one text node, at most once per
// animation frame, so that a fast model costs the page no more than a slow one.

export class AnswerText {
  #node = document.createTextNode("");
  /** What has arrived since the last frame. */
  #unshown = "";
  #nextIndex = 0;
  #animationFrame = 0;

  /** @param {HTMLElement} place */
  constructor(place) {
    place.append(this.#node);
  }

  /** All the text there is, shown or about to be. */
  get text() {
    return this.#node.data + this.#unshown;
  }

  /**
   * The next piece. One that is there already is ignored; so is one behind a gap, since the whole
   * text is going to follow.
   *
   * @param {number} index
   * @param {string} piece
   */
  append(index, piece) {
    if (index !== this.#nextIndex) return;
    this.#nextIndex += 1;
    this.#unshown += piece;
    this.#animationFrame ||= requestAnimationFrame(() => this.#show());
  }

  /** All the text so far. @param {string} text @param {number} nextIndex of the piece to follow */
  replace(text, nextIndex) {
    this.#nextIndex = nextIndex;
    if (text === this.text) return;
    this.#unshown = "";
    this.#node.data = text;
  }

  /** The whole text; nothing follows. @param {string} text */
  finish(text) {
    cancelAnimationFrame(this.#animationFrame);
    this.#show();
    this.replace(text, Infinity);
  }

  #show() {
    this.#animationFrame = 0;
    if (this.#unshown === "") return;
    this.#node.appendData(this.#unshown);
    this.#unshown = "";
  }
}

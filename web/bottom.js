// Keeps the end of a growing list in view, but only for a user who is there. A user who has scrolled up
// to read stays there, and is offered a way back.

/** This near to the end counts as being there, in CSS pixels. */
const NEAR_PX = 48;

export class Bottom {
  #viewport;
  #back;
  #follows = true;
  #lastTop = 0;

  /**
   * @param {HTMLElement} viewport what scrolls
   * @param {HTMLElement} content what grows in it
   * @param {HTMLButtonElement} back leads to the end
   */
  constructor(viewport, content, back) {
    this.#viewport = viewport;
    this.#back = back;
    viewport.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    back.addEventListener("click", () => this.go());
    // Comes after layout and before paint, once however much has been added.
    const observer = new ResizeObserver(() => this.#grown());
    observer.observe(content);
    observer.observe(viewport);
  }

  /** Goes to the end and stays there. */
  go() {
    this.#follows = true;
    this.#grown();
  }

  #scrolled() {
    const { scrollTop } = this.#viewport;
    // The event of the page's own scrolling comes late, when more may have been added below. So being
    // far from the end says nothing; only going up does.
    if (this.#distance < NEAR_PX) this.#follows = true;
    else if (scrollTop < this.#lastTop) this.#follows = false;
    this.#lastTop = scrollTop;
    this.#back.hidden = this.#follows;
  }

  #grown() {
    if (this.#follows) this.#viewport.scrollTop = this.#viewport.scrollHeight;
    this.#back.hidden = this.#follows;
  }

  get #distance() {
    const { scrollHeight, scrollTop, clientHeight } = this.#viewport;
    return scrollHeight - scrollTop - clientHeight;
  }
}

// Growing, random pauses between attempts, so that many clients do not come back at once.

/** Random pauses up to a bound that doubles with each attempt. */
export class Backoff {
  #first;
  #most;
  #attempts = 0;

  /** @param {{ firstMs: number, mostMs: number }} bounds of the first pause, and of any */
  constructor({ firstMs, mostMs }) {
    this.#first = firstMs;
    this.#most = mostMs;
  }

  /** The next pause, in milliseconds. */
  next() {
    const bound = Math.min(this.#most, this.#first * 2 ** this.#attempts);
    this.#attempts += 1;
    // Never less than a tenth: a pause of nothing would hammer a server that refuses at once.
    return bound * (0.1 + 0.9 * Math.random());
  }

  reset() {
    this.#attempts = 0;
  }
}

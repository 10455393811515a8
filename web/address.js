// Where the server is, and the addresses of its parts.

/** What the host field means where a page has no server of its own, as one opened from a file. */
const HOST_WITHOUT_ORIGIN = "localhost:8000";

/**
 * Who talks, and in which session. With a token the server knows the user by that, and `userId` is
 * not said; an empty one is none.
 *
 * @typedef {{ sessionId: string, userId: string, token: string }} Identity
 */

/** What a request over HTTP proves the user by. @param {Identity} identity @returns {HeadersInit} */
export function authorization({ token }) {
  return token === "" ? {} : { Authorization: `Bearer ${token}` };
}

/** A Duologue server. */
export class ServerAddress {
  /** @type {URL} an http or https address that ends with a slash */
  #base;

  /** @param {URL} base */
  constructor(base) {
    this.#base = base;
  }

  /**
   * Reads what stands in the host field: `example.com:8000`, or with a scheme, or with a path in
   * front of which a proxy serves it. Without a scheme it is as safe as the page itself.
   *
   * @param {string} text
   * @returns {ServerAddress | null} null if it is no address
   */
  static read(text, page = window.location) {
    const given = text.trim() || ServerAddress.ofPage(page);
    const safe = page.protocol === "https:";
    const full = given.includes("://") ? given : `${safe ? "https" : "http"}://${given}`;
    // `ws:` and `http:` name the same server; only http addresses can be extended and fetched.
    const http = full.replace(/^ws(s?):/i, "http$1:");
    if (!/^https?:/i.test(http) || !URL.canParse(http)) return null;
    const base = new URL(http);
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    base.search = "";
    base.hash = "";
    return new ServerAddress(base);
  }

  /** What to suggest in the host field. */
  static ofPage(page = window.location) {
    return page.host || HOST_WITHOUT_ORIGIN;
  }

  get root() {
    return this.#base.href;
  }

  get ready() {
    return new URL("readyz", this.#base).href;
  }

  /** @param {Identity} identity */
  session({ sessionId, userId, token }) {
    const url = new URL(`v1/sessions/${encodeURIComponent(sessionId)}`, this.#base);
    if (token === "") url.searchParams.set("user_id", userId);
    return url.href;
  }

  /** Where sockets are opened; the session's id follows. */
  get sockets() {
    const url = new URL("ws/session/", this.#base);
    url.protocol = this.#base.protocol === "https:" ? "wss:" : "ws:";
    return url.href;
  }

  /** @param {Identity} identity */
  socket({ sessionId, userId, token }) {
    const url = new URL(encodeURIComponent(sessionId), this.sockets);
    if (token === "") url.searchParams.set("user_id", userId);
    return url.href;
  }
}

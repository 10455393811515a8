// Who talks, in which session, with which server: the form at the top, and what it remembers.

import { ServerAddress } from "./address.js";
import { byId } from "./dom.js";
import { uuid } from "./uuid.js";

/** As `docs/protocol.md` has it, so that a mistake shows before anything is sent. */
// One dot, or two, would be a path and not a name.
const SESSION_ID = /^(?!\.{1,2}$)[A-Za-z0-9._:-]{1,128}$/;
const USER_ID = /^[^\p{Cc}]{1,128}$/u;
const USER_ID_DEFAULT = "user-1";
/** What a token can be made of; nothing else can be sent in a handshake. */
const TOKEN = /^[A-Za-z0-9._~+/=-]*$/;

/** The form with user, session and server; and a token, once a server has wanted one. */
export class IdentityForm {
  #form = byId("identity", HTMLFormElement);
  #user = byId("user-id", HTMLInputElement);
  #session = byId("session-id", HTMLInputElement);
  #host = byId("host", HTMLInputElement);
  #token = byId("token", HTMLInputElement);
  #tokenField = byId("token-field", HTMLElement);
  #fresh = byId("new-session", HTMLButtonElement);
  #brief = byId("identity-brief", HTMLButtonElement);
  #briefText = byId("identity-brief-text", HTMLElement);

  /** @param {{ onConnect: () => void }} callbacks */
  constructor({ onConnect }) {
    const query = new URLSearchParams(window.location.search);
    this.#user.value = query.get("user") ?? recall("user") ?? USER_ID_DEFAULT;
    this.#session.value = query.get("session") ?? recall("session") ?? uuid();
    this.#host.value = query.get("host") ?? "";
    this.#host.placeholder = ServerAddress.ofPage();
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      onConnect();
    });
    this.#form.addEventListener("input", () => this.#show());
    this.#fresh.addEventListener("click", () => this.renew());
    this.#brief.addEventListener("click", () => this.#expand(!this.#expanded));
    this.#show();
  }

  /** Takes a new session id. */
  renew() {
    this.#session.value = uuid();
    this.#show();
  }

  /**
   * What the fields say. If something in them cannot be, says so beside the field, moves the focus
   * there, and returns null.
   */
  read() {
    const userId = this.#user.value.trim();
    const sessionId = this.#session.value.trim();
    const server = ServerAddress.read(this.#host.value);
    const token = this.#token.value.trim();
    const wrong = [
      complain(this.#user, USER_ID.test(userId) ? "" : "Write 1 to 128 characters."),
      complain(this.#session, SESSION_ID.test(sessionId) ? "" : "Use 1 to 128 of A–Z a–z 0–9 . _ : -"),
      complain(this.#host, server ? "" : "Write a host, such as example.com:8000."),
      complain(this.#token, TOKEN.test(token) ? "" : "A token is letters, digits and dots."),
    ].find((field) => field !== null);
    if (wrong) {
      this.#expand(true);
      wrong.focus();
    }
    if (wrong || !server) return null;
    remember("user", userId);
    remember("session", sessionId);
    // The token is in nothing that outlives the page.
    return { userId, sessionId, server, token };
  }

  /** Asks for a token, since the server does. @param {string} why */
  wantToken(why) {
    this.#tokenField.hidden = false;
    this.#token.value = "";
    complain(this.#token, why);
    this.#expand(true);
    this.#token.focus();
  }

  /** The server that the host field names, if it names one. */
  get server() {
    return ServerAddress.read(this.#host.value);
  }

  /** While connected the fields tell what is; they cannot be changed. @param {boolean} locked */
  set locked(locked) {
    for (const field of [this.#user, this.#session, this.#host, this.#token]) field.readOnly = locked;
    this.#fresh.disabled = locked;
    if (locked) this.#expand(false);
  }

  get #expanded() {
    return this.#brief.getAttribute("aria-expanded") === "true";
  }

  // Only small screens fold the fields away; see `layout.css`.
  #expand(/** @type {boolean} */ expanded) {
    this.#brief.setAttribute("aria-expanded", String(expanded));
  }

  #show() {
    const session = this.#session.value.slice(0, 8) || "…";
    this.#briefText.textContent = `${this.#user.value || "…"} · ${session}`;
  }
}

/** @param {HTMLInputElement} field @param {string} complaint empty if all is well */
function complain(field, complaint) {
  const place = byId(`${field.id}-complaint`, HTMLElement);
  place.textContent = complaint;
  field.setAttribute("aria-invalid", String(complaint !== ""));
  return complaint ? field : null;
}

/** @param {string} name */
function recall(name) {
  try {
    return sessionStorage.getItem(`duologue.${name}`);
  } catch {
    // The browser forbids storage here; then a reload starts afresh.
    return null;
  }
}

/** @param {string} name @param {string} value */
function remember(name, value) {
  try {
    sessionStorage.setItem(`duologue.${name}`, value);
  } catch {
    // As above.
  }
}

// Why a handshake was refused. Browsers tell a page nothing but that it failed, so we ask the same
// server over HTTP, which answers with a status and a sentence.

/** @typedef {import("./address.js").ServerAddress} ServerAddress */
/** @typedef {import("./address.js").Identity} Identity */
/**
 * What is wrong, in words, and whether a token would fix it.
 *
 * @typedef {{ why: string, wantsToken: boolean }} Refusal
 */

import { authorization } from "./address.js";

/** How long to wait for the explanation. */
const ASK_TIMEOUT_MS = 4_000;

/**
 * @param {ServerAddress} server
 * @param {Identity} identity
 * @returns {Promise<Refusal | null>} what is wrong, if trying again cannot help; otherwise null
 */
export async function finalRefusal(server, identity) {
  const headers = authorization(identity);
  const answer = await ask(server.session(identity), headers);
  if (answer === null) return null;
  const final = async (wantsToken = false) => ({ why: await sentence(answer), wantsToken });
  if (answer.status === 401) return final(true);
  if (answer.status === 400 || answer.status === 403) return final();
  if (answer.status !== 404) return null;
  // A session that does not exist yet would have been created, if only the server were ready. If it
  // is, then the session is someone else's.
  const ready = await ask(server.ready);
  return ready?.ok ? final() : null;
}

/**
 * @param {string} url
 * @param {HeadersInit} headers
 * @returns {Promise<Response | null>} null if there is no answer
 */
async function ask(url, headers = {}) {
  try {
    return await fetch(url, { cache: "no-store", headers, signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
  } catch {
    // Not reachable, or not readable from this page: that explains nothing, so we go on trying.
    return null;
  }
}

/** @param {Response} answer */
async function sentence(answer) {
  try {
    const { error } = await answer.json();
    return String(error.message);
  } catch {
    return `the server refused with status ${answer.status}`;
  }
}

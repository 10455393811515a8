// Why a handshake was refused. Browsers tell a page nothing but that it failed, so we ask the same
// server over HTTP, which answers with a status and a sentence.

/** @typedef {import("./address.js").ServerAddress} ServerAddress */
/** @typedef {import("./address.js").Identity} Identity */

/** How long to wait for the explanation. */
const ASK_TIMEOUT_MS = 4_000;

/**
 * @param {ServerAddress} server
 * @param {Identity} identity
 * @returns {Promise<string | null>} what is wrong, if trying again cannot help; otherwise null
 */
export async function finalRefusal(server, identity) {
  const answer = await ask(server.session(identity));
  if (answer === null) return null;
  if (answer.status === 400 || answer.status === 403) return sentence(answer);
  if (answer.status !== 404) return null;
  // A session that does not exist yet would have been created, if only the server were ready. If it
  // is, then the session is someone else's.
  const ready = await ask(server.ready);
  return ready?.ok ? sentence(answer) : null;
}

/** @param {string} url @returns {Promise<Response | null>} null if there is no answer */
async function ask(url) {
  try {
    return await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
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

// Waits for a session's summary: asks for the session's facts, with growing pauses, until they say
// that it is completed.

import { Backoff } from "./backoff.js";

/**
 * As `GET /v1/sessions/{session_id}` answers; only what the page uses.
 *
 * @typedef {object} SessionFacts
 * @property {"active" | "ended" | "completed"} status
 * @property {number | null} duration_seconds
 * @property {string | null} summary
 * @property {"pending" | "done" | "failed" | null} summary_status
 * @property {string | null} end_reason
 */

const PAUSE = { firstMs: 400, mostMs: 8_000 };
/** A lost session is ended after a grace, and then a model writes; beyond this something is wrong. */
const PATIENCE_MS = 5 * 60_000;

/**
 * @param {string} url of the session
 * @param {HeadersInit} headers that prove who asks
 * @param {AbortSignal} signal stops the asking
 * @param {(facts: SessionFacts) => void} onFacts called with each answer, the last one included
 * @returns {Promise<string | null>} null when completed; otherwise why nothing more will come
 */
export async function awaitSummary(url, headers, signal, onFacts) {
  const backoff = new Backoff(PAUSE);
  const deadline = Date.now() + PATIENCE_MS;
  while (Date.now() < deadline) {
    const facts = await ask(url, headers, signal);
    if (facts === "gone") return "The server knows nothing of this session.";
    signal.throwIfAborted();
    if (facts !== null) {
      onFacts(facts);
      if (facts.status === "completed") return null;
    }
    await pause(backoff.next(), signal);
  }
  return "The summary is not there yet. Connect to the session later to see it.";
}

/**
 * @param {string} url
 * @param {HeadersInit} headers
 * @param {AbortSignal} signal
 * @returns {Promise<SessionFacts | "gone" | null>}
 */
async function ask(url, headers, signal) {
  try {
    const answer = await fetch(url, { cache: "no-store", headers, signal });
    if (answer.status === 404) return "gone";
    return answer.ok ? await answer.json() : null;
  } catch (error) {
    signal.throwIfAborted();
    // Not reachable for the moment; the next attempt may be luckier.
    console.debug("the session's facts could not be fetched", error);
    return null;
  }
}

/** @param {number} milliseconds @param {AbortSignal} signal @returns {Promise<void>} */
function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = window.setTimeout(done, milliseconds);
    signal.addEventListener("abort", stopped);
    function done() {
      signal.removeEventListener("abort", stopped);
      resolve();
    }
    function stopped() {
      window.clearTimeout(timer);
      reject(signal.reason);
    }
  });
}

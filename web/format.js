// Numbers and times in words for people.

/** @param {number} milliseconds */
export function duration(milliseconds) {
  if (milliseconds < 1) return "under 1 ms";
  if (milliseconds < 1_000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1_000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1_000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @param {Date} moment */
export function clockTime(moment) {
  const digits = (/** @type {number} */ value, length = 2) => String(value).padStart(length, "0");
  const parts = [moment.getHours(), moment.getMinutes(), moment.getSeconds()];
  return `${parts.map((part) => digits(part)).join(":")}.${digits(moment.getMilliseconds(), 3)}`;
}

/** @param {number} count @param {string} noun */
export function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * How often and how fast: every number that keeps many clients from being a burden, in one place.
 *
 * What the platform forces: API Gateway closes a connection after 10 minutes without a message, and after 2 hours in any case.
 */

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** Of a ping after the one before. */
export const HEARTBEAT = { from: 4 * MINUTE, to: 5 * MINUTE };

/** How long a pong may take before the connection counts as dead. */
export const PONG_TIMEOUT = 10 * SECOND;

/** How old a connection is when the next one takes its place. */
export const ROTATION = { from: 105 * MINUTE, to: 115 * MINUTE };

/** How long until a rotation that failed is tried again: there is time for some before the 2 hours are over. */
export const ROTATION_RETRY = { from: 30 * SECOND, to: 60 * SECOND };

/** How long a handshake may take. */
export const OPEN_TIMEOUT = 10 * SECOND;

/**
 * Over which time those come back who lost their connection at once: 10,000 of them in 40 s are 250 a second, well under the 500 that API
 * Gateway takes, also where chance crowds them.
 */
export const RECONNECT_SPREAD = 40 * SECOND;

/** The longest that spread grows to while coming back fails. */
export const RECONNECT_LIMIT = 5 * MINUTE;

/** How long a connection must have lasted for the next loss to be a first one. */
export const STABLE_AFTER = MINUTE;

/** Over which time the feed is asked again when asking failed. */
export const PULL_RETRY = { first: 2 * SECOND, limit: MINUTE };

/**
 * A moment between two others.
 *
 * @param {{ from: number, to: number }} span in milliseconds
 * @param {() => number} random
 */
export function between(span, random) {
  return span.from + random() * (span.to - span.from);
}

/**
 * Full jitter: anywhere in a window that doubles with each failure.
 *
 * @param {number} failures that came before
 * @param {{ first: number, limit: number }} window in milliseconds
 * @param {() => number} random
 */
export function fullJitter(failures, window, random) {
  return random() * Math.min(window.first * 2 ** Math.min(failures, 30), window.limit);
}

/**
 * All intervals and limits in milliseconds that protect the service from many clients.
 *
 * Given by the platform: API Gateway closes a connection after 10 minutes without a message, and after 2 hours in any case.
 */

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/**
 * Time without a message in either direction after which a ping is sent. Browsers delay the timers of a hidden page by up to a minute, so the
 * ping is sent before the 10 minutes are over.
 */
export const HEARTBEAT = { from: 8 * MINUTE, to: 8.75 * MINUTE };

/** Time without a pong after which the connection counts as dead. */
export const PONG_TIMEOUT = 10 * SECOND;

/** Age at which a connection is replaced by a new one. */
export const ROTATION = { from: 105 * MINUTE, to: 115 * MINUTE };

/** Delay before a failed rotation is tried again. There is time for several attempts before the 2 hours are over. */
export const ROTATION_RETRY = { from: 30 * SECOND, to: 60 * SECOND };

/** Timeout of a handshake. */
export const OPEN_TIMEOUT = 10 * SECOND;

/**
 * Time over which clients reconnect that lost their connections at once. 10,000 clients in 40 s are 250 a second, well below API Gateway's
 * limit of 500 also with random clusters.
 */
export const RECONNECT_SPREAD = 40 * SECOND;

/** Upper limit to which this time grows while reconnecting fails. */
export const RECONNECT_LIMIT = 5 * MINUTE;

/** Age of a connection from which its loss counts as the first failure again. */
export const STABLE_AFTER = MINUTE;

/**
 * Interval of reading the feed while no WebSocket can be opened. If WebSockets fail for all of 10,000 clients, they read it 222 times a second.
 */
export const POLL_INTERVAL = { from: 30 * SECOND, to: MINUTE };

/** Back-off of failed requests for the feed. */
export const PULL_RETRY = { first: 2 * SECOND, limit: MINUTE };

/**
 * Returns a random time within a span.
 *
 * @param {{ from: number, to: number }} span in milliseconds
 * @param {() => number} random
 */
export function between(span, random) {
  return span.from + random() * (span.to - span.from);
}

/**
 * Full jitter: returns a random delay within a window that doubles with each failure.
 *
 * @param {number} failures number of earlier failures
 * @param {{ first: number, limit: number }} window in milliseconds
 * @param {() => number} random
 */
export function fullJitter(failures, window, random) {
  return random() * Math.min(window.first * 2 ** Math.min(failures, 30), window.limit);
}

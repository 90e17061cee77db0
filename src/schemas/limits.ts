/** Limits that both sides of the executor's door keep. */

/** Minutes that an item of the store may live: a thousand years, so that its end is a date. */
export const MAX_TTL_MINUTES = 525_600_000;

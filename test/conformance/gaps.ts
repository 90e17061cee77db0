/** Behaviours our server does not have yet, and why. One that passes after all fails the run: take it out then. */
export const GAPS: Readonly<Record<string, string>> = {};

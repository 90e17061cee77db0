/** Behaviours our server does not have yet, and why. One that passes after all fails the run: take it out then. */
export const GAPS: Readonly<Record<string, string>> = {
  "threads.create.ttl-of-run":
    "One page of the documentation says so in passing; a time to live is given to the thread itself.",
};

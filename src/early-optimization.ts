/**
 * V8 optimises a function when it has run for long enough to be worth it, by thresholds that fit a browser's page. A server runs
 * the same code for weeks, and a short run of a graph goes through a thousand functions once each: measured on Node 20, the first
 * 2,500 runs after a start were slower than they could be, and 200 runs after it a stream of two nodes took 4.6 ms instead of 3.2.
 * Optimised earlier, the code ends up as quick as it would anyway.
 */
import { setFlagsFromString } from "node:v8";

/** By the major version of V8; those that are not here are quick enough (Node 24), or not measured. */
const FLAGS: Readonly<Record<string, string>> = {
  // Node 20; V8's own value is 135168.
  11: "--interrupt-budget=3000",
  // Node 22; V8's own value is 3000.
  12: "--invocation-count-for-turbofan=300",
};

/** The flag for this version of V8, as `process.versions.v8` says it; undefined when it gets none. */
export const flagFor = (v8: string): string | undefined => FLAGS[v8.split(".")[0] ?? ""];

/** To be called before executor threads start: what they run counts from their start. */
export function optimizeEarly(): void {
  const flag = flagFor(process.versions.v8);
  if (flag !== undefined) setFlagsFromString(flag);
}

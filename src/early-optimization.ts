/**
 * V8 optimises a function when it has run for long enough to be worth it, by thresholds that fit a browser's page. A server runs
 * the same code for weeks, and a short run of a graph goes through a thousand functions once each: measured on Node 20, the first
 * 2,500 runs after a start were slower than they could be, and 200 runs after it a stream of two nodes took 4.6 ms instead of 3.2.
 * Optimised earlier, the code ends up as quick as it would anyway.
 */
import { setFlagsFromString } from "node:v8";

interface Threshold {
  readonly flag: string;
  readonly early: number;
  /** V8's own value. */
  readonly usual: number;
}

/** By the major version of V8; those that are not here are quick enough (Node 24), or not measured. */
const THRESHOLDS: Readonly<Record<string, Threshold>> = {
  // Node 20
  11: { flag: "--interrupt-budget", early: 3000, usual: 135_168 },
  // Node 22
  12: { flag: "--invocation-count-for-turbofan", early: 300, usual: 3000 },
};

/** For this version of V8, as `process.versions.v8` says it; undefined when it is left as it is. */
export const thresholdOf = (v8: string): Threshold | undefined => THRESHOLDS[v8.split(".")[0] ?? ""];

/**
 * To be called when the server is up: what only a start runs is not worth it, and cost a quarter of the start. A process that
 * was started with a value of its own keeps it.
 */
export function optimizeEarly(): void {
  const threshold = thresholdOf(process.versions.v8);
  if (threshold === undefined) return;
  const { flag, early } = threshold;
  if (!process.execArgv.some((arg) => arg.startsWith(`${flag}=`))) setFlagsFromString(`${flag}=${early}`);
}

/**
 * Ids of checkpoints are times (UUID version 6), and the newest id of a thread is its state. LangGraph takes them from the clock of the
 * machine it runs on: on one that is behind another's, what a run writes would lie behind what the run before wrote on the other, and
 * the thread's next run would not see it. So nothing begins before the clock has passed the thread's newest checkpoint. Between machines
 * that keep time that is milliseconds.
 */
import { setTimeout as sleep } from "node:timers/promises";

/** Longer is no difference between clocks that somebody keeps. */
const PATIENCE_MS = 5000;
/** From the beginning of the Gregorian calendar to that of Unix, in the ticks of such ids: 100 nanoseconds. */
const TICKS_BEFORE_1970 = 0x01b21dd213814000n;
const TICKS_PER_MS = 10_000n;
const TIME_ORDERED = /^([0-9a-f]{8})-([0-9a-f]{4})-6([0-9a-f]{3})-/i;

/** When the id was made, epoch milliseconds; undefined when it does not say. */
export function madeAt(checkpoint_id: string): number | undefined {
  const match = TIME_ORDERED.exec(checkpoint_id);
  if (match === null) return undefined;
  const [, high = "", middle = "", low = ""] = match;
  return Number((BigInt(`0x${high}${middle}${low}`) - TICKS_BEFORE_1970) / TICKS_PER_MS);
}

export class ClockError extends Error {
  override readonly name = "ClockError";
}

/** Resolves when ids made from now on are newer than this one. Throws ClockError when that would take long. */
export async function passed(checkpoint_id: string, signal?: AbortSignal): Promise<void> {
  const made = madeAt(checkpoint_id);
  if (made === undefined) return;
  // Within one millisecond ids of two threads are in no order.
  for (let ahead = made - Date.now(); ahead >= 0; ahead = made - Date.now()) {
    if (ahead > PATIENCE_MS) {
      throw new ClockError(
        `The newest checkpoint of the thread was made ${Math.ceil(ahead / 1000)} s in the future: the clock of this machine is behind ` +
          "that of another, or was set back. What is written now would not be the thread's newest state.",
      );
    }
    await sleep(ahead + 1, undefined, { signal });
  }
}

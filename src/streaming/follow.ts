/** Every event of a run after an index: first what is there, then live, up to the end. No gap, no repeat. */
import type { RunEvent } from "./events.ts";
import type { RunLog } from "./run-log.ts";

export interface FollowLogOptions {
  /** Index of the last event the reader has; -1 from the start. */
  readonly after: number;
  readonly signal: AbortSignal;
  /** Which events the reader wants. */
  readonly wants: (event: string) => boolean;
}

export async function* follow(log: RunLog, options: FollowLogOptions): AsyncGenerator<readonly RunEvent[], void> {
  const { signal, wants } = options;
  let after = options.after;
  // Subscribed before the first read: an event published between a read and the wait must still wake us.
  const bell = new Bell();
  const unsubscribe = log.subscribe(bell.ring);
  signal.addEventListener("abort", bell.ring);
  try {
    while (!signal.aborted) {
      const ended = log.ended;
      const events = await log.read(after);
      const last = events[events.length - 1];
      if (last !== undefined) {
        after = last.id;
        const wanted = events.filter(({ event }) => wants(event));
        if (wanted.length > 0) yield wanted;
      } else if (ended) return;
      else await bell.rung();
    }
  } finally {
    unsubscribe();
    signal.removeEventListener("abort", bell.ring);
  }
}

/** Resolves when the run has ended, or the signal fires. */
export async function untilEnd(log: RunLog, signal: AbortSignal): Promise<void> {
  const options = { after: Number.MAX_SAFE_INTEGER - 1, signal, wants: () => false };
  for await (const _ of follow(log, options));
}

/** Remembers one ring, so that none is lost between two waits. */
export class Bell {
  #rang = false;
  #wake: (() => void) | undefined;

  readonly ring = (): void => {
    this.#rang = true;
    this.#wake?.();
  };

  async rung(): Promise<void> {
    if (!this.#rang) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#rang = false;
  }
}

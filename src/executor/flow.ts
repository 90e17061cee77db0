/** Back-pressure of one run: reading pauses while the main thread has too many of the run's bytes on its plate. */
export interface Flow {
  sent(bytes: number): void;
  taken(bytes: number): void;
  /** Undefined when there is room; else a promise for room. */
  room(): Promise<void> | undefined;
}

export const HIGH_WATER = 4 * 1024 * 1024;

export function createFlow(highWater = HIGH_WATER): Flow {
  let outstanding = 0;
  let wake: (() => void) | undefined;
  let waiting: Promise<void> | undefined;
  return {
    sent(bytes) {
      outstanding += bytes;
    },
    taken(bytes) {
      outstanding -= bytes;
      if (outstanding > highWater || wake === undefined) return;
      wake();
      wake = waiting = undefined;
    },
    room() {
      if (outstanding <= highWater) return undefined;
      waiting ??= new Promise((resolve) => {
        wake = resolve;
      });
      return waiting;
    },
  };
}

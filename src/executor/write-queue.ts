/**
 * Checkpoint writes of one run, in order, in lots: the main thread stores a lot in one transaction.
 *
 * A run that need not wait for its steps to be stored (durability `async`, `exit`) sends at most one lot in a few
 * milliseconds, so that many short steps share a commit and a short run needs none but that of its end. After a pause
 * a write leaves at once: a step that took its time is stored as soon as it is done. After a refusal nothing more is sent.
 */
import type { StoragePort } from "./port.ts";
import type { StorageCall } from "./protocol.ts";

export type WriteCall = Extract<StorageCall, { op: "put_checkpoint" | "put_writes" }>;

export interface WriteQueueOptions {
  /** Least time between two lots, and before the first, milliseconds; 0 sends each write in the turn of the event loop it was made in. */
  readonly gatherMs: number;
  readonly onFailure: (error: Error) => void;
}

export interface WriteQueue {
  /** Resolves when the write is stored. Nobody has to listen: `settled` reports the failure too. */
  add(call: WriteCall): Promise<void>;
  /** Sends what has gathered, without waiting for it: whatever is posted afterwards comes after it. */
  flush(): void;
  /** Drops what has gathered and takes no more: nobody will ever read it. */
  discard(): void;
  /** Sends what has gathered and resolves when all is stored; rejects when a write was refused. */
  settled(): Promise<void>;
}

interface Lot {
  readonly calls: WriteCall[];
  readonly stored: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export function createWriteQueue(port: StoragePort, { gatherMs, onFailure }: WriteQueueOptions): WriteQueue {
  let gathering: Lot | undefined;
  let timer: NodeJS.Timeout | undefined;
  let turn: NodeJS.Immediate | undefined;
  let lastSent = performance.now();
  /** The lots on their way, as one promise: replies come in the order of the calls. */
  let sent: Promise<void> = Promise.resolve();
  let onTheirWay = 0;
  let failure: Error | undefined;
  let discarded = false;

  const fail = (error: Error): void => {
    if (failure !== undefined) return;
    failure = error;
    onFailure(error);
  };

  const store = async (lot: Lot): Promise<void> => {
    onTheirWay += 1;
    try {
      if (failure !== undefined) throw failure;
      await Promise.all(lot.calls.map((call) => port.call(call)));
      lot.resolve();
    } catch (thrown) {
      fail(thrown as Error);
      lot.reject(thrown as Error);
    } finally {
      onTheirWay -= 1;
      if (onTheirWay === 0 && gathering !== undefined) wait();
    }
  };

  const flush = (): void => {
    clearTimeout(timer);
    clearImmediate(turn);
    timer = undefined;
    turn = undefined;
    lastSent = performance.now();
    const lot = gathering;
    gathering = undefined;
    if (lot === undefined) return;
    const stored = store(lot);
    sent = sent.then(() => stored);
  };

  const wait = (): void => {
    const pause = lastSent + gatherMs - performance.now();
    // Not at once: what the same step writes next goes along.
    if (pause <= 0) turn ??= setImmediate(flush);
    else timer ??= setTimeout(flush, pause);
  };

  return {
    flush,
    add(call) {
      if (discarded) return Promise.resolve();
      gathering ??= newLot();
      gathering.calls.push(call);
      const { stored } = gathering;
      // While a lot is on its way the next one gathers: the main thread is busy with us anyway.
      if (onTheirWay === 0) wait();
      return stored;
    },
    discard() {
      discarded = true;
      clearTimeout(timer);
      clearImmediate(turn);
      gathering?.resolve();
      gathering = undefined;
    },
    async settled() {
      flush();
      await sent;
      if (failure !== undefined) throw failure;
    },
  };
}

function newLot(): Lot {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const stored = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  stored.catch(() => undefined);
  return { calls: [], stored, resolve, reject };
}

/** Where event logs keep what does not stay in memory: the event tables, written under the run's lease. */
import type { Storage } from "../storage/storage.ts";
import * as events from "../storage/tables/events.ts";
import * as runs from "../storage/tables/runs.ts";
import type { EventShelf } from "../streaming/event-log.ts";
import type { RunEvent } from "../streaming/events.ts";

const PAGE_CHUNKS = 8;

export interface RemovableShelf extends EventShelf {
  remove(run_id: string): Promise<void>;
}

/** `fenceOf`: the fencing token under which this process holds a run. */
export function eventShelf(storage: Storage, fenceOf: (run_id: string) => number | undefined): RemovableShelf {
  return {
    store({ run_id, thread_id, place }, batch) {
      const fence = fenceOf(run_id);
      const first = batch[0]?.id;
      const last = batch[batch.length - 1]?.id;
      if (fence === undefined || first === undefined || last === undefined) return Promise.resolve(false);
      const chunk = { run_id, first, last, events: JSON.stringify(batch.map(({ event, data }) => [event, data])) };
      return storage.write(
        async (tx) => {
          if (!(await runs.isHeld(tx, run_id, fence))) return false;
          await events.open(tx, run_id, thread_id, place);
          await events.append(tx, chunk);
          return true;
        },
        { durable: false },
      );
    },
    async load(run_id, after) {
      const chunks = await storage.read((db) => events.read(db, run_id, after, PAGE_CHUNKS));
      return chunks.flatMap(({ first, events: text }) => numbered(first, text)).filter(({ id }) => id > after);
    },
    remove(run_id) {
      return storage.write((tx) => events.remove(tx, run_id), { durable: false });
    },
  };
}

/** Removes the events of runs that ended longer ago than the retention. */
export async function sweepEvents(storage: Storage, retentionMs: number): Promise<void> {
  await storage.write((tx) => events.sweep(tx, storage.now() - retentionMs), { durable: false });
}

/** Longer than any run may last. Where others may be alive, only what is older is nobody's. */
export const LEFTOVER_MS = 2 * 86_400_000;

/** To be called before any run is held: removes what an earlier process could not. */
export async function sweepLeftovers(storage: Storage): Promise<void> {
  const made_before = storage.isShared ? storage.now() - LEFTOVER_MS : null;
  await storage.write((tx) => events.sweepLeftovers(tx, made_before), { durable: false });
}

function numbered(first: number, text: string): RunEvent[] {
  const pairs = JSON.parse(text) as [string, string][];
  return pairs.map(([event, data], index) => ({ id: first + index, event, data }));
}

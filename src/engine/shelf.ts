/** Where event logs keep what does not stay in memory: the event tables, written under the run's lease. */
import type { EventChunk, Storage } from "../storage/storage.ts";
import * as departed from "../storage/tables/departed-runs.ts";
import * as events from "../storage/tables/events.ts";
import * as outcomes from "../storage/tables/outcomes.ts";
import * as runs from "../storage/tables/runs.ts";
import type { EventShelf } from "../streaming/event-log.ts";
import type { RunEvent } from "../streaming/events.ts";
import { untilGap } from "../streaming/run-log.ts";

/** A reader has a page in memory: so many chunks, of about so many characters each unless one event is longer. */
const PAGE_CHUNKS = 8;
const CHUNK_CHARACTERS = 512 * 1024;

export interface RemovableShelf extends EventShelf {
  remove(run_id: string): Promise<void>;
}

/** `fenceOf`: the fencing token under which this process holds a run. */
export function eventShelf(storage: Storage, fenceOf: (run_id: string) => number | undefined): RemovableShelf {
  return {
    store({ run_id, thread_id, place }, batch) {
      const fence = fenceOf(run_id);
      if (fence === undefined || batch.length === 0) return Promise.resolve(false);
      const chunks = chunksOf(run_id, batch);
      return storage.write(
        async (tx) => {
          if (!(await runs.isHeld(tx, run_id, fence))) return false;
          await events.open(tx, run_id, thread_id, place);
          await events.append(tx, chunks);
          return true;
        },
        { durable: false },
      );
    },
    async load(run_id, after) {
      const chunks = await storage.read((db) => events.read(db, run_id, after, PAGE_CHUNKS));
      return untilGap(
        chunks.flatMap(({ first, events: text }) => numbered(first, text)).filter(({ id }) => id > after),
      );
    },
    remove(run_id) {
      return storage.write(
        async (tx) => {
          // One that has ended is kept for its time: what spills is not ended, but of a run that is taken back its end is left.
          if ((await events.log(tx, run_id))?.ended_at === null) await events.remove(tx, run_id);
        },
        { durable: false },
      );
    },
  };
}

/** Who waits for a run at another process looks every few seconds. */
const OUTCOME_MS = 120_000;

/** Removes the events of runs that ended longer ago than the retention, outcomes that everybody has seen, and whose such runs were. */
export async function sweepEvents(storage: Storage, retentionMs: number): Promise<void> {
  await storage.write(
    async (tx) => {
      await events.sweep(tx, storage.now() - retentionMs);
      await outcomes.sweep(tx, storage.now() - OUTCOME_MS);
      await departed.sweep(tx, storage.now() - Math.max(retentionMs, OUTCOME_MS));
    },
    { durable: false },
  );
}

/** Longer than any run may last. Where others may be alive, only what is older is nobody's. */
export const LEFTOVER_MS = 2 * 86_400_000;

/** To be called before any run is held: removes what an earlier process could not. */
export async function sweepLeftovers(storage: Storage): Promise<void> {
  const made_before = storage.isShared ? storage.now() - LEFTOVER_MS : null;
  await storage.write((tx) => events.sweepLeftovers(tx, made_before), { durable: false });
}

function chunksOf(run_id: string, batch: readonly RunEvent[]): EventChunk[] {
  const parts: RunEvent[][] = [];
  let size = Number.POSITIVE_INFINITY;
  for (const event of batch) {
    if (size >= CHUNK_CHARACTERS) {
      parts.push([]);
      size = 0;
    }
    parts.at(-1)?.push(event);
    size += event.data.length;
  }
  return parts.map((part) => {
    const first = part[0]?.id ?? 0;
    const events = JSON.stringify(part.map(({ event, data }) => [event, data]));
    return { run_id, first, last: first + part.length - 1, events };
  });
}

function numbered(first: number, text: string): RunEvent[] {
  const pairs = JSON.parse(text) as [string, string][];
  return pairs.map(([event, data], index) => ({ id: first + index, event, data }));
}

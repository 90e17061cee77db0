/**
 * What executor threads ask of the database. Writes are fenced: in the same transaction, the run must
 * still be held under the fencing token of the attempt that asks.
 */
import { type ErrorBody, errorBody, SkeinError } from "../errors.ts";
import type { StorageCall } from "../executor/protocol.ts";
import type { Storage, Tx } from "../storage/storage.ts";
import * as checkpoints from "../storage/tables/checkpoints.ts";
import * as runs from "../storage/tables/runs.ts";
import { together } from "../storage/together.ts";
import type { StorageHandler, StorageRequest } from "./executor-thread.ts";
import type { Store } from "./store.ts";

type Reply = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: ErrorBody };
type Write = Extract<StorageCall, { op: "put_checkpoint" | "put_writes" | "delete_thread_checkpoints" }>;

const FENCED: Reply = {
  ok: false,
  error: { error: "FencedError", message: "this attempt no longer holds the run: a newer one does, or it has ended" },
};

/** Answers batches in order; the writes of one batch share one transaction and one fencing check per run. */
export function storageHandler(storage: Storage, store: Store): StorageHandler {
  return (requests) => {
    const writes = requests.filter(isWrite);
    const written = writes.length === 0 ? undefined : inTurn(storage, writes);
    return Promise.all(
      requests.map(async (request) => {
        if (!isWrite(request))
          return guarded(() => answer(storage, store, request.call as Exclude<StorageCall, Write>));
        const replies = await written;
        return replies?.get(request) ?? FENCED;
      }),
    );
  };
}

const isWrite = (request: StorageRequest): request is StorageRequest & { readonly call: Write } =>
  request.call.op === "put_checkpoint" ||
  request.call.op === "put_writes" ||
  request.call.op === "delete_thread_checkpoints";

type WriteRequest = StorageRequest & { readonly call: Write };

/**
 * SQLite does writes in the order in which they come. On PostgreSQL they run side by side: those of a run wait for each other,
 * and its end waits for the last (`attempts.ts`).
 */
function inTurn(storage: Storage, requests: readonly WriteRequest[]): ReturnType<typeof writeAll> {
  if (!storage.isShared) return writeAll(storage, requests);
  const holds = new Set(requests.flatMap(({ hold }) => hold ?? []));
  const before = [...holds].flatMap(({ writing }) => writing ?? []);
  const written =
    before.length === 0 ? writeAll(storage, requests) : Promise.all(before).then(() => writeAll(storage, requests));
  for (const hold of holds) hold.writing = written;
  return written;
}

async function writeAll(
  storage: Storage,
  requests: readonly WriteRequest[],
): Promise<ReadonlyMap<StorageRequest, Reply>> {
  const durable = requests.some(({ call }) => call.op === "put_checkpoint" && call.durability === "sync");
  try {
    // On PostgreSQL what fails may still be done again.
    const apply = storage.isShared ? applyAll : applyOrMark;
    return await storage.write((tx) => apply(tx, requests), { durable });
  } catch (error) {
    mark(requests, error);
    const failure: Reply = { ok: false, error: errorBody(error) };
    return new Map(requests.map((request) => [request, failure]));
  }
}

/** A failure is marked before the next work of the same commit runs: that may be the run's end. */
async function applyOrMark(tx: Tx, requests: readonly WriteRequest[]): Promise<ReadonlyMap<StorageRequest, Reply>> {
  try {
    return await applyAll(tx, requests);
  } catch (error) {
    mark(requests, error);
    throw error;
  }
}

function mark(requests: readonly WriteRequest[], error: unknown): void {
  for (const { hold } of requests) {
    if (hold === undefined) continue;
    if (hold.failure === undefined && isAway(error)) hold.away = errorBody(error);
    hold.failure ??= errorBody(error);
  }
}

const isAway = (error: unknown): boolean => error instanceof SkeinError && error.kind === "unavailable";

async function applyAll(tx: Tx, requests: readonly WriteRequest[]): Promise<ReadonlyMap<StorageRequest, Reply>> {
  const held = await heldRuns(tx, requests);
  const replies = new Map<StorageRequest, Reply>();
  // Over a network they go out together and are done in order; what deletes does not know what comes before it.
  const isMixed = requests.some(({ call }) => call.op === "delete_thread_checkpoints");
  const works = requests.flatMap((request) => {
    const { call, hold } = request;
    if (hold === undefined || !held.has(call.run_id)) return [];
    hold.hasStored = true;
    replies.set(request, { ok: true, value: null });
    return [() => apply(tx, request.call)];
  });
  if (isMixed) for (const work of works) await work();
  else await together(tx, works);
  return replies;
}

function heldRuns(tx: Tx, requests: readonly WriteRequest[]): Promise<ReadonlySet<string>> {
  const claims = new Map<string, number>();
  for (const { call, hold } of requests) {
    if (hold !== undefined && hold.failure === undefined) claims.set(call.run_id, hold.fence);
  }
  return runs.heldOf(
    tx,
    [...claims].map(([run_id, fence]) => ({ run_id, fence })),
  );
}

function apply(tx: Tx, call: Write): Promise<void> {
  switch (call.op) {
    case "put_checkpoint":
      return checkpoints.put(tx, call.run_id, call.row, call.blobs);
    case "put_writes":
      return checkpoints.putWrites(tx, call.run_id, call.key, call.writes, call.keep_existing);
    case "delete_thread_checkpoints":
      return checkpoints.removeThread(tx, call.thread_id);
    default:
      return call satisfies never;
  }
}

function answer(storage: Storage, store: Store, call: Exclude<StorageCall, Write>): Promise<unknown> {
  switch (call.op) {
    case "get_checkpoint":
      return storage.read((db) => checkpoints.get(db, call.query));
    case "list_checkpoints":
      return storage.read((db) => checkpoints.list(db, call.query));
    case "store":
      return store.run(call.operations);
    default:
      return call satisfies never;
  }
}

async function guarded(work: () => Promise<unknown>): Promise<Reply> {
  try {
    return { ok: true, value: await work() };
  } catch (error) {
    return { ok: false, error: errorBody(error) };
  }
}

/**
 * The executor's side of the MessagePort: what is ready leaves as one array, and storage calls get their replies.
 *
 * A message to another thread costs more than most events, so events wait a few milliseconds for company; what somebody
 * waits for (an end, an answer, a call) takes along everything that is ready, at the end of the same turn of the event loop.
 * A graph may give event after event without ever letting the loop turn: then the event that has waited too long takes itself.
 */
import type { ErrorBody } from "../errors.ts";
import type { AttemptName, FromExecutor, StorageCall, StorageReply, WireEvent } from "./protocol.ts";

/** What the saver and the store need: a call, and its answer. */
export interface StoragePort {
  call<C extends StorageCall>(call: C): Promise<StorageReply[C["op"]]>;
}

export interface ExecutorPort extends StoragePort {
  post(message: FromExecutor): void;
  /** As `post`, and lets go of what is ready at once: no more is to come in this turn that somebody waits for. */
  postLast(message: FromExecutor): void;
  /** As `post`, for what nobody waits for. */
  gather(message: FromExecutor): void;
  /** Queues an event of an attempt; returns its size as `events_taken` will count it. */
  event(attempt: AttemptName, event: WireEvent): number;
  reply(id: number, answer: { ok: true; value: unknown } | { ok: false; error: ErrorBody }): void;
}

interface Waiting {
  readonly resolve: (value: never) => void;
  readonly reject: (reason: Error) => void;
}

/** How long events wait for company, milliseconds: too short to be seen, long enough for many tokens or a short run. */
const GATHER_MS = 5;

export function createPort(send: (batch: readonly FromExecutor[]) => void): ExecutorPort {
  let outbox: FromExecutor[] = [];
  /** Events of a run that may still join the message they are in: nothing of that run was queued after it. */
  let open = new Map<string, { fence: number; events: WireEvent[]; bytes: number }>();
  let leaving = false;
  let timer: NodeJS.Timeout | undefined;
  /** When the first of what gathers came. */
  let since = 0;
  let nextId = 1;
  const waiting = new Map<number, Waiting>();

  const flush = (): void => {
    leaving = false;
    clearTimeout(timer);
    timer = undefined;
    if (outbox.length === 0) return;
    const batch = outbox;
    outbox = [];
    open = new Map();
    send(batch);
  };
  const leave = (): void => {
    if (leaving) return;
    leaving = true;
    setImmediate(flush);
  };
  const queue = (message: FromExecutor): void => {
    outbox.push(message);
    leave();
  };
  /** For messages that can wait for company. */
  const gather = (message: FromExecutor): void => {
    if (outbox.length === 0) since = performance.now();
    outbox.push(message);
    if (!leaving) timer ??= setTimeout(flush, GATHER_MS);
  };
  const flushOverdue = (): void => {
    if (performance.now() - since >= GATHER_MS) flush();
  };

  return {
    post: queue,
    gather,
    postLast(message) {
      outbox.push(message);
      flush();
    },
    event({ run_id, fence }, event) {
      const bytes = event.event.length + event.data.length;
      const group = open.get(run_id);
      if (group?.fence === fence) {
        group.events.push(event);
        group.bytes += bytes;
        flushOverdue();
        return bytes;
      }
      const started = { type: "events" as const, run_id, fence, events: [event], bytes };
      open.set(run_id, started);
      gather(started);
      return bytes;
    },
    call(call) {
      const id = nextId++;
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject });
        queue({ type: "storage", id, call });
      });
    },
    reply(id, answer) {
      const asked = waiting.get(id);
      waiting.delete(id);
      if (asked === undefined) return;
      if (answer.ok) asked.resolve(answer.value as never);
      else asked.reject(storageError(answer.error));
    },
  };
}

function storageError(body: ErrorBody): Error {
  const error = new Error(body.message);
  error.name = body.error;
  return error;
}

/** This attempt no longer holds its run: nothing it writes counts any more. */
export function isFenced(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === "FencedError";
}

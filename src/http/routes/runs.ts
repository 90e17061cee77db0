/** Runs on a thread. */
import { z } from "@hono/zod-openapi";
import { Id } from "../../schemas/ids.ts";
import {
  QueryBoolean,
  QueryCancelOnDisconnect,
  QueryModes,
  QueryRunFields,
  queryInt,
  queryWord,
} from "../../schemas/query.ts";
import { RUN_STATUSES, Run, RunCreateStateful, RunsCancel } from "../../schemas/runs.ts";
import type { RunRequest } from "../../services/contract.ts";
import { RepeatableHeaders } from "../repeatable.ts";
import { requestOf } from "../request.ts";
import { type Answer, mount } from "../route.ts";
import {
  answerRun,
  cancelsWithClient,
  createAndStream,
  createAndWait,
  DisconnectQuery,
  join,
  joinStream,
  ResumeHeaders,
  ResumeQuery,
  resumeAfter,
} from "../run-answers.ts";
import type { Room } from "../types.ts";

const tag = "Thread Runs";
const MAX_LIMIT = 1_000_000;

const onThread = z.object({ thread_id: Id });
const oneRun = onThread.extend({ run_id: Id });
const body = { schema: RunCreateStateful, rule: "required" } as const;
const headers = RepeatableHeaders;
const QueryAction = queryWord(["interrupt", "rollback"]).openapi({ default: "interrupt" });

const LOCATION = { "Content-Location": "The run." };
const RECONNECT = { ...LOCATION, Location: "Where to ask again after a lost connection." };

/** The answers of runs, for both families of paths. */
export const RUN_ANSWERS = {
  run: { description: "The run.", schema: Run, headers: LOCATION },
  stream: {
    description: "Events of the run, until it ends: `event`, `data` (JSON) and `id` (its index).",
    schema: z.string(),
    type: "text/event-stream",
    headers: RECONNECT,
  },
  output: {
    description: "The final output; `__interrupt__` or `__error__` where the run ended so. Whitespace may come first.",
    schema: z.unknown(),
    headers: RECONNECT,
  },
} as const satisfies Record<string, Answer>;

export function runRoutes(room: Room): void {
  creating(room);
  reading(room);
  joining(room);
  cancelling(room);
}

function creating(room: Room): void {
  mount(
    room,
    {
      method: "post",
      path: "/threads/{thread_id}/runs",
      id: "create_run",
      tag,
      summary: "Start a run in the background",
      params: onThread,
      headers,
      body,
      answer: RUN_ANSWERS.run,
      errors: [404, 409, 413, 422],
    },
    async ({ params: { thread_id }, body }, c) => {
      const run = await room.services(c).runs.create(thread_id, body, requestOf(c));
      return answerRun(c, { thread_id, run_id: run.run_id }, run);
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/threads/{thread_id}/runs/stream",
      id: "stream_run",
      tag,
      summary: "Start a run and stream its output",
      params: onThread,
      query: DisconnectQuery,
      headers,
      body,
      answer: RUN_ANSWERS.stream,
      errors: [404, 409, 413, 422],
    },
    ({ params: { thread_id }, query, body }, c) => {
      const create = (from: RunRequest) => room.services(c).runs.create(thread_id, body, from);
      return createAndStream(room, c, { thread_id, create, cancelWithClient: cancelsWithClient(body, query) });
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/threads/{thread_id}/runs/wait",
      id: "wait_run",
      tag,
      summary: "Start a run and wait for its output",
      params: onThread,
      query: DisconnectQuery,
      headers,
      body,
      answer: RUN_ANSWERS.output,
      errors: [404, 409, 413, 422],
    },
    ({ params: { thread_id }, query, body }, c) => {
      const create = (from: RunRequest) => room.services(c).runs.create(thread_id, body, from);
      return createAndWait(room, c, { thread_id, create, cancelWithClient: cancelsWithClient(body, query) });
    },
  );
}

function reading(room: Room): void {
  mount(
    room,
    {
      method: "get",
      path: "/threads/{thread_id}/runs",
      id: "list_runs",
      tag,
      summary: "List the runs of a thread",
      params: onThread,
      query: z.object({
        limit: queryInt(1, MAX_LIMIT, 10),
        offset: queryInt(0, Number.MAX_SAFE_INTEGER, 0),
        status: queryWord(RUN_STATUSES),
        select: QueryRunFields,
      }),
      answer: { description: "Newest first; with `select`, only the fields it names.", schema: z.array(Run.partial()) },
      errors: [404, 422],
    },
    async ({ params: { thread_id }, query: { limit, offset, status = null, select = null } }, c) =>
      c.json(await room.services(c).runs.list(thread_id, { limit, offset, status, select })),
  );

  mount(
    room,
    {
      method: "get",
      path: "/threads/{thread_id}/runs/{run_id}",
      id: "get_run",
      tag,
      summary: "Get a run",
      params: oneRun,
      answer: { description: "The run.", schema: Run },
      errors: [404, 422],
    },
    async ({ params: { thread_id, run_id } }, c) => c.json(await room.services(c).runs.get(thread_id, run_id)),
  );
}

function joining(room: Room): void {
  mount(
    room,
    {
      method: "get",
      path: "/threads/{thread_id}/runs/{run_id}/join",
      id: "join_run",
      tag,
      summary: "Wait for a run's output",
      params: oneRun,
      query: z.object({ cancel_on_disconnect: QueryCancelOnDisconnect }),
      answer: RUN_ANSWERS.output,
      errors: [404, 422],
    },
    ({ params, query }, c) => join(room, c, params, query.cancel_on_disconnect),
  );

  mount(
    room,
    {
      method: "get",
      path: "/threads/{thread_id}/runs/{run_id}/stream",
      id: "join_run_stream",
      tag,
      summary: "Stream a run's output",
      params: oneRun,
      query: z.object({ stream_mode: QueryModes, cancel_on_disconnect: QueryCancelOnDisconnect, ...ResumeQuery }),
      headers: ResumeHeaders,
      answer: RUN_ANSWERS.stream,
      errors: [404, 422],
    },
    ({ params, query }, c) =>
      joinStream(room, c, params, {
        after: resumeAfter(c, query.last_event_id),
        modes: query.stream_mode ?? null,
        cancelWithClient: query.cancel_on_disconnect,
      }),
  );
}

function cancelling(room: Room): void {
  mount(
    room,
    {
      method: "post",
      path: "/threads/{thread_id}/runs/{run_id}/cancel",
      id: "cancel_run",
      tag,
      summary: "Stop a run",
      description: "`interrupt` keeps the run and its checkpoints, `rollback` deletes both.",
      params: oneRun,
      query: z.object({
        wait: QueryBoolean.openapi({ description: "Answer only when the run has ended." }),
        action: QueryAction,
      }),
      answer: { description: "The run will stop; with `wait`, it has.", schema: z.object({}) },
      errors: [404, 409, 422],
    },
    async ({ params: { thread_id, run_id }, query: { wait, action = "interrupt" } }, c) => {
      await room.services(c).runs.cancel(thread_id, run_id, action, wait);
      return c.json({});
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/runs/cancel",
      id: "cancel_runs",
      tag,
      summary: "Stop several runs",
      description:
        "By status, on all threads, or some of one thread: all of them are found, or none is stopped. Runs that have ended stay as they are.",
      query: z.object({ action: QueryAction }),
      body: { schema: RunsCancel, rule: "required" },
      answer: { description: "The runs will stop.", schema: z.object({}) },
      empty: "always",
      errors: [404, 422],
    },
    async ({ query: { action = "interrupt" }, body }, c) => {
      await room.services(c).runs.cancelMany(body, action);
      return c.body(null, 204);
    },
  );

  mount(
    room,
    {
      method: "delete",
      path: "/threads/{thread_id}/runs/{run_id}",
      id: "delete_run",
      tag,
      summary: "Delete a run",
      description: "With its checkpoints. A run in flight is stopped first, and the answer waits for that.",
      params: oneRun,
      answer: { description: "It is gone.", schema: z.object({}) },
      errors: [404, 422],
    },
    async ({ params: { thread_id, run_id } }, c) => {
      await room.services(c).runs.delete(thread_id, run_id);
      return c.json({});
    },
  );
}

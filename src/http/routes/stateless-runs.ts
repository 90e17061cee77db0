/** Runs that bring their own thread. */
import { z } from "@hono/zod-openapi";
import { Id } from "../../schemas/ids.ts";
import { QueryCancelOnDisconnect, QueryModes } from "../../schemas/query.ts";
import { Run, RunBatch, RunCreateStateless } from "../../schemas/runs.ts";
import type { RunRequest } from "../../services/contract.ts";
import { RepeatableHeaders } from "../repeatable.ts";
import { requestOf } from "../request.ts";
import { mount } from "../route.ts";
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
import { RUN_ANSWERS } from "./runs.ts";

const tag = "Stateless Runs";
const oneRun = z.object({ run_id: Id });
const body = { schema: RunCreateStateless, rule: "required" } as const;
const headers = RepeatableHeaders;

export function statelessRunRoutes(room: Room): void {
  creating(room);
  joining(room);
}

function creating(room: Room): void {
  mount(
    room,
    {
      method: "post",
      path: "/runs",
      id: "create_stateless_run",
      tag,
      summary: "Start a run in the background",
      headers,
      body,
      answer: RUN_ANSWERS.run,
      errors: [404, 409, 413, 422],
    },
    async ({ body }, c) => {
      const run = await room.services(c).runs.createStateless(body, requestOf(c));
      return answerRun(c, { thread_id: null, run_id: run.run_id }, run);
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/runs/stream",
      id: "stream_stateless_run",
      tag,
      summary: "Start a run and stream its output",
      query: DisconnectQuery,
      headers,
      body,
      answer: RUN_ANSWERS.stream,
      errors: [404, 409, 413, 422],
    },
    ({ query, body }, c) => {
      const create = (from: RunRequest) => room.services(c).runs.createStateless(body, from);
      return createAndStream(room, c, { thread_id: null, create, cancelWithClient: cancelsWithClient(body, query) });
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/runs/wait",
      id: "wait_stateless_run",
      tag,
      summary: "Start a run and wait for its output",
      query: DisconnectQuery,
      headers,
      body,
      answer: RUN_ANSWERS.output,
      errors: [404, 409, 413, 422],
    },
    ({ query, body }, c) => {
      const create = (from: RunRequest) => room.services(c).runs.createStateless(body, from);
      return createAndWait(room, c, { thread_id: null, create, cancelWithClient: cancelsWithClient(body, query) });
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/runs/batch",
      id: "create_stateless_runs",
      tag,
      summary: "Start several runs, all or none",
      headers,
      body: { schema: RunBatch, rule: "required" },
      answer: { description: "The runs, in order.", schema: z.array(Run) },
      errors: [404, 409, 413, 422],
    },
    async ({ body }, c) => c.json(await room.services(c).runs.createBatch(body, requestOf(c))),
  );
}

function joining(room: Room): void {
  mount(
    room,
    {
      method: "get",
      path: "/runs/{run_id}/join",
      id: "join_stateless_run",
      tag,
      summary: "Wait for a run's output",
      params: oneRun,
      query: z.object({ cancel_on_disconnect: QueryCancelOnDisconnect }),
      answer: RUN_ANSWERS.output,
      errors: [404, 422],
    },
    ({ params: { run_id }, query }, c) => join(room, c, { thread_id: null, run_id }, query.cancel_on_disconnect),
  );

  mount(
    room,
    {
      method: "get",
      path: "/runs/{run_id}/stream",
      id: "join_stateless_run_stream",
      tag,
      summary: "Stream a run's output",
      params: oneRun,
      query: z.object({ stream_mode: QueryModes, cancel_on_disconnect: QueryCancelOnDisconnect, ...ResumeQuery }),
      headers: ResumeHeaders,
      answer: RUN_ANSWERS.stream,
      errors: [404, 422],
    },
    ({ params: { run_id }, query }, c) =>
      joinStream(
        room,
        c,
        { thread_id: null, run_id },
        {
          after: resumeAfter(c, query.last_event_id),
          modes: query.stream_mode ?? null,
          cancelWithClient: query.cancel_on_disconnect,
        },
      ),
  );
}

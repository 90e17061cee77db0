/** Threads and their state. */
import { z } from "@hono/zod-openapi";
import { Id } from "../../schemas/ids.ts";
import { QueryBoolean, QueryText } from "../../schemas/query.ts";
import { Thread, ThreadCreate, ThreadState, ThreadStateAtCheckpoint } from "../../schemas/threads.ts";
import { jsonText } from "../respond.ts";
import { mount } from "../route.ts";
import type { Room } from "../types.ts";

const tag = "Threads";
const params = z.object({ thread_id: Id });
const subgraphs = QueryBoolean.openapi({ description: "Include the states of subgraphs." });
const state = { description: "The state.", schema: ThreadState };

export function threadRoutes(room: Room): void {
  const { threads } = room.services;

  mount(
    room,
    {
      method: "post",
      path: "/threads",
      id: "create_thread",
      tag,
      summary: "Create a thread",
      body: { schema: ThreadCreate, rule: "optional" },
      answer: { description: "The thread.", schema: Thread },
      errors: [409, 422],
    },
    async ({ body }, c) => c.json(await threads.create(body)),
  );

  mount(
    room,
    {
      method: "get",
      path: "/threads/{thread_id}",
      id: "get_thread",
      tag,
      summary: "Get a thread",
      params,
      answer: { description: "The thread.", schema: Thread },
      errors: [404, 422],
    },
    async ({ params: { thread_id } }, c) => c.json(await threads.get(thread_id)),
  );

  mount(
    room,
    {
      method: "get",
      path: "/threads/{thread_id}/state",
      id: "get_thread_state",
      tag,
      summary: "Get the latest state",
      params,
      query: z.object({ subgraphs, checkpoint_id: QueryText, checkpoint_ns: QueryText }),
      answer: state,
      errors: [404, 422],
    },
    async ({ params: { thread_id }, query: { subgraphs, ...checkpoint } }, c) =>
      jsonText(c, await threads.state(thread_id, checkpoint, subgraphs)),
  );

  mount(
    room,
    {
      method: "get",
      path: "/threads/{thread_id}/state/{checkpoint_id}",
      id: "get_thread_state_at",
      tag,
      summary: "Get the state at a checkpoint",
      params: params.extend({ checkpoint_id: z.string().min(1) }),
      query: z.object({ subgraphs, checkpoint_ns: QueryText }),
      answer: state,
      errors: [404, 422],
    },
    async ({ params: { thread_id, checkpoint_id }, query: { subgraphs, checkpoint_ns } }, c) =>
      jsonText(c, await threads.state(thread_id, { checkpoint_id, checkpoint_ns }, subgraphs)),
  );

  mount(
    room,
    {
      method: "post",
      path: "/threads/{thread_id}/state/checkpoint",
      id: "post_thread_state_at",
      tag,
      summary: "Get the state at a checkpoint, also of a subgraph",
      params,
      body: { schema: ThreadStateAtCheckpoint, rule: "required" },
      answer: state,
      errors: [404, 422],
    },
    async ({ params: { thread_id }, body }, c) =>
      jsonText(c, await threads.state(thread_id, body.checkpoint, body.subgraphs ?? false)),
  );
}

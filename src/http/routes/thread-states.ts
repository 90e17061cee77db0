/** States of threads: at any checkpoint, back in time, and changed by hand. */
import { z } from "@hono/zod-openapi";
import { Id } from "../../schemas/ids.ts";
import { QueryBoolean, QueryText, queryFields, queryInt } from "../../schemas/query.ts";
import {
  StateSelect,
  ThreadState,
  ThreadStateAtCheckpoint,
  ThreadStateSearch,
  ThreadStateUpdate,
  ThreadStateUpdateResponse,
} from "../../schemas/thread-states.ts";
import { jsonText } from "../respond.ts";
import { mount } from "../route.ts";
import type { Room } from "../types.ts";

const tag = "Threads";
const params = z.object({ thread_id: Id });
const subgraphs = QueryBoolean.openapi({ description: "Include the states of subgraphs." });
const select = queryFields(StateSelect);
const state = { description: "The state.", schema: ThreadState };
const states = { description: "States, newest first.", schema: z.array(ThreadState) };

export function threadStateRoutes(room: Room): void {
  mount(
    room,
    {
      method: "get",
      path: "/threads/{thread_id}/state",
      id: "get_thread_state",
      tag,
      summary: "Get the latest state",
      params,
      query: z.object({ subgraphs, select, checkpoint_id: QueryText, checkpoint_ns: QueryText }),
      answer: state,
      errors: [404, 422],
    },
    async ({ params: { thread_id }, query: { subgraphs, select, ...checkpoint } }, c) =>
      jsonText(c, await room.services(c).threads.state(thread_id, checkpoint, subgraphs, select)),
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
      query: z.object({ subgraphs, select, checkpoint_ns: QueryText }),
      answer: state,
      errors: [404, 422],
    },
    async ({ params: { thread_id, checkpoint_id }, query: { subgraphs, select, checkpoint_ns } }, c) =>
      jsonText(c, await room.services(c).threads.state(thread_id, { checkpoint_id, checkpoint_ns }, subgraphs, select)),
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
      jsonText(
        c,
        await room.services(c).threads.state(thread_id, body.checkpoint, body.subgraphs ?? false, body.select),
      ),
  );

  mount(
    room,
    {
      method: "post",
      path: "/threads/{thread_id}/state",
      id: "update_thread_state",
      tag,
      summary: "Update the state",
      description:
        "Adds a checkpoint as if a node had just given these values: on top of the latest, or of the one named (a fork). " +
        "Answers 409 while runs are in flight on the thread.",
      params,
      body: { schema: ThreadStateUpdate, rule: "required" },
      answer: { description: "The new checkpoint.", schema: ThreadStateUpdateResponse },
      errors: [404, 409, 422],
    },
    async ({ params: { thread_id }, body }, c) => c.json(await room.services(c).threads.updateState(thread_id, body)),
  );

  mount(
    room,
    {
      method: "get",
      path: "/threads/{thread_id}/history",
      id: "get_thread_history",
      tag,
      summary: "Get past states",
      params,
      query: z.object({
        limit: queryInt(1, 1000, 10),
        before: QueryText.openapi({ description: "Only states older than this checkpoint." }),
        select,
      }),
      answer: states,
      errors: [404, 422],
    },
    async ({ params: { thread_id }, query }, c) =>
      jsonText(c, await room.services(c).threads.history(thread_id, query)),
  );

  mount(
    room,
    {
      method: "post",
      path: "/threads/{thread_id}/history",
      id: "post_thread_history",
      tag,
      summary: "Search past states",
      params,
      body: { schema: ThreadStateSearch, rule: "optional" },
      answer: states,
      errors: [404, 422],
    },
    async ({ params: { thread_id }, body }, c) => jsonText(c, await room.services(c).threads.history(thread_id, body)),
  );
}

/** Threads. Their states are in `thread-states.ts`. */
import { z } from "@hono/zod-openapi";
import { Id } from "../../schemas/ids.ts";
import { Thread, ThreadCreate } from "../../schemas/threads.ts";
import { mount } from "../route.ts";
import type { Room } from "../types.ts";

const tag = "Threads";
const params = z.object({ thread_id: Id });

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
}

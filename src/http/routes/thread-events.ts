/** The events of a thread's runs, as streaming v2 has them. */
import { z } from "@hono/zod-openapi";
import { ErrorResponse } from "../../schemas/common.ts";
import { Id } from "../../schemas/ids.ts";
import { EventStreamRequest } from "../../schemas/protocol.ts";
import { watchClient } from "../connections.ts";
import { sseFrames } from "../respond.ts";
import { mount } from "../route.ts";
import type { Room } from "../types.ts";

export function threadEventRoutes(room: Room): void {
  mount(
    room,
    {
      method: "post",
      path: "/threads/{thread_id}/stream/events",
      id: "stream_thread_events",
      tag: "Streaming",
      summary: "Stream the events of a thread's runs",
      description:
        "Those that are kept, then live, until the client leaves; the thread need not exist yet. The same path takes WebSockets, " +
        "which carry events and commands.",
      params: z.object({ thread_id: Id }),
      body: { schema: EventStreamRequest, rule: "required" },
      malformed: { schema: ErrorResponse, answer: (_, detail) => ({ detail }) },
      answer: {
        description: "Events: `event` is the method, `data` the event (JSON), `id` its `seq`, which `since` takes.",
        schema: z.string(),
        type: "text/event-stream",
      },
      errors: [400, 422],
    },
    async ({ params: { thread_id }, body }, c) => {
      const { signal } = watchClient(c);
      const events = await room.services(c).protocol.events(thread_id, body, signal);
      return sseFrames(c, events, { headers: {}, heartbeatMs: room.heartbeatMs, signal, logger: room.logger });
    },
  );
}

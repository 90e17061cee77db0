/** Commands of streaming v2, one a request. */
import { z } from "@hono/zod-openapi";
import { Id } from "../../schemas/ids.ts";
import { malformed, ProtocolCommand, ProtocolError, ProtocolResponse } from "../../schemas/protocol.ts";
import { RepeatableHeaders } from "../repeatable.ts";
import { requestOf } from "../request.ts";
import { mount } from "../route.ts";
import type { Room } from "../types.ts";

export function commandRoutes(room: Room): void {
  mount(
    room,
    {
      method: "post",
      path: "/threads/{thread_id}/commands",
      id: "protocol_thread_command_post",
      tag: "Streaming",
      summary: "Send a command to a thread",
      description:
        "`run.start`, `input.respond`, `input.inject`, `state.get`, `state.listCheckpoints`, `state.fork` and `agent.getTree`. " +
        "Runs go on in the background; their events come by `/threads/{thread_id}/stream/events`. " +
        "A command that is refused is answered with an error and status 200. `subscription.*` are commands of WebSockets.",
      params: z.object({ thread_id: Id }),
      headers: RepeatableHeaders,
      body: { schema: ProtocolCommand, rule: "required" },
      malformed: { schema: ProtocolError, answer: malformed },
      answer: { description: "What came of it.", schema: ProtocolResponse },
      errors: [422],
    },
    async ({ params: { thread_id }, body }, c) =>
      c.json(await room.services(c).protocol.command(thread_id, body, requestOf(c))),
  );
}

/** The output of all runs of a thread, for as long as a client listens. */
import { z } from "@hono/zod-openapi";
import { Id } from "../../schemas/ids.ts";
import { QueryText, QueryThreadModes } from "../../schemas/query.ts";
import type { ThreadStreamMode } from "../../schemas/runs.ts";
import { BEGINNING, parsePosition, type ThreadPosition } from "../../streaming/follow-thread.ts";
import { watchClient } from "../connections.ts";
import { sse } from "../respond.ts";
import { mount } from "../route.ts";
import type { HttpContext, Room } from "../types.ts";

const DEFAULT_MODES: readonly ThreadStreamMode[] = ["run_modes"];

export function threadStreamRoutes(room: Room): void {
  mount(
    room,
    {
      method: "get",
      path: "/threads/{thread_id}/stream",
      id: "join_thread_stream",
      tag: "Threads",
      summary: "Stream the output of all runs of a thread",
      description:
        "One run after the other, until the client leaves. Without `Last-Event-ID` it begins with the run in flight, or the next. " +
        "`run_modes`: all events of the runs, and `metadata` with `status: run_done` after each. `lifecycle`: only that a run begins and ends. " +
        "`state_update`: the thread's state after each run.",
      params: z.object({ thread_id: Id }),
      query: z.object({ stream_modes: QueryThreadModes, stream_mode: QueryThreadModes, last_event_id: QueryText }),
      headers: z.object({
        "Last-Event-ID": z.string().optional().describe("Events after this one; `-` or `-1` for all that is kept."),
      }),
      answer: {
        description: "Events: `event`, `data` (JSON) and `id`, which orders them over all runs of the thread.",
        schema: z.string(),
        type: "text/event-stream",
        headers: { Location: "Where to ask again after a lost connection." },
      },
      errors: [404, 422],
    },
    async ({ params: { thread_id }, query }, c) => {
      const client = watchClient(c);
      const modes = [...new Set([...(query.stream_modes ?? []), ...(query.stream_mode ?? [])])];
      const events = await room.services(c).runs.followThread(thread_id, {
        after: startOf(c, query.last_event_id),
        modes: modes.length === 0 ? DEFAULT_MODES : modes,
        signal: client.signal,
      });
      const again = modes.length === 0 ? "" : `?stream_modes=${modes.join()}`;
      return sse(c, events, {
        headers: { location: `/threads/${thread_id}/stream${again}` },
        heartbeatMs: room.heartbeatMs,
        signal: client.signal,
        logger: room.logger,
      });
    },
  );
}

/** An id that is not ours (`-`, `-1`, of an older server) means from the start of what is kept; none at all, from now. */
function startOf(c: HttpContext, query: string | undefined): ThreadPosition | null {
  const id = c.req.header("last-event-id") ?? query ?? "";
  return id === "" ? null : (parsePosition(id) ?? BEGINNING);
}

/** Threads. Their states are in `thread-states.ts`. */
import { z } from "@hono/zod-openapi";
import { Id } from "../../schemas/ids.ts";
import { QueryThreadIncludes } from "../../schemas/query.ts";
import {
  Thread,
  ThreadCount,
  ThreadCreate,
  ThreadPatch,
  ThreadPrune,
  ThreadPruned,
  ThreadSearch,
} from "../../schemas/threads.ts";
import { PAGE_HEADERS, paginate } from "../pagination.ts";
import { mount } from "../route.ts";
import type { Room } from "../types.ts";

const tag = "Threads";
const params = z.object({ thread_id: Id });
const Prefer = z.object({ Prefer: z.string().optional().describe("`return=minimal`: no body.") });

/** A preference among others in the header (RFC 7240). */
const wantsNothing = (header: string | undefined): boolean =>
  /(^|[,\s])return\s*=\s*"?minimal"?\s*([,;]|$)/i.test(header ?? "");

export function threadRoutes(room: Room): void {
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
    async ({ body }, c) => c.json(await room.services(c).threads.create(body)),
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
      query: z.object({ include: QueryThreadIncludes }),
      answer: { description: "The thread.", schema: Thread },
      errors: [404, 422],
    },
    async ({ params: { thread_id }, query: { include } }, c) =>
      c.json(await room.services(c).threads.get(thread_id, include ?? [])),
  );

  mount(
    room,
    {
      method: "patch",
      path: "/threads/{thread_id}",
      id: "patch_thread",
      tag,
      summary: "Update a thread",
      params,
      headers: Prefer,
      body: { schema: ThreadPatch, rule: "optional" },
      answer: { description: "The thread.", schema: Thread },
      empty: "sometimes",
      errors: [404, 422],
    },
    async ({ params: { thread_id }, body }, c) => {
      const thread = await room.services(c).threads.update(thread_id, body);
      return wantsNothing(c.req.header("prefer")) ? c.body(null, 204) : c.json(thread);
    },
  );

  mount(
    room,
    {
      method: "delete",
      path: "/threads/{thread_id}",
      id: "delete_thread",
      tag,
      summary: "Delete a thread",
      description: "Stops its runs, and removes it with its runs, checkpoints and events.",
      params,
      answer: { description: "Deleted.", schema: z.object({}) },
      errors: [404, 422],
    },
    async ({ params: { thread_id } }, c) => {
      await room.services(c).threads.delete(thread_id);
      return c.json({});
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/threads/search",
      id: "search_threads",
      tag,
      summary: "Search threads",
      body: { schema: ThreadSearch, rule: "optional" },
      answer: { description: "A page of threads.", schema: z.array(Thread.partial()), headers: PAGE_HEADERS },
      errors: [422],
    },
    async ({ body }, c) => {
      const { items, total } = await room.services(c).threads.search(body);
      paginate(c, body, total);
      return c.json(items);
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/threads/count",
      id: "count_threads",
      tag,
      summary: "Count threads",
      body: { schema: ThreadCount, rule: "optional" },
      answer: { description: "How many match.", schema: z.int() },
      errors: [422],
    },
    async ({ body }, c) => c.json(await room.services(c).threads.count(body)),
  );

  mount(
    room,
    {
      method: "post",
      path: "/threads/prune",
      id: "prune_threads",
      tag,
      summary: "Prune threads",
      description:
        "`delete` removes the threads. `keep_latest` removes their history and keeps their latest state; threads with runs in flight are left alone.",
      body: { schema: ThreadPrune, rule: "required" },
      answer: { description: "How many threads were pruned.", schema: ThreadPruned },
      errors: [422],
    },
    async ({ body }, c) => c.json({ pruned_count: await room.services(c).threads.prune(body) }),
  );

  mount(
    room,
    {
      method: "post",
      path: "/threads/{thread_id}/copy",
      id: "copy_thread",
      tag,
      summary: "Copy a thread",
      description: "Makes a new thread with the state and the history that this one has now.",
      params,
      answer: { description: "The copy.", schema: Thread },
      errors: [404, 409, 422],
    },
    async ({ params: { thread_id } }, c) => c.json(await room.services(c).threads.copy(thread_id)),
  );
}

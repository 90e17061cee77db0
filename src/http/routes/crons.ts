/** Crons: runs on a schedule. */
import { z } from "@hono/zod-openapi";
import { Cron, CronCount, CronCreate, CronPatch, CronSearch, ThreadCronCreate } from "../../schemas/crons.ts";
import { Id } from "../../schemas/ids.ts";
import { PAGE_HEADERS, paginate } from "../pagination.ts";
import { mount } from "../route.ts";
import type { Room } from "../types.ts";

const tag = "Crons";
const params = z.object({ cron_id: Id });
const answer = { description: "The cron.", schema: Cron };

export function cronRoutes(room: Room): void {
  creating(room);
  finding(room);
  changing(room);
}

function creating(room: Room): void {
  mount(
    room,
    {
      method: "post",
      path: "/runs/crons",
      id: "create_cron",
      tag,
      summary: "Schedule runs on threads of their own",
      body: { schema: CronCreate, rule: "required" },
      answer,
      errors: [404, 413, 422],
    },
    async ({ body }, c) => c.json(await room.services(c).crons.create(body)),
  );

  mount(
    room,
    {
      method: "post",
      path: "/threads/{thread_id}/runs/crons",
      id: "create_thread_cron",
      tag,
      summary: "Schedule runs on a thread",
      params: z.object({ thread_id: Id }),
      body: { schema: ThreadCronCreate, rule: "required" },
      answer,
      errors: [404, 413, 422],
    },
    async ({ params: { thread_id }, body }, c) => c.json(await room.services(c).crons.createOnThread(thread_id, body)),
  );
}

function finding(room: Room): void {
  mount(
    room,
    {
      method: "post",
      path: "/runs/crons/search",
      id: "search_crons",
      tag,
      summary: "Search crons",
      body: { schema: CronSearch, rule: "optional" },
      answer: { description: "A page of crons.", schema: z.array(Cron.partial()), headers: PAGE_HEADERS },
      errors: [422],
    },
    async ({ body }, c) => {
      const { items, total } = await room.services(c).crons.search(body);
      paginate(c, body, total);
      return c.json(items);
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/runs/crons/count",
      id: "count_crons",
      tag,
      summary: "Count crons",
      body: { schema: CronCount, rule: "optional" },
      answer: { description: "How many match.", schema: z.int() },
      errors: [422],
    },
    async ({ body }, c) => c.json(await room.services(c).crons.count(body)),
  );

  mount(
    room,
    {
      method: "get",
      path: "/runs/crons/{cron_id}",
      id: "get_cron",
      tag,
      summary: "Get a cron",
      params,
      answer,
      errors: [404, 422],
    },
    async ({ params: { cron_id } }, c) => c.json(await room.services(c).crons.get(cron_id)),
  );
}

function changing(room: Room): void {
  mount(
    room,
    {
      method: "patch",
      path: "/runs/crons/{cron_id}",
      id: "patch_cron",
      tag,
      summary: "Change a cron",
      description: "What is left out stays; null takes a field back to its default; metadata is merged.",
      params,
      body: { schema: CronPatch, rule: "required" },
      answer,
      errors: [404, 413, 422],
    },
    async ({ params: { cron_id }, body }, c) => c.json(await room.services(c).crons.patch(cron_id, body)),
  );

  mount(
    room,
    {
      method: "delete",
      path: "/runs/crons/{cron_id}",
      id: "delete_cron",
      tag,
      summary: "Delete a cron",
      description: "Runs it has made stay.",
      params,
      answer: { description: "Deleted.", schema: z.object({}) },
      errors: [404, 422],
    },
    async ({ params: { cron_id } }, c) => {
      await room.services(c).crons.delete(cron_id);
      return c.json({});
    },
  );
}

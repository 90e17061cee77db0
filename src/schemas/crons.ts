/** Crons on the wire. Source: contract schemas Cron, CronCreate, ThreadCronCreate, CronPatch, CronSearch, CronCountRequest. */
import { z } from "@hono/zod-openapi";
import { JsonObject, OwnMetadata, orDefault } from "./common.ts";
import { Id } from "./ids.ts";
import { type RunCreateStateful, RunCreateStateful as RunFields } from "./runs.ts";

export const CRON_FIELDS = [
  "cron_id",
  "assistant_id",
  "thread_id",
  "on_run_completed",
  "end_time",
  "schedule",
  "timezone",
  "created_at",
  "updated_at",
  "user_id",
  "payload",
  "next_run_date",
  "metadata",
  "enabled",
] as const;

export const OnRunCompleted = z.enum(["delete", "keep"]);
export type OnRunCompleted = z.infer<typeof OnRunCompleted>;

/** What a cron's runs are asked to do: fields of a run's creation, as they were given. */
const PAYLOAD_FIELDS = [
  "input",
  "config",
  "context",
  "webhook",
  "interrupt_before",
  "interrupt_after",
  "stream_mode",
  "stream_subgraphs",
  "stream_resumable",
  "durability",
  "checkpoint_during",
] as const;
const payload = RunFields.pick({
  input: true,
  config: true,
  context: true,
  webhook: true,
  interrupt_before: true,
  interrupt_after: true,
  stream_mode: true,
  stream_subgraphs: true,
  stream_resumable: true,
  durability: true,
  checkpoint_during: true,
}).shape;

export type CronPayload = Pick<RunCreateStateful, (typeof PAYLOAD_FIELDS)[number] | "multitask_strategy">;

export const Cron = z
  .object({
    cron_id: z.uuid(),
    assistant_id: z.uuid(),
    thread_id: z.uuid().nullable().describe("Null: each run gets a thread of its own."),
    on_run_completed: OnRunCompleted.nullable().describe("Null for a cron on a thread."),
    schedule: z.string(),
    timezone: z.string().nullable().describe("Null: UTC."),
    end_time: z.iso.datetime().nullable(),
    enabled: z.boolean(),
    next_run_date: z.iso.datetime().nullable().describe("Null: nothing will run, as things are."),
    payload: JsonObject.describe("What its runs are asked to do."),
    metadata: JsonObject,
    user_id: z.string().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .openapi("Cron");
export type Cron = z.infer<typeof Cron>;

const Schedule = z
  .string()
  .max(1000)
  .describe("Five fields (minute, hour, day of month, month, day of week), or six with seconds in front.");
const Timezone = z.string().max(100).describe("IANA name, such as `Europe/Berlin`. Default: UTC.");

/** Python's naive times come without an offset: they are UTC. */
const EndTime = z.iso
  .datetime({ offset: true, local: true })
  .transform((text) => Date.parse(/(Z|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text}Z`))
  .nullish()
  .openapi({ type: ["string", "null"], format: "date-time", description: "From then on nothing runs." });

const createFields = {
  assistant_id: z.string().describe("Id of an assistant, or of a graph (its default assistant)."),
  schedule: Schedule,
  timezone: Timezone.nullish(),
  end_time: EndTime,
  enabled: orDefault(z.boolean(), true),
  metadata: OwnMetadata.nullish().describe("Of the cron, and of each of its runs."),
  ...payload,
} as const;

export const CronCreate = z
  .object({
    ...createFields,
    on_run_completed: orDefault(OnRunCompleted, "delete").describe("What becomes of a run's thread."),
  })
  .openapi("CronCreate");
export type CronCreate = z.infer<typeof CronCreate>;

export const ThreadCronCreate = z
  .object({
    ...createFields,
    multitask_strategy: RunFields.shape.multitask_strategy,
    on_run_completed: z.literal("keep").nullish().describe("The thread outlives its runs."),
  })
  .openapi("ThreadCronCreate");
export type ThreadCronCreate = z.infer<typeof ThreadCronCreate>;

const UNCHANGEABLE = ["assistant_id", "thread_id", "multitask_strategy"] as const;

/** Null takes a field back to its default. */
export const CronPatch = z
  .looseObject({
    schedule: Schedule.optional(),
    timezone: Timezone.nullish(),
    end_time: EndTime,
    enabled: z.boolean().optional(),
    on_run_completed: OnRunCompleted.optional(),
    metadata: OwnMetadata.nullish().describe("Merged into what is there."),
    ...payload,
  })
  .superRefine((patch, context) => {
    for (const field of UNCHANGEABLE) {
      if (patch[field] == null) continue;
      context.addIssue({ code: "custom", path: [field], message: "cannot be changed; make another cron instead" });
    }
  })
  .openapi("CronPatch", { additionalProperties: true });
export type CronPatch = z.infer<typeof CronPatch>;

export const CronFilter = z.object({
  assistant_id: z.string().nullish().describe("Id of an assistant, or of a graph (its default assistant)."),
  thread_id: Id.nullish(),
  enabled: z.boolean().nullish(),
  metadata: JsonObject.nullish().describe("Members that must be equal."),
});
export type CronFilter = z.infer<typeof CronFilter>;

export const CronCount = CronFilter.openapi("CronCountRequest");

export const CronSearch = CronFilter.extend({
  limit: orDefault(z.int().min(1).max(1000), 10),
  offset: orDefault(z.int().min(0), 0),
  sort_by: orDefault(
    z.enum(["cron_id", "assistant_id", "thread_id", "next_run_date", "end_time", "created_at", "updated_at"]),
    "created_at",
  ),
  sort_order: orDefault(z.enum(["asc", "desc"]), "desc"),
  select: z.array(z.enum(CRON_FIELDS)).nullish(),
}).openapi("CronSearch");
export type CronSearch = z.infer<typeof CronSearch>;

/** The fields of a request that its runs are made of. Those left out stay out. */
export function payloadOf(request: Partial<CronPayload>): CronPayload {
  const fields = [...PAYLOAD_FIELDS, "multitask_strategy" as const];
  return Object.fromEntries(fields.flatMap((field) => (request[field] === undefined ? [] : [[field, request[field]]])));
}

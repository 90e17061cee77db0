/** States of threads on the wire. Source: contract schemas ThreadState, ThreadStateUpdate, ThreadStateSearch, ThreadSuperstepUpdate. */
import { z } from "@hono/zod-openapi";
import { CheckpointConfig, JsonObject, orDefault } from "./common.ts";
import { Command } from "./runs.ts";
import { isStateField, STATE_FIELDS } from "./state-select.ts";

export const StateSelect = z
  .array(
    z.string().refine(isStateField, {
      error: ({ input }) => `${String(input)} is not one of ${STATE_FIELDS.join(", ")}, values.<key>`,
    }),
  )
  .openapi({ description: "Fields to answer; `values.<key>` for one key of the values. Default: all." });

export const ThreadState = z
  .object({
    values: z.unknown(),
    next: z.array(z.string()),
    tasks: z.array(JsonObject),
    checkpoint: CheckpointConfig.nullable(),
    metadata: JsonObject,
    created_at: z.string().nullable(),
    parent_checkpoint: CheckpointConfig.nullable(),
    interrupts: z.array(JsonObject).describe("Those that wait for an answer, of all tasks."),
    checkpoint_id: z.string().nullish(),
    parent_checkpoint_id: z.string().nullish(),
  })
  .openapi("ThreadState");

export const ThreadStateAtCheckpoint = z
  .object({ checkpoint: CheckpointConfig, subgraphs: z.boolean().nullish(), select: StateSelect.nullish() })
  .openapi("ThreadStateCheckpointRequest");

const Values = z.union([JsonObject, z.array(z.unknown()), z.null()]);

export const ThreadStateUpdate = z
  .object({
    values: Values.optional().describe("What the node gives. Null: nothing."),
    as_node: z.string().min(1).nullish().describe("The node that gives it. Default: inferred from what ran last."),
    checkpoint: CheckpointConfig.nullish().describe(
      "The state to start from, also of a subgraph. Default: the latest.",
    ),
    checkpoint_id: z.string().min(1).nullish(),
  })
  .openapi("ThreadStateUpdate");
export type ThreadStateUpdate = z.infer<typeof ThreadStateUpdate>;

const Address = z.object({
  thread_id: z.uuid(),
  checkpoint_ns: z.string(),
  checkpoint_id: z.string(),
  checkpoint_map: JsonObject.nullable(),
});

/** The new checkpoint in the three shapes that clients read. */
export const ThreadStateUpdateResponse = z
  .object({ checkpoint: Address, checkpoint_id: z.string(), configurable: Address })
  .openapi("ThreadStateUpdateResponse");
export type ThreadStateUpdateResponse = z.infer<typeof ThreadStateUpdateResponse>;

/** The contract has a checkpoint here; clients also send its id, or a config around it. */
const Before = z
  .union([
    z.string(),
    CheckpointConfig.extend({ configurable: CheckpointConfig.nullish() }).refine(
      ({ checkpoint_id, configurable }) => (checkpoint_id ?? configurable?.checkpoint_id) != null,
      { path: ["checkpoint_id"], message: "field required (a string)" },
    ),
  ])
  .transform((before) =>
    typeof before === "string" ? before : (before.checkpoint_id ?? before.configurable?.checkpoint_id),
  )
  .openapi({
    type: ["object", "string"],
    anyOf: [{ $ref: "#/components/schemas/CheckpointConfig" }, { type: "string" }],
    description: "Only states older than this checkpoint (or its id).",
  });

export const ThreadStateSearch = z
  .object({
    limit: orDefault(z.int().min(1).max(1000), 1),
    before: Before.nullish(),
    metadata: JsonObject.nullish().describe("Only states whose metadata has exactly these values."),
    checkpoint: CheckpointConfig.nullish().describe("The namespace of a subgraph; with an id, that state alone."),
    select: StateSelect.nullish(),
  })
  .openapi("ThreadStateSearch");
export type ThreadStateSearch = z.infer<typeof ThreadStateSearch>;

/** Updates LangGraph carries out by itself, without a node that could follow a command. */
const WITHOUT_NODE: ReadonlySet<string> = new Set(["__input__", "__copy__", "__end__"]);

const SuperstepUpdate = z
  .object({
    values: Values.optional(),
    command: Command.nullish().describe("What the node gives, where that is a command: `update` and `goto`."),
    as_node: z.string().min(1),
  })
  .superRefine(({ values, command, as_node }, context) => {
    const refuse = (path: string[], message: string): void => context.addIssue({ code: "custom", path, message });
    if (command == null) return;
    if (values != null) refuse(["command"], "an update has values or a command, not both");
    if (WITHOUT_NODE.has(as_node)) refuse(["command"], `an update as ${as_node} takes values, not a command`);
    if (command.resume != null) refuse(["command", "resume"], "only a run can answer an interrupt");
    if (command.graph != null) refuse(["command", "graph"], "an update cannot leave its graph");
  })
  .openapi("ThreadSuperstepUpdate");

export const Superstep = z.object({ updates: z.array(SuperstepUpdate).min(1) }).openapi("ThreadSuperstep");
export type Superstep = z.infer<typeof Superstep>;

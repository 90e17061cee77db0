/**
 * Streaming v2 on the wire: commands and what they take, answers, and what a stream of events is asked for.
 * Source: protocol 0.0.21, contract schemas ProtocolCommand, ProtocolSuccess, ProtocolError, ProtocolEventStreamRequest.
 */
import { z } from "@hono/zod-openapi";
import { Config, JsonObject, OwnMetadata } from "./common.ts";
import { Id } from "./ids.ts";
import { Command, MultitaskStrategy, RunCreateStateful } from "./runs.ts";

/* ----------------------------------------------------------------------------------- filters */

export const CHANNELS = [
  "values",
  "updates",
  "messages",
  "tools",
  "lifecycle",
  "input",
  "checkpoints",
  "tasks",
  "custom",
] as const;

const NamedCustom = z.templateLiteral(["custom:", z.string().min(1)]);

export const Channel = z
  .string()
  .refine((given): given is Channel => isChannel(given), {
    error: `expected one of ${CHANNELS.join(", ")}, custom:<name>`,
  })
  .openapi("ProtocolChannel", {
    type: "string",
    anyOf: [
      { type: "string", enum: [...CHANNELS] },
      { type: "string", pattern: "^custom:.+$" },
    ],
    description: "`custom` includes every `custom:<name>`.",
  });
export type Channel = (typeof CHANNELS)[number] | z.infer<typeof NamedCustom>;

const FIXED: ReadonlySet<string> = new Set(CHANNELS);
const isChannel = (given: string): boolean => FIXED.has(given) || /^custom:./s.test(given);

export const Namespace = z
  .array(z.string())
  .openapi("ProtocolNamespace", { description: "`name:runtime_id` segments; empty: the root graph." });

/** Each new name among a thread's events is held against all of them. */
const MOST_FILTERS = 1000;

/** Body of an SSE stream, and parameters of `subscription.subscribe`. */
export const EventStreamRequest = z
  .looseObject({
    channels: z.array(Channel).min(1).max(MOST_FILTERS),
    namespaces: z
      .array(Namespace)
      .max(MOST_FILTERS)
      .nullish()
      .describe("Events at or below one of these. None, or left out: all."),
    depth: z.int().min(0).nullish().describe("How many levels below the namespace that matched. Left out: all."),
    since: z.int().min(0).nullish().describe("Only events of a higher `seq`. Left out: all that are kept."),
  })
  .openapi("ProtocolEventStreamRequest");
export type EventStreamRequest = z.infer<typeof EventStreamRequest>;

/* ---------------------------------------------------------------------------------- commands */

export const COMMANDS = [
  "run.start",
  "input.respond",
  "input.inject",
  "state.get",
  "state.listCheckpoints",
  "state.fork",
  "agent.getTree",
  "subscription.subscribe",
  "subscription.unsubscribe",
  "subscription.reconnect",
] as const;
export type CommandName = (typeof COMMANDS)[number];

const CommandId = z.int().min(0);

export const ProtocolCommand = z
  .looseObject({
    id: CommandId.describe("The client's; the answer has it."),
    method: z.string(),
    params: JsonObject.nullish(),
  })
  .openapi("ProtocolCommand");
export type ProtocolCommand = z.infer<typeof ProtocolCommand>;

const CommandAsInput = z.object({ lg_name: z.literal("Command") });

/** What a REST run takes, but for how it is shown: streams ask for that themselves. The strategy in both spellings of clients. */
export const RunStartParams = RunCreateStateful.omit({
  stream_mode: true,
  stream_subgraphs: true,
  stream_resumable: true,
  if_not_exists: true,
  on_disconnect: true,
})
  .extend({ multitaskStrategy: MultitaskStrategy.nullish() })
  .transform((params, context) => {
    // RemoteGraph sends LangGraph's commands as input.
    if (!CommandAsInput.safeParse(params.input).success) return params;
    const command = Command.safeParse(params.input);
    if (command.success) return { ...params, input: null, command: command.data };
    context.addIssue({ code: "custom", path: ["input"], message: `no command: ${command.error.issues[0]?.message}` });
    return z.NEVER;
  });
export type RunStartParams = z.infer<typeof RunStartParams>;

const InterruptId = z.string().min(1);
interface AnswerGiven {
  readonly interrupt_id: string;
  readonly response?: unknown;
  readonly namespace?: readonly string[] | null | undefined;
}
const Response = { namespace: Namespace.nullish(), response: z.unknown().optional() };

/**
 * One answer, or several in `responses`, each with the namespace of the graph that asks, or of one above it; `update` and `goto` are taken with them in one step. */
export const InputRespondParams = z
  .looseObject({
    ...Response,
    interrupt_id: InterruptId.nullish(),
    responses: z
      .array(z.looseObject({ ...Response, interrupt_id: InterruptId }))
      .min(1)
      .nullish(),
    update: Command.shape.update,
    goto: Command.shape.goto,
    config: Config.nullish(),
    metadata: OwnMetadata.nullish(),
    strict_resume: z.boolean().nullish(),
  })
  .transform(({ interrupt_id, response, responses, namespace, ...more }, context) => {
    const wrong = (path: (string | number)[], text: string) =>
      context.addIssue({ code: "custom", path, message: text });
    if (responses != null && interrupt_id != null) wrong(["interrupt_id"], "not together with responses");
    const given: AnswerGiven[] = responses ?? (interrupt_id == null ? [] : [{ interrupt_id, response }]);
    if (given.length === 0) wrong(["interrupt_id"], "field required (a string), or responses");
    const answers = new Map<string, unknown>();
    const askedAt = new Map<string, readonly string[]>();
    for (const [index, each] of given.entries()) {
      if (answers.has(each.interrupt_id)) wrong(["responses", index, "interrupt_id"], "answered twice");
      answers.set(each.interrupt_id, each.response ?? null);
      askedAt.set(each.interrupt_id, each.namespace ?? namespace ?? []);
    }
    return { ...more, answers, askedAt };
  });
export type InputRespondParams = z.infer<typeof InputRespondParams>;

export const InputInjectParams = z.looseObject({
  namespace: Namespace.nullish(),
  message: z.looseObject({
    role: z.enum(["user", "system"]),
    content: z.union([z.string(), z.array(z.unknown())]),
    name: z.string().nullish(),
  }),
});
export type InputInjectParams = z.infer<typeof InputInjectParams>;

export const GetTreeParams = z.looseObject({ run_id: Id.nullish() });
export type GetTreeParams = z.infer<typeof GetTreeParams>;

export const StateGetParams = z.looseObject({ namespace: Namespace.nullish(), keys: z.array(z.string()).nullish() });
export type StateGetParams = z.infer<typeof StateGetParams>;

export const ListCheckpointsParams = z.looseObject({
  namespace: Namespace.nullish(),
  limit: z.int().min(1).max(1000).nullish(),
  before: z.string().min(1).nullish(),
});
export type ListCheckpointsParams = z.infer<typeof ListCheckpointsParams>;

export const StateForkParams = z.looseObject({
  checkpoint_id: z.string().min(1),
  input: z.unknown().optional(),
  config: Config.nullish(),
});
export type StateForkParams = z.infer<typeof StateForkParams>;

export const UnsubscribeParams = z.looseObject({ subscription_id: z.string() });

export const ReconnectParams = z.looseObject({
  run_id: z.string(),
  last_event_id: z.string().nullish(),
  subscriptions: z.array(z.string()).nullish(),
});

/* ----------------------------------------------------------------------------------- answers */

export const ERROR_CODES = [
  "invalid_argument",
  "unknown_command",
  "unknown_error",
  "no_such_run",
  "no_such_subscription",
  "no_such_namespace",
  "no_such_interrupt",
  "no_such_checkpoint",
  "permission_denied",
  "not_supported",
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

const Meta = z
  .looseObject({
    thread_id: z.string().optional(),
    applied_through_seq: z.int().min(0).optional().describe("Events up to this one were there when it was answered."),
  })
  .openapi("ProtocolResponseMeta");

export const ProtocolSuccess = z
  .looseObject({ type: z.literal("success"), id: CommandId, result: JsonObject, meta: Meta.optional() })
  .openapi("ProtocolSuccess");
export type ProtocolSuccess = z.infer<typeof ProtocolSuccess>;

export const ProtocolError = z
  .looseObject({
    type: z.literal("error"),
    id: CommandId.nullable().describe("Null: of a command whose id could not be read."),
    error: z.enum(ERROR_CODES),
    message: z.string(),
    meta: Meta.optional(),
  })
  .openapi("ProtocolError");
export type ProtocolError = z.infer<typeof ProtocolError>;

export const ProtocolResponse = z.union([ProtocolSuccess, ProtocolError]).openapi("ProtocolResponse");
export type ProtocolResponse = ProtocolSuccess | ProtocolError;

/** How far a position of a graph has got. */
export type AgentStatus = "started" | "running" | "completed" | "failed" | "interrupted";

export interface AgentTree {
  readonly namespace: readonly string[];
  readonly status: AgentStatus;
  readonly graph_name: string;
  readonly children?: readonly AgentTree[];
}

/** The answer to a command that is none: `given` is what came, whose id it has if one can be read. */
export function malformed(given: unknown, message: string): ProtocolError & { readonly detail: string } {
  const id = CommandId.safeParse((given as { readonly id?: unknown } | null | undefined)?.id);
  return { type: "error", id: id.success ? id.data : null, error: "invalid_argument", message, detail: message };
}

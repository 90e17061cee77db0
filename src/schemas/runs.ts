/**
 * Runs on the wire and in the run row.
 * Source: contract schemas RunCreateStateless, RunCreateStateful, Run, Command, Send.
 */
import { z } from "@hono/zod-openapi";
import type { AuthUser } from "./auth.ts";
import { CheckpointConfig, Config, JsonObject, OwnMetadata, orDefault } from "./common.ts";
import { Id } from "./ids.ts";

export const STREAM_MODES = [
  "values",
  "messages",
  "messages-tuple",
  "tasks",
  "checkpoints",
  "updates",
  "events",
  "debug",
  "custom",
  "tools",
] as const;
export const StreamMode = z.enum(STREAM_MODES).openapi("StreamMode");
export type StreamMode = z.infer<typeof StreamMode>;

export const THREAD_STREAM_MODES = ["run_modes", "lifecycle", "state_update"] as const;
export const ThreadStreamMode = z.enum(THREAD_STREAM_MODES).openapi("ThreadStreamMode");
export type ThreadStreamMode = z.infer<typeof ThreadStreamMode>;

export const MultitaskStrategy = z.enum(["reject", "rollback", "interrupt", "enqueue"]);
export type MultitaskStrategy = z.infer<typeof MultitaskStrategy>;

export const RUN_STATUSES = ["pending", "running", "error", "success", "timeout", "interrupted"] as const;
export const RunStatus = z.enum(RUN_STATUSES);
export type RunStatus = z.infer<typeof RunStatus>;

export const Durability = z.enum(["sync", "async", "exit"]);
export type Durability = z.infer<typeof Durability>;

export const Send = z.object({ node: z.string(), input: z.unknown() }).openapi("Send");
export type Send = z.infer<typeof Send>;

/** `goto` and `update` as contract; RemoteGraph also sends `lg_name` and `graph`, which are tolerated. */
export const Command = z
  .object({
    update: z.union([JsonObject, z.array(z.unknown()), z.null()]).optional(),
    resume: z.unknown().optional(),
    goto: z.union([z.string(), Send, z.array(z.union([z.string(), Send])), z.null()]).optional(),
    graph: z.string().nullish(),
  })
  .openapi("Command");
export type Command = z.infer<typeof Command>;

/** LangGraph's form of an interrupt's id. */
const INTERRUPT_ID = /^[0-9a-f]{32}$/;

/** The ids that a resume names when it is a map from interrupts to answers; undefined when it is the answer itself. */
export function interruptsOfResume(resume: unknown): readonly string[] | undefined {
  if (typeof resume !== "object" || resume === null || Array.isArray(resume)) return undefined;
  const ids = Object.keys(resume);
  return ids.length > 0 && ids.every((id) => INTERRUPT_ID.test(id)) ? ids : undefined;
}

const Breakpoints = z.union([z.literal("*"), z.array(z.string())]);

/** Where LangSmith puts the trace of a run. */
export const LangsmithTracer = z
  .object({
    project_name: z.string().min(1).max(1000).nullish().describe("Instead of the server's project."),
    example_id: z.uuid().nullish().describe("The example of a data set that the run is compared with."),
  })
  .openapi("LangsmithTracer");
export type LangsmithTracer = z.infer<typeof LangsmithTracer>;

const createFields = {
  assistant_id: z.string().describe("Id of an assistant, or of a graph (its default assistant)."),
  input: z.unknown().optional().describe("Input of the graph: any JSON. Null resumes from the checkpoint."),
  command: Command.nullish(),
  metadata: OwnMetadata.nullish(),
  config: Config.nullish(),
  context: JsonObject.nullish(),
  webhook: z.string().min(1).max(65_536).nullish(),
  stream_mode: orDefault(z.union([StreamMode, z.array(StreamMode)]), ["values"]),
  feedback_keys: z.array(z.string()).nullish().describe("Accepted; without a feedback service it has no effect."),
  stream_subgraphs: orDefault(z.boolean(), false),
  stream_resumable: orDefault(z.boolean(), false),
  after_seconds: z.number().min(0).max(3_153_600_000).nullish(),
  checkpoint_during: z
    .boolean()
    .nullish()
    .openapi({ default: false, deprecated: true })
    .describe("True is durability `async`, false is `exit`. Left out, `durability` alone counts."),
  durability: orDefault(Durability, "async"),
  interrupt_before: Breakpoints.nullish(),
  interrupt_after: Breakpoints.nullish(),
  langsmith_tracer: LangsmithTracer.nullish().describe("Refused by a server that does not trace to LangSmith."),
  langsmith_session_name: z
    .string()
    .min(1)
    .max(1000)
    .nullish()
    .describe("The same as `langsmith_tracer.project_name`, which counts first."),
  strict_resume: z
    .boolean()
    .nullish()
    .describe("The run fails when `command.resume` answers an interrupt that does not wait. Default: it does nothing."),
} as const;

export const OnDisconnect = z.enum(["cancel", "continue"]);
export const OnCompletion = z.enum(["delete", "keep"]);

export const RunCreateStateless = z
  .object({
    ...createFields,
    on_completion: orDefault(OnCompletion, "delete"),
    on_disconnect: orDefault(OnDisconnect, "continue"),
  })
  .openapi("RunCreateStateless");
export type RunCreateStateless = z.infer<typeof RunCreateStateless>;

export const RunCreateStateful = z
  .object({
    ...createFields,
    checkpoint: CheckpointConfig.nullish(),
    checkpoint_id: z.string().nullish(),
    multitask_strategy: orDefault(MultitaskStrategy, "enqueue"),
    if_not_exists: orDefault(z.enum(["create", "reject"]), "reject"),
    on_disconnect: orDefault(OnDisconnect, "continue"),
  })
  .openapi("RunCreateStateful");
export type RunCreateStateful = z.infer<typeof RunCreateStateful>;

/** `stream_mode` by its camelCase name, `streamMode`, and so on for each field of a stateless run. */
const SNAKE_BY_CAMEL: ReadonlyMap<string, string> = new Map(
  Object.keys(RunCreateStateless.shape).map((name) => [
    name.replaceAll(/_(\w)/g, (_, c: string) => c.toUpperCase()),
    name,
  ]),
);

/** The JS SDK's `createBatch` sends its own option names. A snake_case twin wins; values are left alone. */
function withSnakeKeys(item: unknown): unknown {
  if (typeof item !== "object" || item === null || Array.isArray(item)) return item;
  const renamed = Object.entries(item).flatMap(([key, value]): [string, unknown][] => {
    const snake = SNAKE_BY_CAMEL.get(key) ?? key;
    return snake !== key && snake in item ? [] : [[snake, value]];
  });
  return Object.fromEntries(renamed);
}

export const RunBatch = z.array(z.preprocess(withSnakeKeys, RunCreateStateless)).min(1).openapi("RunBatchCreate");

/** What a run was asked to do: normalised once at creation, stored on the run row, shown as `kwargs`. */
export interface RunKwargs {
  readonly input: unknown;
  readonly command: Command | null;
  readonly config: {
    readonly tags?: readonly string[];
    readonly recursion_limit?: number;
    readonly configurable: Readonly<Record<string, unknown>>;
    readonly metadata?: Readonly<Record<string, unknown>>;
  };
  readonly context: Readonly<Record<string, unknown>> | null;
  readonly stream_mode: readonly StreamMode[];
  readonly subgraphs: boolean;
  readonly resumable: boolean;
  readonly durability: Durability;
  readonly interrupt_before: "*" | readonly string[] | null;
  readonly interrupt_after: "*" | readonly string[] | null;
  readonly webhook: string | null;
  readonly feedback_keys: readonly string[] | null;
  /** Stateless with `on_completion: delete`: the thread goes when the run ends. */
  readonly temporary: boolean;
  readonly strict_resume?: boolean;
  /** Ids of the interrupts that `command.resume` answers: those that waited when the run was made. Absent: whichever wait when it runs. */
  readonly answers?: readonly string[];
  /**
   * Its log has events of streaming v2: `native`, made by a command of it, has no others; `beside`, made by REST on a thread that
   * streaming v2 has to do with, has them beside those of its stream modes.
   */
  readonly protocol?: "native" | "beside";
  /** Who made it, where users log in. Never shown: it holds whatever the project keeps of its users. */
  readonly user?: AuthUser;
  /** Where it is traced by LangSmith; absent when the server did not trace when it was made. */
  readonly langsmith?: LangsmithOfRun;
  /** Where the request that made the run is in a trace. Never shown. */
  readonly trace?: TraceContext;
  /** Of runs made over A2A. Never shown: it holds tokens of whoever is to be notified. */
  readonly task?: TaskOfRun;
}

export interface LangsmithOfRun {
  readonly project: string;
  /** Absent: the server's own project, which LangChain knows. */
  readonly own?: true;
  readonly example_id?: string;
}

/** A place in a trace. Source: W3C Trace Context. */
export interface TraceContext {
  readonly traceparent: string;
  readonly tracestate?: string;
}

/** What a run is to the client that sent it as a task. */
export interface TaskOfRun {
  /** The run by which the task is known: its first; null for that run itself. Each answer to a question is a run more. */
  readonly id: string | null;
  /** The id of the message that made the run. */
  readonly message_id: string;
  readonly push: readonly PushConfig[];
  /** Given up while it waited for an answer. */
  readonly canceled?: true;
}

/** Whom to tell how a task is left. Source: A2A, PushNotificationConfig. */
export interface PushConfig {
  readonly id: string;
  readonly url: string;
  /** Sent along, so that the receiver knows who calls. */
  readonly token: string | null;
  readonly authentication: { readonly scheme: string; readonly credentials: string } | null;
  /** The version of the protocol that its client spoke. */
  readonly wire: "0.3" | "1.0";
}

export const Run = z
  .object({
    run_id: z.uuid(),
    thread_id: z.uuid(),
    assistant_id: z.uuid(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    status: RunStatus,
    metadata: JsonObject,
    kwargs: JsonObject,
    multitask_strategy: MultitaskStrategy,
    langsmith_session_name: z.string().nullable().optional().describe("The project it is traced in, if it is."),
  })
  .openapi("Run");
export type Run = Omit<z.infer<typeof Run>, "kwargs"> & { kwargs: RunKwargs };

/** What `select` of a list may name. Source: contract. */
export const RUN_FIELDS = [
  "run_id",
  "thread_id",
  "assistant_id",
  "created_at",
  "updated_at",
  "status",
  "metadata",
  "kwargs",
  "multitask_strategy",
  "langsmith_session_name",
] as const;
export type RunField = (typeof RUN_FIELDS)[number];

/** Which runs to cancel: by status, on all threads, or some of one thread. */
export const RunsCancel = z
  .object({
    status: z.enum(["pending", "running", "all"]).nullish(),
    thread_id: Id.nullish(),
    run_ids: z.array(Id).min(1).nullish(),
  })
  .superRefine(({ status, thread_id, run_ids }, context) => {
    const problem = whichRuns(status != null, thread_id != null, run_ids != null);
    if (problem !== undefined) context.addIssue({ code: "custom", ...problem });
  })
  .openapi("RunsCancel");
export type RunsCancel = z.infer<typeof RunsCancel>;

function whichRuns(
  status: boolean,
  thread_id: boolean,
  run_ids: boolean,
): { path: string[]; message: string } | undefined {
  if (status && (thread_id || run_ids)) return { path: ["status"], message: "not together with thread_id and run_ids" };
  if (status || (thread_id && run_ids)) return undefined;
  if (thread_id) return { path: ["run_ids"], message: "required with thread_id" };
  if (run_ids) return { path: ["thread_id"], message: "required with run_ids" };
  return { path: ["status"], message: "required, or thread_id and run_ids" };
}

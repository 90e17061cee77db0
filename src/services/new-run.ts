/** From a request to a run row: assistant and run merged, defaults filled in. Pure but for ids. */
import { v7 as uuid7 } from "uuid";
import { REQUEST_ID, type RequestFacts } from "../observability/request.ts";
import type { CheckpointConfig, Config } from "../schemas/common.ts";
import {
  type Durability,
  interruptsOfResume,
  type RunCreateStateful,
  type RunCreateStateless,
  type RunKwargs,
  type StreamMode,
  type TaskOfRun,
} from "../schemas/runs.ts";
import type { AssistantRecord, NewRun } from "../storage/storage.ts";
import type { MadeBy } from "./access.ts";

export interface NewRunOptions {
  readonly assistant: AssistantRecord;
  readonly thread_id: string;
  readonly request: RunCreateStateless | RunCreateStateful;
  readonly from: RequestFacts;
  /** The server's project of LangSmith; null where it does not trace. */
  readonly langsmith: string | null;
  readonly temporary: boolean;
  /** Ids of the interrupts that wait on the thread. */
  readonly waiting?: readonly string[];
  readonly task?: TaskOfRun | undefined;
  readonly now: number;
  readonly by?: MadeBy | undefined;
  readonly protocol?: RunKwargs["protocol"] | undefined;
}

/** What a run of a command of streaming v2 shows to those who follow it otherwise. */
const NATIVE = {
  stream_mode: ["values", "updates", "messages-tuple", "tasks", "custom", "tools"],
  subgraphs: true,
} as const satisfies Partial<RunKwargs>;

/** Keys of `configurable` that the server sets; a client's are dropped. */
const OWN_KEYS = new Set(["thread_id", "run_id", "graph_id", "assistant_id", REQUEST_ID]);
const OWN_PREFIXES = ["__pregel_", "langgraph_auth_"];

export function newRun(options: NewRunOptions): NewRun {
  const { assistant, thread_id, request, from, langsmith, temporary, waiting = [], task, now, protocol, by } = options;
  const run_id = by?.id ?? uuid7();
  const { assistant_id, graph_id } = assistant;
  const metadata = {
    ...assistant.metadata,
    ...request.metadata,
    graph_id,
    assistant_id,
    [REQUEST_ID]: from.request_id,
  };
  return {
    run_id,
    thread_id,
    assistant_id,
    graph_id,
    status: "pending",
    metadata,
    kwargs: {
      ...withUser(kwargsOf(assistant, request, from, temporary), by),
      ...answersOf(request, waiting),
      ...(protocol === "native" ? NATIVE : {}),
      // What a stream of the thread shows can be asked for again.
      ...(protocol === undefined ? {} : { protocol, resumable: true }),
      ...(langsmith === null ? {} : { langsmith: langsmithOf(request, langsmith) }),
      ...(from.trace === undefined ? {} : { trace: from.trace }),
      ...(task === undefined ? {} : { task }),
    },
    multitask_strategy: ("multitask_strategy" in request ? request.multitask_strategy : null) ?? "enqueue",
    not_before: now + Math.round((request.after_seconds ?? 0) * 1000),
    attempt: 0,
    fence: 0,
    lease_owner: null,
    lease_expires_at: null,
    cancel_action: null,
    error: null,
    checkpoint_id: null,
    created_at: now,
    updated_at: now,
    started_at: null,
    ended_at: null,
  };
}

/** The graph gets the whole user; whoever sees the run sees who it is and no more. */
function withUser(kwargs: RunKwargs, by: MadeBy | undefined): RunKwargs {
  if (by === undefined) return kwargs;
  const { user } = by;
  const { config } = kwargs;
  const shown = { langgraph_auth_user_id: user.identity, langgraph_auth_permissions: user.permissions };
  return { ...kwargs, user, config: { ...config, configurable: { ...config.configurable, ...shown } } };
}

function langsmithOf(
  { langsmith_tracer, langsmith_session_name }: RunCreateStateless,
  project: string,
): NonNullable<RunKwargs["langsmith"]> {
  const own = langsmith_tracer?.project_name ?? langsmith_session_name;
  const example_id = langsmith_tracer?.example_id;
  return {
    ...(own == null ? { project } : { project: own, own: true }),
    ...(example_id == null ? {} : { example_id }),
  };
}

/** The run as its first claim makes it. */
export function claimed(
  run: NewRun,
  { owner, ms }: { readonly owner: string; readonly ms: number },
  now: number,
): NewRun {
  return {
    ...run,
    status: "running",
    attempt: 1,
    fence: 1,
    lease_owner: owner,
    lease_expires_at: now + ms,
    started_at: now,
  };
}

function kwargsOf(
  assistant: AssistantRecord,
  request: RunCreateStateless | RunCreateStateful,
  { configurable, request_id }: RequestFacts,
  temporary: boolean,
): RunKwargs {
  const checkpoint = "checkpoint" in request || "checkpoint_id" in request ? checkpointOf(request) : {};
  const fixed = { ...strip(configurable), ...checkpoint, [REQUEST_ID]: request_id };
  return {
    input: request.input ?? null,
    command: request.command ?? null,
    config: mergeConfig(assistant.config as Config, inStep(assistant, request), fixed),
    context: mergeContext(assistant.context, request),
    stream_mode: streamModes(request.stream_mode),
    subgraphs: request.stream_subgraphs ?? false,
    resumable: request.stream_resumable ?? false,
    durability: durabilityOf(request.durability, request.checkpoint_during),
    interrupt_before: request.interrupt_before ?? null,
    interrupt_after: request.interrupt_after ?? null,
    webhook: request.webhook ?? null,
    feedback_keys: request.feedback_keys ?? null,
    temporary,
    ...(request.strict_resume === true ? { strict_resume: true } : {}),
  };
}

/**
 * A resume answers what waited when it was asked for: by the time it runs another may have answered, and the next question
 * is not what its client saw. A resume at a checkpoint, or of a thread where nothing waits yet, takes what it finds.
 */
function answersOf(
  request: RunCreateStateless | RunCreateStateful,
  waiting: readonly string[],
): Pick<RunKwargs, "answers"> {
  if (request.command?.resume === undefined) return {};
  const named = interruptsOfResume(request.command.resume);
  if (named !== undefined) return { answers: named };
  const elsewhere =
    "checkpoint" in request || "checkpoint_id" in request ? checkpointOf(request).checkpoint_id : undefined;
  return waiting.length > 0 && elsewhere === undefined ? { answers: waiting } : {};
}

/** `durability` wins over the deprecated `checkpoint_during`; neither: async. */
export function durabilityOf(
  durability: Durability | null | undefined,
  during: boolean | null | undefined,
): Durability {
  if (durability != null) return durability;
  if (during == null) return "async";
  return during ? "async" : "exit";
}

export function streamModes(asked: StreamMode | readonly StreamMode[] | null | undefined): readonly StreamMode[] {
  const modes = asked == null ? [] : typeof asked === "string" ? [asked] : asked;
  return modes.length === 0 ? ["values"] : [...new Set(modes)];
}

type Asked = Pick<RunCreateStateless, "config" | "context">;

/**
 * The run's own config. An assistant holds its settings twice, in `config.configurable` and in `context`: a run that
 * overrides one of them in one place overrides it in the other too, or its graph would find two values.
 */
function inStep(assistant: AssistantRecord, { config, context }: Asked): Config {
  const known = (assistant.config as Config).configurable ?? {};
  const shared = only(context ?? {}, known);
  if (Object.keys(shared).length === 0) return config ?? {};
  return { ...config, configurable: { ...shared, ...config?.configurable } };
}

const only = (members: Record<string, unknown>, keys: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(members).filter(([key]) => Object.hasOwn(keys, key)));

/** Run wins over assistant; tags are joined, metadata is merged. */
function mergeConfig(base: Config, own: Config, fixed: Record<string, unknown>): RunKwargs["config"] {
  const tags = [...new Set([...(base.tags ?? []), ...(own.tags ?? [])])];
  const recursion_limit = own.recursion_limit ?? base.recursion_limit;
  const metadata = { ...base.metadata, ...own.metadata };
  return {
    ...(tags.length > 0 ? { tags } : {}),
    ...(recursion_limit === undefined ? {} : { recursion_limit }),
    ...(Object.keys(metadata).length > 0 ? { metadata } : {}),
    configurable: { ...withoutStaleMap({ ...strip(base.configurable), ...strip(own.configurable), ...fixed }) },
  };
}

/** A `checkpoint_map` says where subgraphs stood at a checkpoint; without the checkpoint it would put them back there for no reason. */
function withoutStaleMap({ checkpoint_map, ...rest }: Record<string, unknown>): Record<string, unknown> {
  return checkpoint_map == null || rest.checkpoint_id == null ? rest : { ...rest, checkpoint_map };
}

function mergeContext(
  base: Readonly<Record<string, unknown>>,
  { context, config }: Asked,
): Readonly<Record<string, unknown>> | null {
  if (context == null && Object.keys(base).length === 0) return null;
  return { ...base, ...only(config?.configurable ?? {}, base), ...context };
}

function strip(configurable: Readonly<Record<string, unknown>> | undefined): Record<string, unknown> {
  const entries = Object.entries(configurable ?? {});
  return Object.fromEntries(
    entries.filter(([key]) => !OWN_KEYS.has(key) && !OWN_PREFIXES.some((p) => key.startsWith(p))),
  );
}

function checkpointOf({
  checkpoint,
  checkpoint_id,
}: {
  checkpoint?: CheckpointConfig | null | undefined;
  checkpoint_id?: string | null | undefined;
}): Record<string, unknown> {
  const id = checkpoint?.checkpoint_id ?? checkpoint_id;
  return {
    ...(id == null ? {} : { checkpoint_id: id }),
    ...(checkpoint?.checkpoint_ns ? { checkpoint_ns: checkpoint.checkpoint_ns } : {}),
    ...(checkpoint?.checkpoint_map == null ? {} : { checkpoint_map: checkpoint.checkpoint_map }),
  };
}

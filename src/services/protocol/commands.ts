/**
 * Commands of streaming v2, as a table: what each takes, does and answers. Runs come to be as all others do; what goes wrong
 * is told by the protocol's codes. Source: protocol `Command`, `ErrorCode`.
 */
import { type Missing, notFound, SkeinError } from "../../errors.ts";
import type { Logger } from "../../observability/logger.ts";
import type { JsonObject } from "../../schemas/common.ts";
import { invalidInput } from "../../schemas/issues.ts";
import {
  type AgentTree,
  type CommandName,
  type ErrorCode,
  GetTreeParams,
  InputInjectParams,
  InputRespondParams,
  ListCheckpointsParams,
  type ProtocolCommand,
  type ProtocolResponse,
  RunStartParams,
  StateForkParams,
  StateGetParams,
} from "../../schemas/protocol.ts";
import type { Run, RunCreateStateful } from "../../schemas/runs.ts";
import type { Storage } from "../../storage/storage.ts";
import * as checkpoints from "../../storage/tables/checkpoints.ts";
import * as threads from "../../storage/tables/threads.ts";
import type { CommandOrigin, RunRequest, RunsService, ThreadsService } from "../contract.ts";

export interface CommandsOptions {
  readonly storage: Storage;
  /** Not found when the thread is not there for the caller. */
  readonly find: (thread_id: string) => Promise<threads.BareThread>;
  readonly runs: RunsService;
  readonly threads: ThreadsService;
  readonly logger: Logger;
  readonly tree: (thread_id: string, run_id: string | undefined) => Promise<AgentTree>;
  /** Number of the newest event of the thread that anybody can have seen. */
  readonly appliedThrough: (thread_id: string) => Promise<number>;
}

/** What a command is about, beside its parameters. */
interface Call {
  readonly thread_id: string;
  readonly from: RunRequest;
}

type Method = (params: unknown, call: Call) => Promise<JsonObject>;
type Schema<P> = {
  safeParse(
    given: unknown,
    options: { reportInput: true },
  ): { success: true; data: P } | { success: false; error: Parameters<typeof invalidInput>[0] };
};

/** How long an answer to an interrupt that does not show yet waits for the run that may have raised it. */
const SETTLED_WITHIN_MS = 10_000;
const CHECKPOINTS = 10;
const STREAMS_ONLY = "needs a connection of its own: subscriptions over HTTP are requests to /stream/events";

/** A refusal whose code does not follow from what went wrong. */
class Refusal extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export class Commands {
  readonly #options: CommandsOptions;
  readonly #methods: ReadonlyMap<string, Method>;

  constructor(options: CommandsOptions) {
    this.#options = options;
    const methods: Readonly<Record<CommandName, Method>> = {
      "run.start": taking(RunStartParams, (params, call) => this.#start(params, call)),
      "input.respond": taking(InputRespondParams, (params, call) => this.#respond(params, call)),
      "input.inject": taking(InputInjectParams, (params, call) => this.#inject(params, call)),
      "state.get": taking(StateGetParams, (params, call) => this.#state(params, call)),
      "state.listCheckpoints": taking(ListCheckpointsParams, (params, call) => this.#list(params, call)),
      "state.fork": taking(StateForkParams, (params, call) => this.#fork(params, call)),
      "agent.getTree": taking(GetTreeParams, (params, call) => this.#tree(params, call)),
      "subscription.subscribe": streamsOnly,
      "subscription.unsubscribe": streamsOnly,
      "subscription.reconnect": streamsOnly,
    };
    this.#methods = new Map(Object.entries(methods));
  }

  /** Carries out a command. Never rejects: what goes wrong is in the answer, and logged when it is our fault. */
  async run(thread_id: string, { id, method, params }: ProtocolCommand, from: RunRequest): Promise<ProtocolResponse> {
    const meta: { thread_id: string; applied_through_seq?: number } = { thread_id };
    try {
      // Before a run is made: its first question must count as new.
      meta.applied_through_seq = await this.#options.appliedThrough(thread_id);
      const carryOut = this.#methods.get(method);
      if (carryOut === undefined) throw new Refusal("unknown_command", `Unknown command ${method}`);
      const call = { thread_id, from: namedAfter(method, from) };
      return { type: "success", id, result: await carryOut(params ?? {}, call), meta };
    } catch (thrown) {
      const error = codeOf(thrown);
      if (error !== "unknown_error") return { type: "error", id, error, message: (thrown as Error).message, meta };
      const { request_id } = from;
      this.#options.logger.error({ err: thrown, thread_id, method, request_id }, "a command failed");
      const message = thrown instanceof SkeinError ? thrown.message : "Internal Server Error";
      return { type: "error", id, error, message, meta };
    }
  }

  async #start(params: RunStartParams, call: Call): Promise<JsonObject> {
    const { multitaskStrategy, ...request } = params;
    const multitask_strategy = request.multitask_strategy ?? multitaskStrategy;
    const asked = { ...request, multitask_strategy, if_not_exists: "create" } as const;
    const { run_id } = await this.#make(asked, call, { asked: params, inputMayResume: true });
    return { run_id };
  }

  /**
   * A client may answer as soon as it sees the question, before the run that asks has ended and its thread shows it: then the
   * answer waits for that end.
   */
  async #respond(params: InputRespondParams, call: Call): Promise<JsonObject> {
    const { answers, askedAt, update, goto, config, metadata, strict_resume } = params;
    const request = {
      command: {
        resume: Object.fromEntries(answers),
        ...(update === undefined ? {} : { update }),
        ...(goto === undefined ? {} : { goto }),
      },
      config,
      metadata,
      strict_resume,
    };
    const asked = { ...params, answers: [...answers], askedAt: [...askedAt] };
    const origin = { asked, mustWait: [...answers.keys()] };
    const signal = AbortSignal.timeout(SETTLED_WITHIN_MS);
    for (let mayComeYet = true; ; ) {
      try {
        for (const [id, namespace] of askedAt) await this.#requireAsked(call.thread_id, id, namespace);
        const { run_id } = await this.#makeHere(request, call, origin);
        return { run_id };
      } catch (error) {
        if (!mayBeAskedYet(error) || !mayComeYet) throw error;
      }
      // Once more when nothing runs: what ran has just ended.
      mayComeYet = (await this.#untilIdle(call.thread_id, signal)) && !signal.aborted;
    }
  }

  /** An interrupt waits in the graph that raised it, and in all above. That it waits on the thread is seen to where the run is made. */
  async #requireAsked(thread_id: string, interrupt_id: string, namespace: readonly string[]): Promise<void> {
    if (namespace.length === 0) return;
    const checkpoint_ns = namespace.join("|");
    await this.#requireNamespace(thread_id, checkpoint_ns);
    const text = await this.#options.threads.state(thread_id, { checkpoint_ns }, false, ["tasks"]);
    const { tasks = [] } = JSON.parse(text) as StateShown;
    if (tasks.some(({ interrupts = [] }) => interrupts.some(({ id }) => id === interrupt_id))) return;
    throw notFound(`namespace: interrupt ${interrupt_id} does not wait at ${checkpoint_ns}`, "interrupt");
  }

  /** Waits for the end of the run that the thread is busy with; false when there is none. */
  async #untilIdle(thread_id: string, signal: AbortSignal): Promise<boolean> {
    const { runs } = this.#options;
    const [running] = await runs.list(thread_id, { limit: 1, offset: 0, status: "running", select: null });
    if (running?.run_id === undefined) return false;
    const end = { after: Number.MAX_SAFE_INTEGER - 1, modes: [], signal };
    for await (const _ of await runs.follow(thread_id, running.run_id, end));
    return true;
  }

  /** LangGraph takes nothing in between two nodes of a run under way: the message is the input of a run after it. */
  async #inject(params: InputInjectParams, call: Call): Promise<JsonObject> {
    const { namespace, message } = params;
    if (namespace != null && namespace.length > 0) {
      throw new Refusal("not_supported", "namespace: only the root graph takes messages");
    }
    const { run_id } = await this.#makeHere({ input: { messages: [message] } }, call, { asked: params });
    return { run_id };
  }

  async #fork(params: StateForkParams, call: Call): Promise<JsonObject> {
    const { checkpoint_id, input, config } = params;
    const { run_id, thread_id } = await this.#makeHere({ checkpoint_id, input, config }, call, { asked: params });
    return { run_id, thread_id };
  }

  /** A run of the assistant that ran on the thread last. */
  async #makeHere(
    request: Omit<RunCreateStateful, "assistant_id">,
    call: Call,
    origin: Omit<CommandOrigin, "door">,
  ): Promise<Run> {
    const { assistant_id, graph_id } = (await this.#options.find(call.thread_id)).metadata;
    const named = assistant_id ?? graph_id;
    if (typeof named !== "string") throw notFound(`No run has been on thread ${call.thread_id}`, "run");
    return this.#make({ ...request, assistant_id: named }, call, origin);
  }

  #make(request: RunCreateStateful, call: Call, origin: Omit<CommandOrigin, "door">): Promise<Run> {
    return this.#options.runs.create(call.thread_id, request, call.from, { ...origin, door: "command" });
  }

  async #state({ namespace, keys }: StateGetParams, { thread_id }: Call): Promise<JsonObject> {
    const ns = (namespace ?? []).join("|");
    await this.#requireNamespace(thread_id, ns);
    const select = ["checkpoint", ...(keys == null ? ["values"] : keys.map((key) => `values.${key}`))];
    const text = await this.#options.threads.state(thread_id, { checkpoint_ns: ns }, false, select);
    const { values, checkpoint } = JSON.parse(text) as StateShown;
    const pointer = checkpoint && { id: checkpoint.checkpoint_id, ns: checkpoint.checkpoint_ns };
    return { values: values ?? {}, ...(pointer === null ? {} : { checkpoint: pointer }) };
  }

  async #list({ namespace, limit, before }: ListCheckpointsParams, { thread_id }: Call): Promise<JsonObject> {
    const checkpoint_ns = (namespace ?? []).join("|");
    await this.#requireNamespace(thread_id, checkpoint_ns);
    await this.#requireCheckpoint(thread_id, checkpoint_ns, before ?? undefined);
    const search = {
      checkpoint: { checkpoint_ns },
      limit: limit ?? CHECKPOINTS,
      before: before ?? undefined,
      select: ["checkpoint", "created_at", "metadata"],
    };
    const states = JSON.parse(await this.#options.threads.history(thread_id, search)) as readonly StateShown[];
    return {
      checkpoints: states.map(({ checkpoint, created_at, metadata }) => ({
        id: checkpoint?.checkpoint_id,
        timestamp: created_at,
        step: metadata.step,
        metadata,
      })),
    };
  }

  /** The root is there from the beginning; what is below it comes to be with its first checkpoint. */
  async #requireNamespace(thread_id: string, checkpoint_ns: string): Promise<void> {
    await this.#options.find(thread_id);
    if (checkpoint_ns === "") return;
    const newest = await this.#options.storage.read((db) => checkpoints.latestOf(db, thread_id, checkpoint_ns));
    if (newest === null) {
      throw new Refusal("no_such_namespace", `namespace: ${checkpoint_ns} has no checkpoint on thread ${thread_id}`);
    }
  }

  async #requireCheckpoint(thread_id: string, checkpoint_ns: string, checkpoint_id: string | undefined): Promise<void> {
    if (checkpoint_id === undefined) return;
    const key = { thread_id, checkpoint_ns, checkpoint_id };
    if (await this.#options.storage.read((db) => checkpoints.exists(db, key))) return;
    throw notFound(`before: checkpoint ${checkpoint_id} not found`, "checkpoint");
  }

  async #tree({ run_id }: GetTreeParams, { thread_id }: Call): Promise<JsonObject> {
    return { tree: await this.#options.tree(thread_id, run_id ?? undefined) };
  }
}

/** The thread; not found when there is none. */
export async function findThread(storage: Storage, thread_id: string): Promise<threads.BareThread> {
  const thread = await storage.read((db) => threads.findBare(db, thread_id));
  if (thread === undefined) throw notFound(`Thread ${thread_id} not found`, "thread");
  return thread;
}

/** The run under way may yet come to ask it. */
const mayBeAskedYet = (error: unknown): boolean =>
  error instanceof Refusal
    ? error.code === "no_such_namespace"
    : error instanceof SkeinError && error.missing === "interrupt";

interface StateShown {
  readonly tasks?: readonly { readonly interrupts?: readonly { readonly id?: string }[] }[];
  readonly values?: JsonObject;
  readonly checkpoint: { readonly checkpoint_id: string; readonly checkpoint_ns: string } | null;
  readonly created_at: string;
  readonly metadata: { readonly step?: number };
}

/** The same key for another command is another request. */
function namedAfter(method: string, { repeatable, ...from }: RunRequest): RunRequest {
  if (repeatable === undefined) return from;
  return { ...from, repeatable: { ...repeatable, operation: `${repeatable.operation} ${method}` } };
}

/** A method whose parameters are checked first. */
function taking<P>(schema: Schema<P>, carryOut: (params: P, call: Call) => Promise<JsonObject>): Method {
  return (params, call) => {
    const checked = schema.safeParse(params, { reportInput: true });
    if (!checked.success) throw invalidInput(checked.error, "params");
    return carryOut(checked.data, call);
  };
}

const streamsOnly: Method = () => Promise.reject(new Refusal("not_supported", STREAMS_ONLY));

const CODE_OF_MISSING = {
  assistant: "invalid_argument",
  thread: "no_such_run",
  run: "no_such_run",
  checkpoint: "no_such_checkpoint",
  interrupt: "no_such_interrupt",
} as const satisfies Record<Missing, ErrorCode>;

function codeOf(thrown: unknown): ErrorCode {
  if (thrown instanceof Refusal) return thrown.code;
  if (!(thrown instanceof SkeinError)) return "unknown_error";
  if (thrown.kind === "forbidden") return "permission_denied";
  if (thrown.kind === "not_found" && thrown.missing !== undefined) return CODE_OF_MISSING[thrown.missing];
  return thrown.kind === "invalid" || thrown.kind === "conflict" || thrown.kind === "not_found"
    ? "invalid_argument"
    : "unknown_error";
}

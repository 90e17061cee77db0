/**
 * An assistant as an agent of A2A: the SDK's request handler over our services. Tasks are runs, contexts are threads; nothing
 * is kept in memory, so any process answers for any task. Made anew for each request.
 */
import type {
  AgentCard,
  CancelTaskRequest,
  DeleteTaskPushNotificationConfigRequest,
  GetTaskPushNotificationConfigRequest,
  GetTaskRequest,
  ListTaskPushNotificationConfigsRequest,
  ListTaskPushNotificationConfigsResponse,
  ListTasksRequest,
  ListTasksResponse,
  SendMessageConfiguration,
  SendMessageRequest,
  StreamResponse,
  SubscribeToTaskRequest,
  Task,
  TaskPushNotificationConfig,
} from "@a2a-js/sdk";
import {
  A2AError,
  ContentTypeNotSupportedError,
  ExtendedAgentCardNotConfiguredError,
  PushNotificationNotSupportedError,
  RequestMalformedError,
  TaskNotCancelableError,
  TaskNotFoundError,
  UnsupportedOperationError,
} from "@a2a-js/sdk/errors";
import type { A2ARequestHandler } from "@a2a-js/sdk/server";
import { validate as isUuid, v4 as uuid4, v7 as uuid7 } from "uuid";
import { SkeinError } from "../../errors.ts";
import type { RequestFacts } from "../../observability/request.ts";
import { type PushConfig, RunCreateStateful, type TaskOfRun } from "../../schemas/runs.ts";
import type { CallerLogger, Services, TaskPlace, TaskView } from "../contract.ts";
import { isObject, readOutput, textOf } from "../run-output.ts";
import { ENDED } from "../tasks.ts";
import { agentCard } from "./card.ts";
import { answerArtifact, inputOf, resumeOf, textPart } from "./content.ts";
import type { Extras, Wire } from "./requests.ts";
import { ALL, artifactsOf, type KnownTask, placeOf, STATES, statusOf, taskOf, type Wanted } from "./task.ts";

export interface A2aCaller {
  readonly services: Services;
  readonly logger: CallerLogger;
  readonly assistant_id: string;
  readonly wire: Wire;
  readonly extras: Extras;
  /** Where the agent is served, as the client sees it. */
  readonly url: string;
  readonly version: string;
  readonly from: RequestFacts;
  /** Fires when nobody reads the answer any more. The task goes on. */
  readonly signal: AbortSignal;
}

const PAGE = 50;
/** What the parts of our answers are; the short names are of old clients. */
const OUTPUT_MODES = new Set(["text/plain", "application/json", "text", "data", "text/*", "application/*", "*/*"]);

export class Agent implements A2ARequestHandler {
  readonly #caller: A2aCaller;

  constructor(caller: A2aCaller) {
    this.#caller = caller;
  }

  getAgentCard(): Promise<AgentCard> {
    return this.#guard(async () => {
      const { services, assistant_id } = this.#caller;
      return agentCard(await services.assistants.get(assistant_id), this.#caller, services.tasks.canPush);
    });
  }

  async getAuthenticatedExtendedAgentCard(): Promise<AgentCard> {
    throw new ExtendedAgentCardNotConfiguredError("This agent has no other card than the public one");
  }

  sendMessage(request: SendMessageRequest): Promise<Task> {
    return this.#guard(async () => {
      const { services, extras, signal } = this.#caller;
      const sent = await this.#send(request);
      if (extras.blocking) await services.runs.wait(sent.run.thread_id, sent.run.run_id, signal);
      const wanted = { ...ALL, historyLength: request.configuration?.historyLength };
      return this.#shown(await this.#task(sent.run.run_id), wanted);
    });
  }

  async *sendMessageStream(request: SendMessageRequest): AsyncGenerator<StreamResponse, void, undefined> {
    const sent = await this.#guard(() => this.#send(request));
    yield* this.#events(sent, { ...ALL, historyLength: request.configuration?.historyLength });
  }

  getTask({ id, historyLength }: GetTaskRequest): Promise<Task> {
    return this.#guard(async () => this.#shown(await this.#task(id), { ...ALL, historyLength }));
  }

  listTasks(request: ListTasksRequest): Promise<ListTasksResponse> {
    return this.#guard(async () => {
      const { pageSize = PAGE, contextId, status, statusTimestampAfter, pageToken } = request;
      const state = Object.entries(STATES).find(([, value]) => value === status)?.[0] as TaskView["state"] | undefined;
      // Tasks are never in any other state.
      if (status !== 0 && state === undefined) return { tasks: [], nextPageToken: "", pageSize, totalSize: 0 };
      const { tasks, next, total } = await this.#caller.services.tasks.list(this.#caller.assistant_id, {
        thread_id: contextId || null,
        state: state ?? null,
        updated_since: statusTimestampAfter ?? null,
        before: placeIn(pageToken),
        limit: pageSize,
      });
      const wanted = { historyLength: request.historyLength ?? 0, artifacts: request.includeArtifacts === true };
      const shown: Task[] = [];
      for (const task of tasks) shown.push(await this.#shown(task, wanted));
      return { tasks: shown, nextPageToken: tokenOf(next), pageSize, totalSize: total };
    });
  }

  cancelTask({ id }: CancelTaskRequest): Promise<Task> {
    return this.#guard(async () => {
      const { services, assistant_id } = this.#caller;
      const task = await this.#task(id);
      try {
        await services.tasks.cancel(assistant_id, task.run.run_id);
      } catch (error) {
        if (error instanceof SkeinError && error.kind === "conflict") throw new TaskNotCancelableError(error.message);
        throw error;
      }
      const left = await this.#task(task.run.run_id);
      // It came to its end before it heard of it.
      if (left.state !== "canceled") throw new TaskNotCancelableError(`Task ${left.task_id} has ended (${left.state})`);
      return this.#shown(left, ALL);
    });
  }

  async *resubscribe({ id }: SubscribeToTaskRequest): AsyncGenerator<StreamResponse, void, undefined> {
    const task = await this.#guard(() => this.#task(id));
    if (ENDED.has(task.state)) {
      throw new UnsupportedOperationError(`Task ${task.task_id} has ended (${task.state}) and sends nothing any more`);
    }
    yield* this.#events(task, ALL);
  }

  createTaskPushNotificationConfig(config: TaskPushNotificationConfig): Promise<TaskPushNotificationConfig> {
    return this.#guard(async () => {
      const task = await this.#task(config.taskId);
      const push = this.#pushOf(config, { "1.0": "url", "0.3": "pushNotificationConfig.url" });
      await this.#push(() => this.#caller.services.tasks.setPush(this.#caller.assistant_id, task.run.run_id, push));
      return pushShown(task, push);
    });
  }

  getTaskPushNotificationConfig(request: GetTaskPushNotificationConfigRequest): Promise<TaskPushNotificationConfig> {
    return this.#guard(async () => {
      this.#requirePush();
      const task = await this.#task(request.taskId);
      const found = request.id === "" ? task.push.at(-1) : task.push.find(({ id }) => id === request.id);
      if (found === undefined) throw new TaskNotFoundError(`Task ${task.task_id} has no such push notification config`);
      return pushShown(task, found);
    });
  }

  listTaskPushNotificationConfigs(
    request: ListTaskPushNotificationConfigsRequest,
  ): Promise<ListTaskPushNotificationConfigsResponse> {
    return this.#guard(async () => {
      this.#requirePush();
      const task = await this.#task(request.taskId);
      return { configs: task.push.map((push) => pushShown(task, push)), nextPageToken: "" };
    });
  }

  deleteTaskPushNotificationConfig(request: DeleteTaskPushNotificationConfigRequest): Promise<void> {
    return this.#guard(async () => {
      this.#requirePush();
      const task = await this.#task(request.taskId);
      const { services, assistant_id } = this.#caller;
      await this.#push(() => services.tasks.deletePush(assistant_id, task.run.run_id, request.id));
    });
  }

  /** Errors as the protocol has them. What is not ours is logged, and shown without its words. */
  async #guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.#said(error);
    }
  }

  #said(error: unknown): A2AError {
    if (error instanceof A2AError) return error;
    if (error instanceof SkeinError) return ERRORS[error.kind](error.message);
    const { signal, logger, from } = this.#caller;
    if (!signal.aborted) logger.error({ err: error, request_id: from.request_id }, "an A2A request failed");
    return new A2AError("Internal error");
  }

  /** By its own id, or with its context in front: `thread:run`. */
  async #task(id: string): Promise<TaskView> {
    const [thread_id, run_id] = id.includes(":") ? split(id) : [null, id];
    const missing = (): TaskNotFoundError => new TaskNotFoundError(`Task ${id} not found`);
    if (!isUuid(run_id)) throw missing();
    try {
      const task = await this.#caller.services.tasks.get(this.#caller.assistant_id, run_id.toLowerCase());
      for (const context of [thread_id, this.#caller.extras.context_id]) {
        if (context !== null && task.run.thread_id !== context.toLowerCase()) throw missing();
      }
      return task;
    } catch (error) {
      if (error instanceof SkeinError && error.kind === "not_found") throw missing();
      throw error;
    }
  }

  /** Makes the run that a message means: a new task, or the answer that a task waits for. */
  async #send({ message, configuration }: SendMessageRequest): Promise<TaskView> {
    if (message === undefined) throw new RequestMalformedError("message: required");
    const { services, assistant_id, extras, from } = this.#caller;
    this.#requireOutput(configuration);
    const before = message.taskId === "" ? undefined : await this.#waitingTask(message.taskId, message.contextId);
    const push = this.#pushFrom(configuration, before);
    const task: TaskOfRun = { id: before?.task_id ?? null, message_id: message.messageId, push };
    const request = RunCreateStateful.parse({
      assistant_id,
      ...(await this.#asked(message, before)),
      context: extras.context,
      stream_mode: ["messages-tuple"],
      if_not_exists: "create",
    });
    const thread_id = before?.run.thread_id ?? (message.contextId === "" ? uuid7() : message.contextId.toLowerCase());
    const run = await services.runs.create(thread_id, request, from, {
      door: "message",
      task,
      answers: before?.run.run_id ?? null,
    });
    return this.#task(run.run_id);
  }

  async #waitingTask(id: string, context_id: string): Promise<TaskView> {
    const task = await this.#task(id);
    if (context_id !== "" && context_id.toLowerCase() !== task.run.thread_id) {
      throw new RequestMalformedError(`message.contextId: task ${task.task_id} belongs to another context`);
    }
    if (task.state === "input-required") return task;
    throw new UnsupportedOperationError(
      ENDED.has(task.state)
        ? `Task ${task.task_id} has ended (${task.state}); send the message without taskId to begin another in its context`
        : `Task ${task.task_id} is ${task.state} and asks for nothing; send the message without taskId to queue another behind it`,
    );
  }

  /** A command says all that a run needs; else an answer is one, and any other message is an input. */
  async #asked(message: NonNullable<SendMessageRequest["message"]>, before: TaskView | undefined) {
    const { command } = this.#caller.extras;
    if (command !== null) return { command };
    if (before !== undefined) return { command: resumeOf(message, before.questions) };
    const hasText = message.parts.some(({ content }) => content?.$case === "text");
    return { input: inputOf(message, hasText && (await this.#takesMessages())) };
  }

  /** A graph whose input is not known may take them. */
  async #takesMessages(): Promise<boolean> {
    const { services, assistant_id } = this.#caller;
    const { input_schema: schema } = JSON.parse(await services.assistants.schemas(assistant_id)) as {
      input_schema?: unknown;
    };
    if (!isObject(schema) || !isObject(schema.properties)) return true;
    return Object.hasOwn(schema.properties, "messages");
  }

  #requireOutput(configuration: SendMessageConfiguration | undefined): void {
    const modes = configuration?.acceptedOutputModes ?? [];
    if (modes.length === 0 || modes.some((mode) => OUTPUT_MODES.has(mode.toLowerCase()))) return;
    throw new ContentTypeNotSupportedError(
      "configuration.acceptedOutputModes: this agent gives text/plain and application/json",
    );
  }

  #pushFrom(configuration: SendMessageConfiguration | undefined, before: TaskView | undefined): readonly PushConfig[] {
    const asked = configuration?.taskPushNotificationConfig;
    const kept = before?.push ?? [];
    if (asked === undefined) return kept;
    const push = this.#pushOf(asked, {
      "1.0": "configuration.taskPushNotificationConfig.url",
      "0.3": "configuration.pushNotificationConfig.url",
    });
    return [...kept.filter(({ id }) => id !== push.id), push];
  }

  /** `field`: where the client has put the URL. */
  #pushOf(
    { id, url, token, authentication }: TaskPushNotificationConfig,
    field: Readonly<Record<A2aCaller["wire"], string>>,
  ): PushConfig {
    this.#requirePush();
    this.#caller.services.tasks.checkPush(url, field[this.#caller.wire]);
    return {
      id: id || uuid4(),
      url,
      token: token || null,
      authentication: authentication?.scheme
        ? { scheme: authentication.scheme, credentials: authentication.credentials }
        : null,
      wire: this.#caller.wire,
    };
  }

  #requirePush(): void {
    if (!this.#caller.services.tasks.canPush) {
      throw new PushNotificationNotSupportedError("This server sends no webhooks, and so no push notifications");
    }
  }

  async #push(change: () => Promise<void>): Promise<void> {
    try {
      await change();
    } catch (error) {
      if (error instanceof SkeinError && error.kind === "conflict") throw new UnsupportedOperationError(error.message);
      throw error;
    }
  }

  async #known(task: TaskView, withOutput: boolean): Promise<KnownTask> {
    const { services, signal } = this.#caller;
    const { run } = task;
    if (!withOutput || !isOver(task)) return { ...task, values: null, error: null };
    const { values, error } = readOutput(await services.runs.wait(run.thread_id, run.run_id, signal));
    return { ...task, values, error };
  }

  async #shown(task: TaskView, wanted: Wanted): Promise<Task> {
    const needsOutput = wanted.artifacts || wanted.historyLength !== 0 || task.state === "failed";
    return taskOf(await this.#known(task, needsOutput), wanted);
  }

  /** The task as it is, what it says while it works, and how it is left. */
  async *#events(task: TaskView, wanted: Wanted): AsyncGenerator<StreamResponse, void, undefined> {
    const { services, signal } = this.#caller;
    const place = placeOf(task);
    const where = { taskId: place.task_id, contextId: place.context_id, metadata: undefined };
    yield { payload: { $case: "task", value: await this.#guard(() => this.#shown(task, wanted)) } };
    const { run_id, thread_id } = task.run;
    // The first piece replaces what a client has of the answer, from before it came back or from an attempt that was lost.
    let append = false;
    const follow = () => services.runs.follow(thread_id, run_id, { after: -1, modes: ["messages-tuple"], signal });
    // What has been said by then is in the task as it is left.
    for await (const batch of isOver(task) ? [] : await this.#guard(follow)) {
      for (const { event, data } of batch) {
        if (event === "metadata") {
          append = false;
          const status = { state: STATES.working, message: undefined, timestamp: new Date().toISOString() };
          yield { payload: { $case: "statusUpdate", value: { ...where, status } } };
        }
        const text = event === "messages" ? spoken(data) : "";
        if (text === "") continue;
        const artifact = answerArtifact(run_id, [textPart(text)]);
        yield { payload: { $case: "artifactUpdate", value: { ...where, artifact, append, lastChunk: false } } };
        append = true;
      }
    }
    if (signal.aborted) return;
    const left = await this.#guard(async () => this.#known(await this.#task(run_id), true));
    // The process that held it is going down: it goes on elsewhere, and whoever resubscribes hears it.
    if (left.state === "submitted" || left.state === "working") return;
    for (const artifact of artifactsOf(left)) {
      yield { payload: { $case: "artifactUpdate", value: { ...where, artifact, append: false, lastChunk: true } } };
    }
    yield { payload: { $case: "statusUpdate", value: { ...where, status: statusOf(left) } } };
  }
}

const isOver = ({ run: { status } }: TaskView): boolean => status !== "pending" && status !== "running";

/** Text of a model, out of an event of the mode `messages-tuple`. */
function spoken(data: string): string {
  const [message] = JSON.parse(data) as readonly [{ readonly type?: string; readonly content?: unknown }];
  return message.type === "ai" || message.type === "AIMessageChunk" ? textOf(message.content) : "";
}

function split(id: string): [string, string] {
  const at = id.lastIndexOf(":");
  return [id.slice(0, at), id.slice(at + 1)];
}

const TOKEN = /^(\d{1,15})-(\d{1,15})$/;
const tokenOf = (place: TaskPlace | null): string => (place === null ? "" : `${place.updated_at}-${place.seq}`);

function placeIn(token: string): TaskPlace | null {
  if (token === "") return null;
  const [, updated_at, seq] = TOKEN.exec(token) ?? [];
  if (seq === undefined) throw new RequestMalformedError("pageToken: not one that this server gave");
  return { updated_at: Number(updated_at), seq: Number(seq) };
}

const pushShown = (task: TaskView, { id, url, token, authentication }: PushConfig): TaskPushNotificationConfig => ({
  tenant: "",
  taskId: task.task_id,
  id,
  url,
  token: token ?? "",
  authentication: authentication ?? undefined,
});

const malformed = (message: string): A2AError => new RequestMalformedError(message);

const ERRORS: Readonly<Record<SkeinError["kind"], (message: string) => A2AError>> = {
  invalid: malformed,
  not_found: malformed,
  too_large: malformed,
  conflict: (message) => new UnsupportedOperationError(message),
  forbidden: (message) => new UnsupportedOperationError(message),
  unavailable: () => new A2AError("The server cannot do this now"),
};

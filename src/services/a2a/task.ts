/** A run and what came of it → a task. Pure. */
import { type Message, type Part, Role, type Task, TaskState, type TaskStatus } from "@a2a-js/sdk";
import type { ErrorBody } from "../../errors.ts";
import type { Run } from "../../schemas/runs.ts";
import type { TaskState as State } from "../contract.ts";
import { publicText } from "../public-text.ts";
import { isObject, messagesOf, type PlainMessage, type Question } from "../run-output.ts";
import {
  dataPart,
  historyMessage,
  messageAt,
  outputArtifact,
  type Place,
  questionArtifact,
  questionParts,
  textPart,
} from "./content.ts";

export const STATES: Readonly<Record<State, TaskState>> = {
  submitted: TaskState.TASK_STATE_SUBMITTED,
  working: TaskState.TASK_STATE_WORKING,
  "input-required": TaskState.TASK_STATE_INPUT_REQUIRED,
  completed: TaskState.TASK_STATE_COMPLETED,
  failed: TaskState.TASK_STATE_FAILED,
  canceled: TaskState.TASK_STATE_CANCELED,
};

/** What is known of a task. */
export interface KnownTask {
  readonly task_id: string;
  readonly run: Pick<Run, "run_id" | "thread_id" | "updated_at" | "kwargs">;
  readonly state: State;
  readonly message_id: string | null;
  readonly questions: readonly Question[];
  /** The graph's output; null as long as there is none. */
  readonly values: unknown;
  readonly error: ErrorBody | null;
}

/** Which parts of a task are wanted. */
export interface Wanted {
  /** The newest so many messages; undefined for all. */
  readonly historyLength: number | undefined;
  readonly artifacts: boolean;
}

export const ALL: Wanted = { historyLength: undefined, artifacts: true };

export function taskOf(known: KnownTask, { historyLength, artifacts }: Wanted): Task {
  const history = historyOf(known);
  return {
    id: known.task_id,
    contextId: known.run.thread_id,
    status: statusOf(known),
    artifacts: artifacts ? artifactsOf(known) : [],
    history: historyLength === undefined ? history : historyLength === 0 ? [] : history.slice(-historyLength),
    metadata: undefined,
  };
}

export const placeOf = ({ task_id, run }: Pick<KnownTask, "task_id" | "run">): Place => ({
  task_id,
  context_id: run.thread_id,
});

export function statusOf(known: KnownTask): TaskStatus {
  const parts = statusParts(known);
  const message =
    parts.length === 0 ? undefined : messageAt(placeOf(known), `${known.run.run_id}:status`, Role.ROLE_AGENT, parts);
  return { state: STATES[known.state], message, timestamp: known.run.updated_at };
}

function statusParts({ state, questions, error }: KnownTask): Part[] {
  if (state === "input-required") return questionParts(questions);
  if (state !== "failed" || error === null) return [];
  return [textPart(`${error.error}: ${publicText(error.message)}`)];
}

/** A task that waits shows its questions, one that has ended what it gave. */
export function artifactsOf({ state, run, questions, values }: KnownTask): Task["artifacts"] {
  if (state === "input-required") return questions.map(questionArtifact);
  const output = state === "completed" ? outputArtifact(run.run_id, values) : undefined;
  return output === undefined ? [] : [output];
}

/** The conversation, as far as the run has come; of a graph without one, what it was sent. */
function historyOf(known: KnownTask): Message[] {
  const { run, values } = known;
  const messages = messagesOf(values) ?? messagesOf(run.kwargs.input);
  if (messages !== undefined)
    return messages.map((message, index) => historyMessage(asPlain(message), index, run.thread_id));
  if (known.message_id === null) return [];
  const { input, command } = run.kwargs;
  const answer = command?.resume;
  const part = typeof answer === "string" ? textPart(answer) : dataPart(answer ?? (isObject(input) ? input : {}));
  return [messageAt(placeOf(known), known.message_id, Role.ROLE_USER, [part])];
}

/** A client's message may have a role in place of a type. */
function asPlain(message: PlainMessage & { readonly role?: unknown }): PlainMessage {
  return message.type === undefined && typeof message.role === "string" ? { ...message, type: message.role } : message;
}

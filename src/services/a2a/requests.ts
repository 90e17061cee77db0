/** What clients of A2A may send, in either version of the protocol, checked before the SDK reads it. Pure. */
import { ContentTypeNotSupportedError, RequestMalformedError } from "@a2a-js/sdk/errors";
import { z } from "zod";
import { Id } from "../../schemas/ids.ts";
import { Command } from "../../schemas/runs.ts";
import { isObject } from "../run-output.ts";

export type Wire = "0.3" | "1.0";

/** What a request may have beside what the protocol knows. Source: the original. */
export interface Extras {
  /** Runtime context of the run. */
  readonly context: Readonly<Record<string, unknown>> | null;
  /** Continues the graph, in place of an input. */
  readonly command: Command | null;
  readonly blocking: boolean;
  /** The context that the task asked for must be of; null for any. */
  readonly context_id: string | null;
}

const Text = z.string().min(1);
const Metadata = z.record(z.string(), z.unknown()).nullish();
const Header = z.string().regex(/^[\x20-\x7e]*$/, "must be printable ASCII");

const LegacyPart = z.discriminatedUnion("kind", [
  z.looseObject({ kind: z.literal("text"), text: z.string(), metadata: Metadata }),
  z.looseObject({ kind: z.literal("data"), data: z.record(z.string(), z.unknown()), metadata: Metadata }),
]);
const Part = z.union([
  z.looseObject({ text: z.string(), data: z.undefined().optional(), metadata: Metadata }),
  z.looseObject({ data: z.record(z.string(), z.unknown()), text: z.undefined().optional(), metadata: Metadata }),
]);

const messageOf = <P extends z.ZodType, R extends z.ZodType>(part: P, role: R) =>
  z.looseObject({
    messageId: Text,
    role,
    parts: z.array(part).min(1),
    contextId: z.union([Id, z.literal("")]).nullish(),
    taskId: z.string().nullish(),
    metadata: Metadata,
    extensions: z.array(z.string()).nullish(),
    referenceTaskIds: z.array(z.string()).nullish(),
  });

const OutputModes = z.array(z.string()).nullish();
const HistoryLength = z.int().min(0).nullish();
/** Source: contract. */
const HistoryOfGet = z.int().min(0).max(10).nullish();

const NAMELESS = "must name the scheme of the credentials";

const LegacyPush = z.looseObject({
  url: Text,
  id: z.string().nullish(),
  token: Header.nullish(),
  authentication: z
    .looseObject({ schemes: z.array(Header), credentials: Header.nullish() })
    .refine(({ schemes: [first], credentials }) => !credentials || first, { path: ["schemes"], message: NAMELESS })
    .nullish(),
});
const Push = z.looseObject({
  url: Text,
  id: z.string().nullish(),
  token: Header.nullish(),
  authentication: z
    .looseObject({ scheme: Header, credentials: Header.nullish() })
    .refine(({ scheme, credentials }) => !credentials || scheme, { path: ["scheme"], message: NAMELESS })
    .nullish(),
});

const More = { metadata: Metadata, context: z.record(z.string(), z.unknown()).nullish(), command: Command.nullish() };

const LegacySend = z.looseObject({
  message: messageOf(LegacyPart, z.enum(["user", "agent"])),
  configuration: z
    .looseObject({
      blocking: z.boolean().nullish(),
      acceptedOutputModes: OutputModes,
      historyLength: HistoryLength,
      pushNotificationConfig: LegacyPush.nullish(),
    })
    .nullish(),
  ...More,
});
const Send = z.looseObject({
  message: messageOf(Part, z.enum(["ROLE_USER", "ROLE_AGENT"])),
  configuration: z
    .looseObject({
      returnImmediately: z.boolean().nullish(),
      acceptedOutputModes: OutputModes,
      historyLength: HistoryLength,
      taskPushNotificationConfig: Push.nullish(),
    })
    .nullish(),
  ...More,
});

const OneTask = z.looseObject({ id: Text, contextId: z.string().nullish(), metadata: Metadata });

const States = z.enum([
  "TASK_STATE_UNSPECIFIED",
  "TASK_STATE_SUBMITTED",
  "TASK_STATE_WORKING",
  "TASK_STATE_COMPLETED",
  "TASK_STATE_FAILED",
  "TASK_STATE_CANCELED",
  "TASK_STATE_INPUT_REQUIRED",
  "TASK_STATE_REJECTED",
  "TASK_STATE_AUTH_REQUIRED",
]);
const List = z.looseObject({
  contextId: z.union([Id, z.literal("")]).nullish(),
  status: States.nullish(),
  pageSize: z.int().min(1).max(100).nullish(),
  pageToken: z.string().nullish(),
  historyLength: HistoryLength,
  statusTimestampAfter: z.iso.datetime({ offset: true }).nullish(),
  includeArtifacts: z.boolean().nullish(),
});

/** The parameters of each method, by the name that 1.0 has for it. */
const PARAMS: Readonly<Record<Wire, Readonly<Record<string, z.ZodType>>>> = {
  "0.3": {
    SendMessage: LegacySend,
    SendStreamingMessage: LegacySend,
    GetTask: OneTask.extend({ historyLength: HistoryOfGet }),
    ListTasks: List,
    CancelTask: OneTask,
    SubscribeToTask: OneTask,
    CreateTaskPushNotificationConfig: z.looseObject({ taskId: Text, pushNotificationConfig: LegacyPush }),
    GetTaskPushNotificationConfig: OneTask.extend({ pushNotificationConfigId: z.string().nullish() }),
    ListTaskPushNotificationConfigs: OneTask,
    DeleteTaskPushNotificationConfig: OneTask.extend({ pushNotificationConfigId: Text }),
  },
  "1.0": {
    SendMessage: Send,
    SendStreamingMessage: Send,
    GetTask: OneTask.extend({ historyLength: HistoryOfGet }),
    ListTasks: List,
    CancelTask: OneTask,
    SubscribeToTask: OneTask,
    CreateTaskPushNotificationConfig: Push.extend({ taskId: Text }),
    GetTaskPushNotificationConfig: z.looseObject({ taskId: Text, id: Text }),
    ListTaskPushNotificationConfigs: z.looseObject({ taskId: Text }),
    DeleteTaskPushNotificationConfig: z.looseObject({ taskId: Text, id: Text }),
  },
};

/** Methods whose answers are streams. */
const STREAMING: ReadonlySet<string> = new Set(["SendStreamingMessage", "SubscribeToTask"]);
export const isStreaming = (method: string): boolean => STREAMING.has(method);

/** The method by its name in 1.0: names of 1.0 mean the same where the answers are those of 0.3. */
const BY_LEGACY_NAME: Readonly<Record<string, string>> = {
  "message/send": "SendMessage",
  "message/stream": "SendStreamingMessage",
  "tasks/get": "GetTask",
  "tasks/list": "ListTasks",
  "tasks/cancel": "CancelTask",
  "tasks/resubscribe": "SubscribeToTask",
  "tasks/pushNotificationConfig/set": "CreateTaskPushNotificationConfig",
  "tasks/pushNotificationConfig/get": "GetTaskPushNotificationConfig",
  "tasks/pushNotificationConfig/list": "ListTaskPushNotificationConfigs",
  "tasks/pushNotificationConfig/delete": "DeleteTaskPushNotificationConfig",
  "agent/getAuthenticatedExtendedCard": "GetExtendedAgentCard",
};
export const methodOf = (name: string): string =>
  Object.hasOwn(BY_LEGACY_NAME, name) ? (BY_LEGACY_NAME[name] ?? name) : name;

/** Parameters that the SDK may read, and what it would not. Throws the protocol's errors. */
export function readParams(method: string, wire: Wire, given: unknown): { params: unknown; extras: Extras } {
  const schema = Object.hasOwn(PARAMS[wire], method) ? PARAMS[wire][method] : undefined;
  const params = wire === "0.3" ? inLegacyWords(given) : given;
  if (schema !== undefined) {
    refuseFiles(params);
    const { error } = schema.safeParse(params);
    if (error !== undefined) throw new RequestMalformedError(problem(error));
  }
  return { params, extras: extrasOf(params, wire) };
}

function problem(error: z.ZodError): string {
  const [issue] = error.issues;
  const path = issue?.path.join(".") ?? "";
  return path === "" ? `params: ${issue?.message}` : `${path}: ${issue?.message}`;
}

/** Before anything else is said of them: files have an error of their own. */
function refuseFiles(params: unknown): void {
  const message = isObject(params) ? params.message : undefined;
  if (!isObject(message) || !Array.isArray(message.parts)) return;
  const isFile = (part: unknown): boolean =>
    isObject(part) && (part.kind === "file" || "file" in part || "raw" in part || "url" in part);
  if (message.parts.some(isFile)) {
    throw new ContentTypeNotSupportedError("message.parts: only text and data parts are supported, not files");
  }
}

/** Release candidates of 1.0 used its names and its parts without saying a version; they are answered as 0.3. */
function inLegacyWords(params: unknown): unknown {
  if (!isObject(params) || !isObject(params.message)) return params;
  const { message } = params;
  const role = message.role === "ROLE_USER" ? "user" : message.role === "ROLE_AGENT" ? "agent" : message.role;
  const parts = Array.isArray(message.parts) ? message.parts.map(legacyPart) : message.parts;
  return { ...params, message: { ...message, role, parts } };
}

function legacyPart(part: unknown): unknown {
  if (!isObject(part) || "kind" in part) return part;
  if ("text" in part) return { kind: "text", ...part };
  return "data" in part ? { kind: "data", ...part } : part;
}

function extrasOf(params: unknown, wire: Wire): Extras {
  const {
    context = null,
    command = null,
    contextId,
    configuration,
  } = (isObject(params) ? params : {}) as {
    context?: Extras["context"];
    command?: Command | null;
    contextId?: string | null;
    configuration?: { blocking?: boolean | null; returnImmediately?: boolean | null } | null;
  };
  const waits = wire === "0.3" ? configuration?.blocking !== false : configuration?.returnImmediately !== true;
  return { context, command, blocking: waits, context_id: contextId || null };
}

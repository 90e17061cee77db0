/** Requests of A2A, by the SDK's handlers of both versions. Loaded on first use: who serves no A2A pays nothing for it. */
import { AgentCard, ListTasksRequest, type Task } from "@a2a-js/sdk";
import { v1MethodToLegacyJsonRpc } from "@a2a-js/sdk/compat/v0_3";
import { LegacyJsonRpcTransportHandler, V03PushNotificationSerializer } from "@a2a-js/sdk/compat/v0_3/server";
import { toJsonRpcError, VersionNotSupportedError } from "@a2a-js/sdk/errors";
import { JsonRpcTransportHandler, ServerCallContext } from "@a2a-js/sdk/server";
import { isObject } from "../run-output.ts";
import { type A2aCaller, Agent } from "./agent.ts";
import { agentCard, type CardPlace, legacyMembers } from "./card.ts";
import { isStreaming, methodOf, readParams, type Wire } from "./requests.ts";
import { securityMembers } from "./security.ts";

/** A request whose envelope has been checked. */
export interface RpcRequest {
  readonly id: string | number | null;
  readonly method: string;
  readonly params: unknown;
}

export type RpcAnswer = object | AsyncGenerator<object, void, undefined>;

/** Whether the method's answer is a stream, under any of its names. */
export const streams = (method: string): boolean => isStreaming(methodOf(method));

/**
 * The answer: an envelope, or a stream of them. Never throws for what a client sent. What is wrong with a request for a stream is told
 * as each version's clients read it: in an envelope by itself, or in a stream of one.
 */
export async function answerA2a(
  caller: Omit<A2aCaller, "extras" | "wire">,
  request: RpcRequest,
  version: string | undefined,
): Promise<RpcAnswer> {
  let wire: Wire = "1.0";
  try {
    wire = wireOf(version);
    const answer = await answerIn(wire, caller, request);
    return wire === "0.3" && streams(request.method) && !isStream(answer) ? oneOf(answer) : answer;
  } catch (error) {
    const answer = failed(request.id, error, wire);
    return wire === "0.3" && streams(request.method) ? oneOf(answer) : answer;
  }
}

async function answerIn(
  wire: Wire,
  caller: Omit<A2aCaller, "extras" | "wire">,
  { id, ...request }: RpcRequest,
): Promise<RpcAnswer> {
  const method = wire === "0.3" ? methodOf(request.method) : request.method;
  const { params, extras } = readParams(method, wire, request.params);
  const agent = new Agent({ ...caller, wire, extras });
  const context = new ServerCallContext({ requestedVersion: wire });
  const rpc = { jsonrpc: "2.0" as const, id, method, params };
  if (wire === "0.3") {
    const answer = await answerLegacy(agent, rpc, context);
    return isStream(answer) ? withErrors(withFinal(answer), undefined, id, wire) : answer;
  }
  const answer = await new JsonRpcTransportHandler(agent).handle(rpc, context);
  // Its first event says whether there will be others.
  return isStream(answer) ? withErrors(answer, await answer.next(), id, wire) : answer;
}

export const isStream = (answer: RpcAnswer): answer is AsyncGenerator<object, void, undefined> =>
  Symbol.asyncIterator in answer;

async function* oneOf(envelope: object): AsyncGenerator<object, void, undefined> {
  yield envelope;
}

/** Without a word of it a client speaks 0.3, which had no such header; patches change nothing. Source: A2A 1.0, versioning. */
function wireOf(version: string | undefined): Wire {
  const given = (version ?? "").trim();
  if (given === "" || /^0\.3(\.\d+)?$/.test(given)) return "0.3";
  if (/^1(\.0(\.\d+)?)?$/.test(given)) return "1.0";
  throw new VersionNotSupportedError(`A2A-Version: ${given} is not supported; 1.0 and 0.3 are`);
}

/** 0.3 knows no details of errors. */
function failed(id: RpcRequest["id"], error: unknown, wire: Wire): object {
  const { code, message, data } = toJsonRpcError(error);
  return {
    jsonrpc: "2.0",
    id,
    error: wire === "0.3" || data === undefined ? { code, message } : { code, message, data },
  };
}

/** A stream that fails says why in an envelope, as everything else it says. */
async function* withErrors(
  stream: AsyncGenerator<object, void, undefined>,
  first: IteratorResult<object, void> | undefined,
  id: RpcRequest["id"],
  wire: Wire,
): AsyncGenerator<object, void, undefined> {
  try {
    if (first?.done === false) yield first.value;
    if (first?.done !== true) yield* stream;
  } catch (error) {
    yield failed(id, error, wire);
  } finally {
    await stream.return();
  }
}

/** The SDK does not take a question for the end of a stream; clients of 0.3 wait for the mark of it. */
async function* withFinal(stream: AsyncGenerator<object, void, undefined>): AsyncGenerator<object, void, undefined> {
  for await (const envelope of stream) {
    const { result } = envelope as {
      readonly result?: { readonly kind?: string; readonly status?: { readonly state?: string } };
    };
    const asks = isObject(result) && result.kind === "status-update" && result.status?.state === "input-required";
    yield asks ? { ...envelope, result: { ...result, final: true } } : envelope;
  }
}

async function answerLegacy(
  agent: Agent,
  rpc: RpcRequest & { readonly jsonrpc: "2.0" },
  context: ServerCallContext,
): Promise<RpcAnswer> {
  // 0.3 has no list: the method of 1.0 shows tasks as 0.3 does.
  if (rpc.method === "ListTasks") return { jsonrpc: "2.0", id: rpc.id, result: await legacyList(agent, rpc.params) };
  const method = isKnown(rpc.method) ? v1MethodToLegacyJsonRpc(rpc.method) : rpc.method;
  return new LegacyJsonRpcTransportHandler(agent).handle({ ...rpc, method }, context);
}

const KNOWN: ReadonlySet<string> = new Set([
  "SendMessage",
  "SendStreamingMessage",
  "GetTask",
  "CancelTask",
  "SubscribeToTask",
  "CreateTaskPushNotificationConfig",
  "GetTaskPushNotificationConfig",
  "ListTaskPushNotificationConfigs",
  "DeleteTaskPushNotificationConfig",
  "GetExtendedAgentCard",
]);
const isKnown = (method: string): boolean => KNOWN.has(method);

async function legacyList(agent: Agent, params: unknown): Promise<object> {
  const { tasks, ...page } = await agent.listTasks(ListTasksRequest.fromJSON(params ?? {}));
  return { tasks: tasks.map(legacyTask), ...page };
}

const serializer = new V03PushNotificationSerializer();
const legacyTask = (task: Task): unknown =>
  JSON.parse(serializer.serialize({ payload: { $case: "task", value: task } }, undefined).body);

/** The card of an assistant, for clients of both versions. */
export async function cardOf(services: A2aCaller["services"], assistant_id: string, place: CardPlace): Promise<object> {
  const card = agentCard(await services.assistants.get(assistant_id), place, services.tasks.canPush);
  const { security } = place;
  const members = { ...legacyMembers(place), ...(security === null ? {} : securityMembers(security)) };
  return { ...(AgentCard.toJSON(card) as object), ...members };
}

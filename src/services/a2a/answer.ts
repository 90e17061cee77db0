/** Requests of A2A, by the SDK's handlers of both versions. Loaded on first use: who serves no A2A pays nothing for it. */
import { AgentCard, ListTasksRequest, type Task } from "@a2a-js/sdk";
import { v1MethodToLegacyJsonRpc } from "@a2a-js/sdk/compat/v0_3";
import { LegacyJsonRpcTransportHandler, V03PushNotificationSerializer } from "@a2a-js/sdk/compat/v0_3/server";
import { toJsonRpcError, VersionNotSupportedError } from "@a2a-js/sdk/errors";
import { JsonRpcTransportHandler, ServerCallContext } from "@a2a-js/sdk/server";
import { type A2aCaller, Agent } from "./agent.ts";
import { agentCard, type CardPlace, legacyMembers } from "./card.ts";
import { isStreaming, methodOf, readParams, type Wire } from "./requests.ts";

/** A request whose envelope has been checked. */
export interface RpcRequest {
  readonly id: string | number | null;
  readonly method: string;
  readonly params: unknown;
}

export type RpcAnswer = object | AsyncGenerator<object, void, undefined>;

/** Whether the method's answer is a stream, under any of its names. */
export const streams = (method: string): boolean => isStreaming(methodOf(method));

/** The answer: an envelope, or a stream of them. Never throws for what a client sent. */
export async function answerA2a(
  caller: Omit<A2aCaller, "extras" | "wire">,
  request: RpcRequest,
  version: string | undefined,
): Promise<RpcAnswer> {
  const { id } = request;
  try {
    const wire = wireOf(version);
    const method = wire === "0.3" ? methodOf(request.method) : request.method;
    const { params, extras } = readParams(method, wire, request.params);
    const agent = new Agent({ ...caller, wire, extras });
    const context = new ServerCallContext({ requestedVersion: wire });
    const rpc = { jsonrpc: "2.0" as const, id, method, params };
    const answer =
      wire === "1.0"
        ? await new JsonRpcTransportHandler(agent).handle(rpc, context)
        : await answerLegacy(agent, rpc, context);
    return Symbol.asyncIterator in answer ? withErrors(answer, id) : answer;
  } catch (error) {
    return failed(id, error);
  }
}

/** Without a word of it a client speaks 0.3, which had no such header. Source: A2A 1.0, versioning. */
function wireOf(version: string | undefined): Wire {
  const given = (version ?? "").trim();
  if (given === "" || /^0\.3(\.|$)/.test(given)) return "0.3";
  if (/^1(\.0)?(\.|$)/.test(given)) return "1.0";
  throw new VersionNotSupportedError(`A2A-Version: ${given} is not supported; 1.0 and 0.3 are`);
}

const failed = (id: RpcRequest["id"], error: unknown): object => ({ jsonrpc: "2.0", id, error: toJsonRpcError(error) });

/** A stream that fails says why in an envelope, as everything else it says. */
async function* withErrors(stream: AsyncGenerator<object, void, undefined>, id: RpcRequest["id"]) {
  try {
    yield* stream;
  } catch (error) {
    yield failed(id, error);
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
  return { ...(AgentCard.toJSON(card) as object), ...legacyMembers(place) };
}

/** One POST to the MCP endpoint, by the SDK's transport. Loaded on first use, as `server.ts` is. */
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import {
  CancelledNotificationSchema,
  ErrorCode,
  InitializeRequestSchema,
  JSONRPCErrorResponseSchema,
  JSONRPCNotificationSchema,
  JSONRPCRequestSchema,
  JSONRPCResultResponseSchema,
} from "@modelcontextprotocol/sdk/types.js";
import type { z } from "zod";
import { isObject } from "../run-output.ts";
import { firstIssue, type McpCaller, markOf, mcpServer } from "./server.ts";

export interface McpPost {
  readonly request: Request;
  /** The parsed body. */
  readonly body: unknown;
  /** Silence after which a stream shows life. */
  readonly heartbeatMs: number;
}

/**
 * Answers a message, or a batch of them. Streams only where the client wants to hear of progress; else the answer comes whole.
 * A client that says it cancels a request is believed when it has named itself by the session id that `initialize` gave it.
 */
export async function answerMcp(caller: McpCaller, { request, body, heartbeatMs }: McpPost): Promise<Response> {
  const problem = problemOf(body);
  if (problem !== undefined) return refused(problem);
  for (const id of cancelledBy(body)) {
    if (caller.session !== null) await caller.services.runs.cancelMarked(markOf(caller.session, id));
  }
  const wrong = wrongInitialize(body);
  if (wrong !== undefined) return wrong;
  const transport = new WebStandardStreamableHTTPServerTransport({
    enableJsonResponse: !wantsProgress(body),
    keepAliveMs: heartbeatMs,
  });
  const server = mcpServer(caller);
  await server.connect(transport);
  return transport.handleRequest(request, {
    parsedBody: Array.isArray(body) ? body.map(withoutTask) : withoutTask(body),
  });
}

function refused(problem: string): Response {
  const error = { code: ErrorCode.InvalidRequest, message: `Invalid request: ${problem}` };
  return Response.json({ jsonrpc: "2.0", id: null, error }, { status: 400 });
}

const messagesIn = (body: unknown): readonly unknown[] => (Array.isArray(body) ? body : [body]);

/** Whether the body begins a conversation. */
export const isInitialize = (body: unknown): boolean => InitializeRequestSchema.safeParse(body).success;

const wantsProgress = (body: unknown): boolean =>
  messagesIn(body).some(
    (message) =>
      isObject(message) &&
      isObject(message.params) &&
      isObject(message.params._meta) &&
      message.params._meta.progressToken !== undefined,
  );

/** Why a body is no message of JSON-RPC, nor a batch of them. The SDK does not say what and where. */
function problemOf(body: unknown): string | undefined {
  if (!Array.isArray(body)) return wrongMessage(body);
  if (body.length === 0) return "a batch must not be empty";
  const seen = new Set<unknown>();
  for (const [index, message] of body.entries()) {
    const problem = wrongMessage(message) ?? (isRepeated(message, seen) ? "id: stands twice in the batch" : undefined);
    if (problem !== undefined) return `message ${index}: ${problem}`;
  }
  return undefined;
}

function wrongMessage(message: unknown): string | undefined {
  if (!isObject(message)) return "must be an object";
  const { error } = schemaFor(message).safeParse(message);
  return error === undefined ? undefined : firstIssue(error);
}

function schemaFor(message: object): z.ZodType {
  if ("result" in message) return JSONRPCResultResponseSchema;
  if ("error" in message) return JSONRPCErrorResponseSchema;
  return "id" in message ? JSONRPCRequestSchema : JSONRPCNotificationSchema;
}

function isRepeated(message: unknown, seen: Set<unknown>): boolean {
  const id = isObject(message) && "method" in message ? message.id : undefined;
  if (id === undefined) return false;
  const isThere = seen.has(id);
  seen.add(id);
  return isThere;
}

/** The answer to an `initialize` that is wrong: the SDK takes it for an error of the server. */
function wrongInitialize(body: unknown): Response | undefined {
  const { success, data: request } = JSONRPCRequestSchema.safeParse(body);
  if (!success || request.method !== "initialize") return undefined;
  const { error } = InitializeRequestSchema.safeParse(request);
  if (error === undefined) return undefined;
  const message = `Invalid params: ${firstIssue(error)}`;
  return Response.json({ jsonrpc: "2.0", id: request.id, error: { code: ErrorCode.InvalidParams, message } });
}

/** A call as a task is, of who does not do tasks, a call. Source: MCP 2025-11-25, tasks. */
function withoutTask(message: unknown): unknown {
  if (!isObject(message) || message.method !== "tools/call" || !isObject(message.params)) return message;
  const { task: _, ...params } = message.params;
  return { ...message, params };
}

function cancelledBy(body: unknown): (string | number)[] {
  return messagesIn(body).flatMap((message) => {
    const parsed = CancelledNotificationSchema.safeParse(message);
    return parsed.success && parsed.data.params.requestId !== undefined ? [parsed.data.params.requestId] : [];
  });
}

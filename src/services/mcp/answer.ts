/** One POST to the MCP endpoint, by the SDK's transport. Loaded on first use, as `server.ts` is. */
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import {
  CancelledNotificationSchema,
  ErrorCode,
  InitializeRequestSchema,
  JSONRPCRequestSchema,
  ListToolsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import type { z } from "zod";
import { isObject } from "../run-output.ts";
import { CallTool, type McpCaller, markOf, mcpServer } from "./server.ts";

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
  for (const id of cancelledBy(body)) {
    if (caller.session !== null) await caller.services.runs.cancelMarked(markOf(caller.session, id));
  }
  const wrong = wrongParams(body);
  if (wrong !== undefined) return wrong;
  const transport = new WebStandardStreamableHTTPServerTransport({
    enableJsonResponse: !wantsProgress(body),
    keepAliveMs: heartbeatMs,
  });
  const server = mcpServer(caller);
  await server.connect(transport);
  return transport.handleRequest(request, { parsedBody: body });
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

/** The SDK takes these for errors of the server. */
const CHECKED: ReadonlyMap<unknown, z.ZodType> = new Map<unknown, z.ZodType>([
  ["initialize", InitializeRequestSchema],
  ["tools/list", ListToolsRequestSchema],
  ["tools/call", CallTool],
]);

/** The answer to a request whose parameters are not those of its method. */
function wrongParams(body: unknown): Response | undefined {
  const { success, data: request } = JSONRPCRequestSchema.safeParse(body);
  const error = success ? CHECKED.get(request.method)?.safeParse(request).error : undefined;
  if (!success || error === undefined) return undefined;
  const [issue] = error.issues;
  const message = `Invalid params: ${issue?.path.join(".")}: ${issue?.message}`;
  return Response.json({ jsonrpc: "2.0", id: request.id, error: { code: ErrorCode.InvalidParams, message } });
}

function cancelledBy(body: unknown): (string | number)[] {
  return messagesIn(body).flatMap((message) => {
    const parsed = CancelledNotificationSchema.safeParse(message);
    return parsed.success && parsed.data.params.requestId !== undefined ? [parsed.data.params.requestId] : [];
  });
}

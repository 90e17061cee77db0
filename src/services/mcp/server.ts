/**
 * The MCP server, made anew for each request: nothing is kept between two. It lists assistants as tools and runs them as
 * stateless runs. Loaded on first use: who serves no MCP pays nothing for it.
 */
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import {
  CallToolRequestParamsSchema,
  CallToolRequestSchema,
  type CallToolResult,
  ErrorCode,
  type JSONRPCRequest,
  ListToolsRequestSchema,
  type ListToolsResult,
} from "@modelcontextprotocol/sdk/types.js";
import { AjvJsonSchemaValidator } from "@modelcontextprotocol/sdk/validation/ajv";
import { z } from "zod";
import { SkeinError } from "../../errors.ts";
import type { RequestFacts } from "../../observability/request.ts";
import { RunCreateStateless } from "../../schemas/runs.ts";
import type { CallerLogger, Services } from "../contract.ts";
import { readOutput } from "../run-output.ts";
import {
  type GraphSchemas,
  inputOf,
  inputSchemaOf,
  type Named,
  type NamedTool,
  resultOf,
  toolNames,
  toolOf,
} from "./tools.ts";

export interface McpCaller {
  readonly services: Pick<Services, "assistants" | "runs">;
  readonly logger: CallerLogger;
  readonly version: string;
  /** By this the client's later requests are known to be its; null when it names nothing. */
  readonly session: string | null;
  readonly from: RequestFacts;
  /** Fires when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
  /** Runs `then` when the client leaves before it is answered. */
  readonly onLeft: (then: () => void) => void;
}

/** Tools on one page of the list. */
const PAGE = 100;
const ASSISTANTS_AT_ONCE = 1000;

const INSTRUCTIONS = "Each tool is an agent. A call runs it once, from the beginning, and answers with its output.";

/** Adds the runtime context that a call may have beside its arguments. */
const CallTool = CallToolRequestSchema.extend({
  params: CallToolRequestParamsSchema.extend({ context: z.record(z.string(), z.unknown()).nullish() }),
});
type CallParams = z.output<typeof CallTool>["params"];

/** What a call needs beside its parameters. */
interface Call {
  readonly id: string | number;
  readonly onProgress: ((progress: { progress: number; message?: string }) => Promise<void>) | undefined;
}

export function mcpServer(caller: McpCaller): Server {
  const server = new Server(
    { name: "skein", version: caller.version },
    { capabilities: { tools: {} }, instructions: INSTRUCTIONS },
  );
  // The SDK's handlers take bad parameters for faults of the server.
  server.fallbackRequestHandler = (request, { requestId, sendNotification }) =>
    protect(caller, async () => {
      switch (request.method) {
        case "tools/list":
          return listTools(caller, paramsOf(ListToolsRequestSchema, request).params?.cursor);
        case "tools/call": {
          const { params } = paramsOf(CallTool, request);
          const progressToken = params._meta?.progressToken;
          const onProgress =
            progressToken === undefined
              ? undefined
              : (progress: { progress: number; message?: string }) =>
                  sendNotification({ method: "notifications/progress", params: { ...progress, progressToken } });
          return callTool(caller, params, { id: requestId, onProgress });
        }
        default:
          throw new RpcError(ErrorCode.MethodNotFound, `Method not found: ${request.method}`);
      }
    });
  return server;
}

function paramsOf<T>(schema: z.ZodType<T>, request: JSONRPCRequest): T {
  const { data, error } = schema.safeParse(request);
  if (error === undefined) return data;
  throw new RpcError(ErrorCode.InvalidParams, `Invalid params: ${firstIssue(error)}`);
}

/** What is wrong, and where. */
export function firstIssue({ issues: [issue] }: z.ZodError): string {
  const path = issue?.path.join(".") ?? "";
  return path === "" ? `${issue?.message}` : `${path}: ${issue?.message}`;
}

/** An error of the wire. That of the SDK has its own name in front of what it says, and clients put it there once more. */
class RpcError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Errors as the protocol has them. What is not ours is logged, and shown without its words. */
async function protect<T>({ logger, signal, from: { request_id } }: McpCaller, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof RpcError) throw error;
    if (error instanceof SkeinError) throw new RpcError(CODES[error.kind], error.message);
    // Whoever asked may have left: that is no fault, and nobody hears of it.
    if (!signal.aborted) logger.error({ err: error, request_id }, "an MCP request failed");
    throw new RpcError(ErrorCode.InternalError, "Internal error");
  }
}

const CODES = {
  invalid: ErrorCode.InvalidParams,
  not_found: ErrorCode.InvalidParams,
  too_large: ErrorCode.InvalidParams,
  conflict: ErrorCode.InvalidRequest,
  forbidden: ErrorCode.InvalidRequest,
  unavailable: ErrorCode.InternalError,
} as const satisfies Record<SkeinError["kind"], ErrorCode>;

async function listTools(caller: McpCaller, cursor: string | undefined): Promise<ListToolsResult> {
  const named = await allTools(caller);
  const start = cursor === undefined ? 0 : after(named, cursor);
  const page = named.slice(start, start + PAGE);
  const last = page.at(-1);
  const tools = await Promise.all(page.map(async (tool) => toolOf(tool, await schemasOf(caller, tool))));
  return start + PAGE < named.length && last !== undefined ? { tools, nextCursor: cursorOf(last) } : { tools };
}

/** Every assistant that the caller sees, oldest first. */
async function allTools({ services: { assistants } }: McpCaller): Promise<readonly NamedTool[]> {
  const all: Named[] = [];
  for (;;) {
    const { items, total } = await assistants.search({
      limit: ASSISTANTS_AT_ONCE,
      offset: all.length,
      sort_by: "created_at",
      sort_order: "asc",
      select: ["assistant_id", "name", "graph_id", "description", "created_at"],
    });
    all.push(...(items as Named[]));
    if (items.length === 0 || all.length >= total) return toolNames(all);
  }
}

const cursorOf = ({ assistant: { created_at, assistant_id } }: NamedTool): string =>
  Buffer.from(JSON.stringify([created_at, assistant_id])).toString("base64url");

/** Where the list goes on. The tool that the cursor names may be gone; those behind it are still behind it. */
function after(named: readonly NamedTool[], cursor: string): number {
  const place = placeIn(cursor);
  if (place === undefined) throw new RpcError(ErrorCode.InvalidParams, "cursor: not one that this server gave");
  const index = named.findIndex(
    ({ assistant: { created_at, assistant_id } }) =>
      created_at > place.created_at || (created_at === place.created_at && assistant_id > place.assistant_id),
  );
  return index === -1 ? named.length : index;
}

function placeIn(cursor: string): { created_at: string; assistant_id: string } | undefined {
  try {
    const parsed = z.tuple([z.string(), z.string()]).safeParse(JSON.parse(Buffer.from(cursor, "base64url").toString()));
    return parsed.success ? { created_at: parsed.data[0], assistant_id: parsed.data[1] } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** A graph that cannot tell its schemas is still a tool: one that takes anything. */
async function schemasOf(
  { services, logger, from: { request_id } }: McpCaller,
  { assistant: { assistant_id } }: NamedTool,
): Promise<GraphSchemas> {
  try {
    return JSON.parse(await services.assistants.schemas(assistant_id)) as GraphSchemas;
  } catch (error) {
    if (error instanceof SkeinError && error.kind === "forbidden") throw error;
    logger.warn({ err: error, assistant_id, request_id }, "the schemas of a tool were not read");
    return { input_schema: { type: "object" } };
  }
}

async function callTool(caller: McpCaller, params: CallParams, call: Call): Promise<CallToolResult> {
  const tool = (await allTools(caller)).find(({ name }) => name === params.name);
  if (tool === undefined) throw new RpcError(ErrorCode.InvalidParams, `Unknown tool: ${params.name}`);
  const { input_schema } = await schemasOf(caller, tool);
  const given = params.arguments ?? {};
  const problem = problemOf(input_schema, given);
  if (problem !== undefined)
    throw new RpcError(ErrorCode.InvalidParams, `Invalid arguments for tool ${tool.name}: ${problem}`);
  const request = RunCreateStateless.parse({
    assistant_id: tool.assistant.assistant_id,
    input: inputOf(input_schema, given),
    context: params.context ?? null,
    metadata: caller.session === null ? {} : markOf(caller.session, call.id),
    stream_mode: call.onProgress === undefined ? ["values"] : ["updates"],
  });
  const { runs } = caller.services;
  const { run_id } = await runs.createStateless(request, caller.from);
  caller.onLeft(() => runs.cancelOnDisconnect(run_id));
  if (call.onProgress !== undefined) await report(caller, run_id, call.onProgress);
  return resultOf(readOutput(await runs.wait(null, run_id, caller.signal)));
}

function problemOf(schema: GraphSchemas["input_schema"], given: unknown): string | undefined {
  const check = new AjvJsonSchemaValidator().getValidator(inputSchemaOf(schema));
  const result = check(given);
  return result.valid ? undefined : result.errorMessage;
}

/** One step for each node that has ended. */
async function report(
  { services, signal }: McpCaller,
  run_id: string,
  send: NonNullable<Call["onProgress"]>,
): Promise<void> {
  let progress = 0;
  for await (const events of await services.runs.follow(null, run_id, { after: -1, modes: ["updates"], signal })) {
    for (const { event, data } of events) {
      if (event !== "updates") continue;
      progress += 1;
      const nodes = Object.keys(JSON.parse(data) as object).filter((name) => !name.startsWith("__"));
      await send(nodes.length === 0 ? { progress } : { progress, message: nodes.join(", ") });
    }
  }
}

/** In a run's metadata: which request of which client it answers. */
export const markOf = (session: string, id: string | number): Readonly<Record<string, string>> => ({
  mcp_session_id: session,
  mcp_request_id: JSON.stringify(id),
});

/** A2A: each assistant as an agent that other agents find by its card and talk to over JSON-RPC. */
import { z } from "@hono/zod-openapi";
import { SkeinError } from "../../errors.ts";
import { JsonObject } from "../../schemas/common.ts";
import type { Services } from "../../services/contract.ts";
import { watchClient } from "../connections.ts";
import { requestOf } from "../request.ts";
import { sseData, whenReady } from "../respond.ts";
import { mount } from "../route.ts";
import { accepted, INVALID_PARAMS, INVALID_REQUEST, readRpc, rpcError } from "../rpc.ts";
import type { HttpContext, HttpSettings, Room } from "../types.ts";

const tag = "A2A";
const CARD = ".well-known/agent-card.json";
const oneAgent = z.object({ assistant_id: z.string().describe("Id of an assistant, or of a graph.") });

const Id = z.union([z.string(), z.int(), z.null()]);

/** As the document shows it; what is wrong with one is told in the words of JSON-RPC. */
const Rpc = z.object({
  jsonrpc: z.literal("2.0"),
  id: z.string(),
  method: z.enum(["message/send", "message/stream", "tasks/get", "tasks/cancel"]),
  params: JsonObject.optional().describe("Parameters of the method."),
});

const RpcResponse = z.object({
  jsonrpc: z.literal("2.0"),
  id: z.string(),
  result: JsonObject.optional(),
  error: z.object({ code: z.int(), message: z.string() }).optional(),
});

export function a2aRoutes(room: Room, settings: HttpSettings): void {
  mount(
    room,
    {
      method: "post",
      path: "/a2a/{assistant_id}",
      id: "post_a2a",
      tag,
      summary: "A request of A2A",
      description:
        "JSON-RPC 2.0: sends messages, streams what becomes of them, reads, lists, cancels and follows tasks, and says whom to tell. " +
        "With the header (or query) `A2A-Version: 1.0` the answers are those of 1.0, else those of 0.3.",
      params: oneAgent,
      headers: z.object({
        Accept: z.string().describe("`text/event-stream` for streams, `application/json` for all else."),
      }),
      ownBody: Rpc,
      answer: {
        description: "A JSON-RPC response; a stream of them where the method is one.",
        schema: z.string(),
        type: "text/event-stream",
        orJson: RpcResponse,
      },
      errors: [400, 404, 500],
    },
    ({ params }, c) => post(room, settings, c, params.assistant_id),
  );

  const card = (c: HttpContext, assistant_id: string): Promise<Response> => answerCard(room, settings, c, assistant_id);
  mount(
    room,
    {
      method: "get",
      path: `/a2a/{assistant_id}/${CARD}`,
      id: "get_a2a_agent_card",
      tag,
      summary: "The card of an agent",
      params: oneAgent,
      answer: { description: "The card.", schema: JsonObject },
      errors: [404],
    },
    ({ params: { assistant_id } }, c) => card(c, assistant_id),
  );
  mount(
    room,
    {
      method: "get",
      path: `/${CARD}`,
      id: "get_agent_card",
      tag,
      summary: "The card of an agent",
      query: oneAgent,
      answer: { description: "The card.", schema: JsonObject },
      errors: [404, 422],
    },
    ({ query: { assistant_id } }, c) => card(c, assistant_id),
  );
}

async function answerCard(
  room: Room,
  { version, mountPrefix, auth }: HttpSettings,
  c: HttpContext,
  assistant_id: string,
): Promise<Response> {
  const { cardOf } = await import("../../services/a2a/answer.ts");
  const url = `${publicBase(c, mountPrefix)}/a2a/${encodeURIComponent(assistant_id)}`;
  const { securitySchemes, security = [] } = auth ?? {};
  const place = {
    url,
    version,
    security: securitySchemes === undefined ? null : { schemes: securitySchemes, required: security },
  };
  return c.json(await cardOf(room.services(c), assistant_id, place), 200, { "cache-control": "no-cache" });
}

async function post(room: Room, settings: HttpSettings, c: HttpContext, assistant_id: string): Promise<Response> {
  const client = watchClient(c);
  const read = await readRpc(c, room);
  if ("refusal" in read) return read.refusal;
  const request = requestIn(c, read.body);
  if (request instanceof Response) return request;
  const { answerA2a, isStream, streams } = await import("../../services/a2a/answer.ts");
  const type = streams(request.method) ? "text/event-stream" : "application/json";
  if (!accepts(c, type)) return rpcError(c, 400, INVALID_REQUEST, `Accept: must include ${type} for ${request.method}`);
  const { logger, heartbeatMs } = room;
  const services = room.services(c);
  if (!(await isThere(services, assistant_id))) {
    return rpcError(c, 404, INVALID_PARAMS, `Assistant "${assistant_id}" not found`);
  }
  const { signal } = client;
  const caller = {
    services,
    logger,
    assistant_id,
    url: c.req.url,
    version: settings.version,
    from: requestOf(c),
    signal,
  };
  // Source: A2A 1.0, versioning: a header, or a parameter of the address.
  const version = c.req.header("a2a-version") ?? c.req.query("A2A-Version");
  const answer = answerA2a(caller, request, version);
  const long = { headers: {}, heartbeatMs, signal, logger };
  if (!streams(request.method)) {
    const response = answer.then((envelope) => c.json(envelope));
    return whenReady(c, response, long);
  }
  const stream = await answer;
  return isStream(stream) ? sseData(c, texts(stream), long) : c.json(stream);
}

async function* texts(envelopes: AsyncIterable<object>): AsyncGenerator<string, void, undefined> {
  for await (const envelope of envelopes) yield JSON.stringify(envelope);
}

async function isThere(services: Services, assistant_id: string): Promise<boolean> {
  try {
    await services.assistants.get(assistant_id);
    return true;
  } catch (error) {
    if (error instanceof SkeinError && error.kind === "not_found") return false;
    throw error;
  }
}

/** The request in a body, or the answer that it is none. */
function requestIn(c: HttpContext, body: unknown) {
  const isObject = typeof body === "object" && body !== null && !Array.isArray(body);
  if (!isObject) return rpcError(c, 400, INVALID_REQUEST, "The body must be one JSON-RPC request object");
  const { jsonrpc, id, method, params = {} } = body as Record<string, unknown>;
  if (jsonrpc !== "2.0") return rpcError(c, 400, INVALID_REQUEST, 'jsonrpc: must be "2.0"');
  const parsed = Id.safeParse(id);
  if (!parsed.success) return rpcError(c, 400, INVALID_REQUEST, "id: must be a string, a whole number or null");
  if (typeof method !== "string" || method === "") return rpcError(c, 400, INVALID_REQUEST, "method: must be a name");
  if (typeof params !== "object" || params === null || Array.isArray(params)) {
    return rpcError(c, 400, INVALID_PARAMS, "params: must be an object");
  }
  return { id: parsed.data, method, params };
}

function accepts(c: HttpContext, type: string): boolean {
  const [group = ""] = type.split("/");
  return accepted(c).some((each) => each === type || each === `${group}/*` || each === "*/*");
}

/** A host as a header may name it; anything else is not repeated. */
const HOST = /^[a-z0-9.-]+(:\d{1,5})?$|^\[[0-9a-f:]+\](:\d{1,5})?$/i;
const PREFIX = /^(\/[\w.~-]+)+$/;

/** Where clients see this server: what proxies say of it, and the path in front of ours. */
function publicBase(c: HttpContext, mountPrefix: string): string {
  const url = new URL(c.req.url);
  const forwarded = (name: string): string => (c.req.header(`x-forwarded-${name}`) ?? "").split(",")[0]?.trim() ?? "";
  const proto = forwarded("proto").toLowerCase();
  const host = forwarded("host");
  const prefix = forwarded("prefix").replace(/\/$/, "");
  const scheme = proto === "http" || proto === "https" ? proto : url.protocol.slice(0, -1);
  return `${scheme}://${HOST.test(host) ? host : url.host}${PREFIX.test(prefix) ? prefix : ""}${mountPrefix}`;
}

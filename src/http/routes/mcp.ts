/** MCP: assistants as tools, by the streamable HTTP transport, without sessions. */
import { randomUUID } from "node:crypto";
import { z } from "@hono/zod-openapi";
import { JsonObject } from "../../schemas/common.ts";
import { watchClient } from "../connections.ts";
import { requestOf } from "../request.ts";
import { whenReady } from "../respond.ts";
import { mount } from "../route.ts";
import { accepted, INVALID_REQUEST, readRpc, rpcError } from "../rpc.ts";
import { type HttpContext, type HttpSettings, type Room, setHeader } from "../types.ts";

const tag = "MCP";
const path = "/mcp/";
const alias = "/mcp";

/** Source: the transport's specification, and the contract. */
const NEEDED_TYPES = ["application/json", "text/event-stream"];

export function mcpRoutes(room: Room, settings: HttpSettings): void {
  mount(
    room,
    {
      method: "post",
      path,
      alias,
      id: "post_mcp",
      tag,
      summary: "A message of MCP",
      description: "Streamable HTTP transport. Each request stands for itself.",
      headers: z.object({
        Accept: z.literal("application/json, text/event-stream").describe("Both must be listed."),
      }),
      ownBody: JsonObject.describe("A JSON-RPC 2.0 request, notification or response."),
      answer: { description: "A JSON-RPC response; as events where the client asks for progress.", schema: JsonObject },
      accepts: true,
      errors: [400, 405, 500],
    },
    (_, c) => post(room, settings, c),
  );

  mount(
    room,
    { method: "get", path, alias, id: "get_mcp", tag, summary: "No streams but those of requests", errors: [405] },
    (_, c) => {
      setHeader(c, "allow", "POST, DELETE");
      return rpcError(
        c,
        405,
        INVALID_REQUEST,
        "Method Not Allowed: GET /mcp (this server sends nothing of its own accord)",
      );
    },
  );

  mount(
    room,
    { method: "delete", path, alias, id: "delete_mcp", tag, summary: "End a session", errors: [404] },
    (_, c) => {
      // Nothing is kept of those we named: they end when their client says so.
      if (sessionOf(c) !== null) return c.body(null, 204);
      return rpcError(c, 404, INVALID_REQUEST, "Session not found");
    },
  );
}

async function post(room: Room, settings: HttpSettings, c: HttpContext): Promise<Response> {
  const client = watchClient(c);
  const types = accepted(c);
  if (!NEEDED_TYPES.every((type) => types.includes(type))) {
    return rpcError(c, 400, INVALID_REQUEST, `Accept: must list both ${NEEDED_TYPES.join(" and ")}`);
  }
  const read = await readRpc(c, room);
  if ("refusal" in read) return read.refusal;
  const { answerMcp, isInitialize } = await import("../../services/mcp/answer.ts");
  const { logger, heartbeatMs } = room;
  const { body } = read;
  if (isInitialize(body)) setHeader(c, SESSION, newSession());
  const caller = {
    services: room.services(c),
    logger,
    version: settings.version,
    session: sessionOf(c),
    from: requestOf(c),
    signal: client.signal,
    onLeft: (then: () => void) => client.onLeft(then),
  };
  const response = answerMcp(caller, { request: asJson(c), body, heartbeatMs }).then((made) => inOurWords(c, made));
  return whenReady(c, response, { headers: {}, heartbeatMs, signal: client.signal, logger });
}

/** What the SDK refuses says why in both protocols' words too. */
async function inOurWords(c: HttpContext, response: Response): Promise<Response> {
  if (response.status < 400) return response;
  const { error } = (await response.json()) as { readonly error: { readonly code: number; readonly message: string } };
  return rpcError(c, 400, error.code, error.message);
}

/** Whatever a client calls its body, it has been read as JSON; and what it accepts is known, however it writes it. */
function asJson(c: HttpContext): Request {
  const headers = new Headers(c.req.header());
  headers.set("content-type", "application/json");
  headers.set("accept", NEEDED_TYPES.join(", "));
  return new Request(c.req.url, { method: "POST", headers });
}

/**
 * A name that a client gets when it begins and sends with each request, so that its cancellations mean its own requests. The server
 * keeps nothing under it.
 */
const SESSION = "mcp-session-id";
const SESSION_FORM = /^skein-[0-9a-f-]{36}$/;
const newSession = (): string => `skein-${randomUUID()}`;

function sessionOf(c: HttpContext): string | null {
  const given = c.req.header(SESSION);
  return given !== undefined && SESSION_FORM.test(given) ? given : null;
}

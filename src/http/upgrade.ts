/**
 * WebSockets: requests to upgrade the connection. A browser sees nothing of an answer but a code of its close, so what is refused for
 * what it asks is accepted first and closed with 4000 and the HTTP status.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { type RawData, type WebSocket, WebSocketServer } from "ws";
import type { CorsSettings } from "../config/http.ts";
import { Denied, SkeinError } from "../errors.ts";
import { type RequestFacts, requestIdFrom } from "../observability/request.ts";
import type { Tracing } from "../observability/tracing.ts";
import { Id } from "../schemas/ids.ts";
import type { ProtocolService, ProtocolSocket } from "../services/contract.ts";
import type { Identify } from "./authenticate.ts";
import { allowsOrigin } from "./cors.ts";
import type { ChooseHeaders } from "./headers.ts";
import { langsmithConfigurable } from "./langsmith.ts";
import { belowPrefix } from "./prefix.ts";
import type { Logger, Observe } from "./types.ts";

type Sessions = Pick<ProtocolService, "session">;

export interface UpgradesOptions {
  readonly protocol: Sessions;
  /** The sessions as whoever sends the request may have them; rejects when nobody may. Null or absent: all may. */
  readonly protocolFor?: ((...from: Parameters<Identify>) => Promise<Sessions>) | null;
  readonly cors: CorsSettings;
  /** In front of every path, or nothing. */
  readonly mountPrefix: string;
  /** Headers that become part of a run's `configurable`. */
  readonly configurable?: ChooseHeaders | undefined;
  /** Headers that are written to the log. */
  readonly logged?: ChooseHeaders | undefined;
  /** The project's own app. Null or absent: there is none. */
  readonly app?: AppInFront | null;
  /** Of one message. */
  readonly maxBodyBytes: number;
  readonly logger: Logger;
  readonly observe: Observe;
  /** Null: nobody traces. */
  readonly tracing?: Tracing | null;
  /** Between two signs of life; a client that has given none to the last one is cut off. */
  readonly pingMs?: number;
}

/** What a server does with requests to upgrade. */
export interface Upgrades {
  /** `server`: where the request goes that may be answered as what it is; null: nowhere. */
  handle(server: Server | null, request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Takes no more, and asks the clients there are to come again. */
  close(): void;
  /** Connections that are open. */
  readonly size: number;
}

const ROUTE = "/threads/{thread_id}/stream/events";
const PATH = /^\/threads\/([^/]+)\/stream\/events$/;
const PING_MS = 30_000;
/** A client that does not answer to the close is cut off. */
const CLOSE_MS = 2000;
/** One that has stopped reading is closed for that: the reason waits for it as long as `ws` does. */
const UNREAD_MS = 30_000;
/** RFC 6455: a reason has at most so many bytes. */
const REASON_BYTES = 123;

const GOING_DOWN = ["503 Service Unavailable", "The server is going down"] as const;
const GOING = [1001, "the server is going down"] as const;
const NO_BINARY = [1003, "only text frames are taken"] as const;

interface Refusal {
  readonly status: number;
  readonly detail: string;
}
interface AppInFront {
  /** Resolves with the request as the app hands it on, or with why it may not pass. */
  readonly passes: (request: Request) => Promise<Request | Refusal>;
  /** Whether it is asked before anybody knows whose the request is. */
  readonly isFirst: boolean;
}
/** Where a connection leads, and from what request. */
interface Admitted {
  readonly thread_id: string;
  readonly from: RequestFacts;
}
/** And as whose it may go there. */
type Admission = (Admitted & { readonly protocol: Sessions }) | Refusal;

export function createUpgrades({
  protocol,
  protocolFor = null,
  cors,
  mountPrefix,
  configurable,
  logged,
  app = null,
  maxBodyBytes,
  logger,
  observe,
  tracing = null,
  pingMs = PING_MS,
}: UpgradesOptions): Upgrades {
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: maxBodyBytes,
    clientTracking: false,
  });
  // What ws refuses itself, it says in plain text.
  sockets.on("wsClientError", (error, socket, { method }) =>
    refuse(socket, method === "GET" ? "400 Bad Request" : "405 Method Not Allowed", error.message, VERSIONS),
  );
  const open = new Map<WebSocket, { isAlive: boolean }>();
  const ids = new WeakMap<IncomingMessage, string>();
  sockets.on("headers", (lines, request) => lines.push(`x-request-id: ${ids.get(request)}`));
  let isClosed = false;

  const timer = setInterval(() => {
    for (const [socket, client] of open) {
      if (!client.isAlive) socket.terminate();
      else {
        client.isAlive = false;
        socket.ping();
      }
    }
  }, pingMs).unref();

  const serve = (webSocket: WebSocket, raw: Duplex, admission: Admission, request_id: string): void => {
    webSocket.on("error", (err) => logger.info({ err, request_id }, "a WebSocket broke"));
    if ("status" in admission) {
      closeWith(webSocket, 4000 + admission.status, admission.detail);
      return;
    }
    const client = { isAlive: true };
    open.set(webSocket, client);
    const { thread_id, from } = admission;
    const session = admission.protocol.session(thread_id, socketOf(webSocket, raw), from);
    webSocket.on("pong", () => {
      client.isAlive = true;
    });
    webSocket.on("message", (data, isBinary) => {
      if (isBinary) closeWith(webSocket, ...NO_BINARY);
      else session.receive(textOf(data));
    });
    webSocket.on("close", () => {
      open.delete(webSocket);
      session.closed();
    });
  };

  /** Who may not come in is told so when the connection stands. */
  const admitted = async (request: IncomingMessage, given: string, facts: Facts): Promise<Admission> => {
    const found = admit(request, given, cors, facts);
    if ("status" in found) return found;
    if (protocolFor === null && app === null && configurable === undefined) return { ...found, protocol };
    const sessions = async (asked: Request): Promise<Sessions> =>
      (await protocolFor?.(asked, request.socket.remoteAddress)) ?? protocol;
    try {
      const asked = webRequest(request);
      const early = app?.isFirst === false ? await sessions(asked) : undefined;
      const passed = app === null ? asked : await app.passes(asked);
      if ("detail" in passed) return passed;
      const { thread_id, from } = found;
      return {
        thread_id,
        from: { ...from, configurable: { ...from.configurable, ...configurable?.(passed.headers) } },
        protocol: early ?? (await sessions(passed)),
      };
    } catch (err) {
      if (err instanceof Denied) return { status: err.status, detail: err.message };
      logger.error({ err, path: request.url, request_id: facts.request_id }, "a request for a WebSocket failed");
      return { status: 500, detail: "Internal Server Error" };
    }
  };

  /** A connection is a request too. It is counted and traced until it is open: it may stay so for days. */
  const received = async (
    request: IncomingMessage,
    given: string,
  ): Promise<{ admission: Admission; request_id: string }> => {
    const start = performance.now();
    const { headers, method = "GET", url = "/", httpVersion, socket } = request;
    const request_id = requestIdFrom([headers["x-request-id"] ?? []].flat()[0]);
    const path = pathOf(url, mountPrefix);
    const client = socket.remoteAddress;
    const span = tracing?.beginRequest({ method, path, headers, client, httpVersion, request_id });
    const admission = await admitted(request, given, { request_id, trace: span?.context });
    const status = "status" in admission ? admission.status : 101;
    span?.end(ROUTE, status);
    const chosen = logged?.(webRequest(request).headers);
    const told = chosen === undefined ? span?.ids : { ...span?.ids, headers: chosen };
    observe({ route: ROUTE, method, path, status, ms: performance.now() - start, request_id, ...told });
    return { admission, request_id };
  };

  return {
    get size() {
      return open.size;
    },
    handle(server, request, socket, head) {
      if (request.headers.upgrade?.toLowerCase() !== "websocket") {
        if (server === null) refuse(socket, "400 Bad Request", "The only upgrade there is leads to WebSockets");
        else asRequest(server, request, socket, head);
        return;
      }
      // Until ws has the socket nobody hears its errors, and an error nobody hears ends the process.
      const onError = (err: Error): void => logger.info({ err }, "a request for a WebSocket broke");
      socket.on("error", onError);
      const path = PATH.exec(pathOf(request.url ?? "/", mountPrefix));
      if (isClosed) refuse(socket, ...GOING_DOWN);
      else if (path === null) refuse(socket, "404 Not Found", `Not Found: no WebSocket at ${request.url}`);
      else {
        void received(request, path[1] ?? "").then(({ admission, request_id }) => {
          if (isClosed) return refuse(socket, ...GOING_DOWN);
          ids.set(request, request_id);
          return sockets.handleUpgrade(request, socket, head, (webSocket) => {
            socket.off("error", onError);
            serve(webSocket, socket, admission, request_id);
          });
        });
      }
    },
    close() {
      if (isClosed) return;
      isClosed = true;
      clearInterval(timer);
      for (const socket of open.keys()) closeWith(socket, ...GOING);
    },
  };
}

/** Of what a client sent as the target of its request, below the prefix; what is no URL has none. */
function pathOf(target: string, mountPrefix: string): string {
  const base = "http://localhost";
  return URL.canParse(target, base) ? (belowPrefix(new URL(target, base).pathname, mountPrefix) ?? "") : "";
}

type Facts = Omit<RequestFacts, "configurable">;

/** Without the body, which a request to upgrade has none of. */
function webRequest({ url, headers, rawHeaders }: IncomingMessage): Request {
  const pairs = rawHeaders.flatMap((name, i): [string, string][] =>
    i % 2 === 0 ? [[name, rawHeaders[i + 1] ?? ""]] : [],
  );
  const base = `http://${headers.host ?? ""}`;
  const isPlain = /^[\w.:[\]-]+$/.test(headers.host ?? "") && URL.canParse(base);
  return new Request(new URL(url ?? "/", isPlain ? base : "http://localhost"), { headers: pairs });
}

/** Who may open a connection, and to which thread. */
function admit({ headers }: IncomingMessage, given: string, cors: CorsSettings, facts: Facts): Admitted | Refusal {
  const { origin } = headers;
  if (origin !== undefined && !allowsOrigin(cors, origin)) {
    return { status: 403, detail: `${origin} is not among the origins that may call` };
  }
  const thread_id = Id.safeParse(decoded(given));
  if (!thread_id.success) return { status: 422, detail: "thread_id: expected a UUID" };
  try {
    return { thread_id: thread_id.data, from: { ...facts, configurable: langsmithConfigurable(headers) } };
  } catch (error) {
    if (error instanceof SkeinError) return { status: 422, detail: error.message };
    throw error;
  }
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    // Its escapes are none: then it is no id either.
    return segment;
  }
}

function socketOf(webSocket: WebSocket, raw: Duplex): ProtocolSocket {
  return {
    // Whatever is sent in one turn leaves in one packet; who sends waits until the network has taken it.
    send: (texts) =>
      new Promise((resolve) => {
        const last = texts.length - 1;
        raw.cork();
        for (const [at, text] of texts.entries()) webSocket.send(text, at === last ? () => resolve() : undefined);
        raw.uncork();
        if (last < 0) resolve();
      }),
    close: (code, reason) => closeWith(webSocket, code, reason, UNREAD_MS),
  };
}

function closeWith(webSocket: WebSocket, code: number, reason: string, patienceMs = CLOSE_MS): void {
  webSocket.close(code, Buffer.from(reason).subarray(0, REASON_BYTES).toString());
  const late = setTimeout(() => webSocket.terminate(), patienceMs).unref();
  webSocket.once("close", () => clearTimeout(late));
}

function textOf(data: RawData): string {
  if (Array.isArray(data)) return Buffer.concat(data).toString();
  return Buffer.isBuffer(data) ? data.toString() : Buffer.from(data).toString();
}

/** Whoever asked for another is told those there are (RFC 6455, 4.4). */
const VERSIONS = "sec-websocket-version: 13, 8";

function refuse(socket: Duplex, status: string, detail: string, ...more: readonly string[]): void {
  const body = JSON.stringify({ detail });
  const length = `content-length: ${Buffer.byteLength(body)}`;
  const head = ["content-type: application/json", length, "connection: close", ...more];
  socket.end([`HTTP/1.1 ${status}`, ...head, "", body].join("\r\n"));
}

/**
 * A request that would rather be of another protocol (clients of Java ask for `h2c` in each first one) may be answered as what it is.
 * Node has taken its parser off the socket: the request goes through a new one, without the wish.
 */
function asRequest(server: Server, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const lines = [`${request.method} ${request.url} HTTP/${request.httpVersion}`];
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    const name = request.rawHeaders[at] ?? "";
    if (!/^(upgrade|connection|http2-settings)$/i.test(name)) lines.push(`${name}: ${request.rawHeaders[at + 1]}`);
  }
  socket.unshift(head);
  socket.unshift(Buffer.from([...lines, "connection: close", "", ""].join("\r\n"), "latin1"));
  server.emit("connection", socket);
}

/**
 * WebSockets: requests to upgrade the connection. A browser sees nothing of an answer but a code of its close, so what is refused for
 * what it asks is accepted first and closed with 4000 and the HTTP status.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { type RawData, type WebSocket, WebSocketServer } from "ws";
import { Denied } from "../errors.ts";
import { Id } from "../schemas/ids.ts";
import type { ProtocolService, ProtocolSocket } from "../services/contract.ts";
import type { Logger } from "./types.ts";

type Sessions = Pick<ProtocolService, "session">;

export interface UpgradesOptions {
  readonly protocol: Sessions;
  /** The sessions as whoever sends the request may have them; rejects when nobody may. Null or absent: all may. */
  readonly protocolFor?: ((request: Request, remote: string | undefined) => Promise<Sessions>) | null;
  /** `["*"]` for any. */
  readonly corsOrigins: readonly string[];
  /** Of one message. */
  readonly maxBodyBytes: number;
  readonly logger: Logger;
  /** Between two signs of life; a client that has given none to the last one is cut off. */
  readonly pingMs?: number;
}

/** What a server does with requests to upgrade. */
export interface Upgrades {
  handle(server: Server, request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Takes no more, and asks the clients there are to come again. */
  close(): void;
  /** Connections that are open. */
  readonly size: number;
}

const PATH = /^\/threads\/([^/]+)\/stream\/events$/;
const PING_MS = 30_000;
/** A client that does not answer to the close is cut off. */
const CLOSE_MS = 2000;
/** RFC 6455: a reason has at most so many bytes. */
const REASON_BYTES = 123;

const GOING_DOWN = ["503 Service Unavailable", "The server is going down"] as const;
const GOING = [1001, "the server is going down"] as const;
const NO_BINARY = [1003, "only text frames are taken"] as const;

interface Refusal {
  readonly status: number;
  readonly detail: string;
}
type Admission = { readonly thread_id: string; readonly protocol: Sessions } | Refusal;

export function createUpgrades({
  protocol,
  protocolFor = null,
  corsOrigins,
  maxBodyBytes,
  logger,
  pingMs = PING_MS,
}: UpgradesOptions): Upgrades {
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: maxBodyBytes,
    clientTracking: false,
  });
  const open = new Map<WebSocket, { isAlive: boolean }>();
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

  const serve = (webSocket: WebSocket, raw: Duplex, admission: Admission): void => {
    webSocket.on("error", (err) => logger.info({ err }, "a WebSocket broke"));
    if ("status" in admission) {
      closeWith(webSocket, 4000 + admission.status, admission.detail);
      return;
    }
    const client = { isAlive: true };
    open.set(webSocket, client);
    const session = admission.protocol.session(admission.thread_id, socketOf(webSocket, raw));
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
  const entered = async (request: IncomingMessage, named: string): Promise<Admission> => {
    const found = threadOf(request, named, corsOrigins);
    if ("status" in found) return found;
    if (protocolFor === null) return { ...found, protocol };
    try {
      return { ...found, protocol: await protocolFor(webRequest(request), request.socket.remoteAddress) };
    } catch (error) {
      if (error instanceof Denied) return { status: error.status, detail: error.message };
      logger.error({ err: error, path: request.url }, "a request for a WebSocket failed");
      return { status: 500, detail: "Internal Server Error" };
    }
  };

  return {
    get size() {
      return open.size;
    },
    handle(server, request, socket, head) {
      if (request.headers.upgrade?.toLowerCase() !== "websocket") {
        asRequest(server, request, socket, head);
        return;
      }
      // Until ws has the socket nobody hears its errors, and an error nobody hears ends the process.
      const onError = (err: Error): void => logger.info({ err }, "a request for a WebSocket broke");
      socket.on("error", onError);
      const path = PATH.exec(new URL(request.url ?? "/", "http://localhost").pathname);
      if (isClosed) refuse(socket, ...GOING_DOWN);
      else if (path === null) refuse(socket, "404 Not Found", `Not Found: no WebSocket at ${request.url}`);
      else {
        void entered(request, path[1] ?? "").then((admission) => {
          if (isClosed) return refuse(socket, ...GOING_DOWN);
          return sockets.handleUpgrade(request, socket, head, (webSocket) => {
            socket.off("error", onError);
            serve(webSocket, socket, admission);
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

/** Without the body, which a request to upgrade has none of. */
function webRequest({ url, headers, rawHeaders }: IncomingMessage): Request {
  const pairs = rawHeaders.flatMap((name, i): [string, string][] =>
    i % 2 === 0 ? [[name, rawHeaders[i + 1] ?? ""]] : [],
  );
  return new Request(new URL(url ?? "/", `http://${headers.host ?? "localhost"}`), { headers: pairs });
}

/** The thread to which a connection may be opened from there. */
function threadOf(
  { headers }: IncomingMessage,
  given: string,
  corsOrigins: readonly string[],
): { readonly thread_id: string } | Refusal {
  const { origin } = headers;
  if (origin !== undefined && !corsOrigins.includes("*") && !corsOrigins.includes(origin)) {
    return { status: 403, detail: `${origin} is not among the origins that may call` };
  }
  const thread_id = Id.safeParse(decoded(given));
  return thread_id.success ? { thread_id: thread_id.data } : { status: 422, detail: "thread_id: expected a UUID" };
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
    close: (code, reason) => closeWith(webSocket, code, reason),
  };
}

function closeWith(webSocket: WebSocket, code: number, reason: string): void {
  webSocket.close(code, Buffer.from(reason).subarray(0, REASON_BYTES).toString());
  const late = setTimeout(() => webSocket.terminate(), CLOSE_MS).unref();
  webSocket.once("close", () => clearTimeout(late));
}

function textOf(data: RawData): string {
  if (Array.isArray(data)) return Buffer.concat(data).toString();
  return Buffer.isBuffer(data) ? data.toString() : Buffer.from(data).toString();
}

function refuse(socket: Duplex, status: string, detail: string): void {
  const body = JSON.stringify({ detail });
  const head = ["content-type: application/json", `content-length: ${Buffer.byteLength(body)}`, "connection: close"];
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

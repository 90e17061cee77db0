/** The app on a port: node:http with the time limits and the ending a server behind proxies needs. */
import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { markEndedByServer } from "./connections.ts";
import { unreadable } from "./errors.ts";
import type { App } from "./types.ts";
import type { Upgrades } from "./upgrade.ts";

/** Longer than the idle time of common proxies, or they answer 502 for a request on a connection we just closed. */
const KEEP_ALIVE_MS = 75_000;
const SWEEP_MS = 50;

/** Another process has the port. */
export class PortInUseError extends Error {
  override readonly name = "PortInUseError";
  readonly host: string;
  readonly port: number;

  constructor(host: string, port: number, options?: ErrorOptions) {
    super(`Port ${port} on ${host} is already in use`, options);
    this.host = host;
    this.port = port;
  }
}

export interface Listening {
  /** Where a client on this machine reaches it. */
  readonly url: string;
  readonly port: number;
  /**
   * Stops accepting, ends idle connections and resolves when the last request is answered.
   * Requests that are still open after `graceMs` are cut off.
   */
  close(graceMs: number): Promise<void>;
}

/** Listens; port 0 takes a free one. Rejects with `PortInUseError`. `isGuest`: `Request` and `Response` of this process stay as they are. */
export async function listen(
  app: App,
  at: { host: string; port: number },
  upgrades?: Pick<Upgrades, "handle" | "close">,
  { isGuest = false }: { readonly isGuest?: boolean } = {},
): Promise<Listening> {
  const server = createServer(
    getRequestListener(app.fetch, { overrideGlobalObjects: !isGuest, errorHandler: unreadable }),
  );
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.on("clientError", refuse);
  if (upgrades !== undefined) {
    server.on("upgrade", (request, socket, head) => upgrades.handle(server, request, socket, head));
  }
  const sockets = trackSockets(server);
  await bind(server, at);
  const { port } = server.address() as AddressInfo;
  return { url: urlOf(at.host, port), port, close: (graceMs) => close(server, sockets, graceMs, upgrades) };
}

/** What Node's parser refuses never reaches the app; it is told in the same words and form as everything else. */
const REFUSALS: Readonly<Record<string, readonly [line: string, detail: string]>> = {
  HPE_HEADER_OVERFLOW: ["431 Request Header Fields Too Large", "The request line and headers are too large"],
  ERR_HTTP_REQUEST_TIMEOUT: ["408 Request Timeout", "The request did not arrive in time"],
};
const MALFORMED = ["400 Bad Request", "This is no HTTP request"] as const;

function refuse(error: NodeJS.ErrnoException, socket: Duplex): void {
  // A client that is gone, or in the middle of an answer, cannot be told anything.
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const [line, detail] = REFUSALS[error.code ?? ""] ?? MALFORMED;
  const body = JSON.stringify({ detail });
  const head = ["content-type: application/json", `content-length: ${Buffer.byteLength(body)}`, "connection: close"];
  socket.end([`HTTP/1.1 ${line}`, ...head, "", body].join("\r\n"));
}

function bind(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => {
      reject(error.code === "EADDRINUSE" ? new PortInUseError(host, port, { cause: error }) : error);
    };
    server.once("error", onError);
    server.listen(port, host, () => {
      server.off("error", onError);
      resolve();
    });
  });
}

function trackSockets(server: Server): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  return sockets;
}

async function close(
  server: Server,
  sockets: ReadonlySet<Socket>,
  graceMs: number,
  upgrades: Pick<Upgrades, "close"> | undefined,
): Promise<void> {
  // Node waits for upgraded connections as for any other, and never ends one by itself.
  upgrades?.close();
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // Node ends what is idle now; a connection whose request is answered later has to be ended then.
  const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS);
  const force = setTimeout(() => {
    for (const socket of sockets) {
      markEndedByServer(socket);
      socket.destroy();
    }
  }, graceMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(force);
}

/** A wildcard is no address a client can use. */
function urlOf(host: string, port: number): string {
  const name = host === "0.0.0.0" || host === "::" || host === "" ? "localhost" : host;
  return `http://${name.includes(":") ? `[${name}]` : name}:${port}`;
}

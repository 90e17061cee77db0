/**
 * The server as a part of another program: `import { createServer } from "skein"`.
 *
 * What is exported stands here whole, and imports none of our types: the package's declarations are made of this file alone.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { prefixOf } from "./config/http.ts";
import { type Env, loadProject, readSettings } from "./config.ts";
import { createLogger } from "./observability/logger.ts";
import { startServer } from "./server.ts";

/** How a server is made. What is not said here comes from `langgraph.json` and the environment. */
export interface ServerOptions {
  /** `langgraph.json`, or its folder. Default: the current folder. */
  readonly config?: string;
  /** Folder of the database. Default: `.skein` beside the config. */
  readonly data?: string;
  /** Runs at once. */
  readonly jobs?: number;
  /** Executor threads. */
  readonly threads?: number;
  /** False: runs are left to other processes on the same `DATABASE_URI`. */
  readonly worker?: boolean;
  /** Path in front of all others, such as `/api/agents`; wins over `http.mount_prefix`. */
  readonly mountPrefix?: string;
  /** Environment variables, beside those of the process; they win. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A server that is started, and takes requests by any of these ways at once. Its functions need no `this`. */
export interface Server {
  /** Answers a request of the web platform: for Hono, route handlers of Next.js, and whatever else has such requests. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** Answers a request of `node:http`: for Express, and at least cost. */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void;
  /** Takes a WebSocket of `node:http`, as a listener of `upgrade`. */
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** Listens on a port of its own. Defaults: `LANGGRAPH_SERVER_HOST` or 127.0.0.1, `LANGGRAPH_SERVER_PORT` or 2024; 0 takes a free port. */
  readonly listen: (at?: { readonly host?: string; readonly port?: number }) => Promise<{
    readonly url: string;
    readonly port: number;
  }>;
  /** Takes no new requests, drains the runs in hand or hands them back, then closes everything. */
  readonly close: () => Promise<void>;
}

/** Starts a server. Rejects when it cannot serve: a setting is wrong, a graph does not load, the database is in use. */
export async function createServer(options: ServerOptions = {}): Promise<Server> {
  const { config = ".", data, jobs, threads, worker, mountPrefix, env } = options;
  const environment: Env = { ...process.env, ...env };
  const found = loadProject(config, environment);
  const project =
    mountPrefix === undefined
      ? found
      : { ...found, http: { ...found.http, mountPrefix: prefixOf(mountPrefix, "mountPrefix") } };
  const flags = {
    ...(data === undefined ? {} : { data }),
    ...(jobs === undefined ? {} : { jobs: String(jobs) }),
    ...(threads === undefined ? {} : { threads: String(threads) }),
    ...(worker === undefined ? {} : { worker }),
  };
  const settings = readSettings("start", flags, project);
  const logger = createLogger({ level: settings.logLevel });
  const server = await startServer(project, settings, logger, "host");
  const { doors } = server;
  let closing: Promise<void> | undefined;
  return {
    fetch: (request) => doors.fetch(request),
    handle: (request, response) => doors.handle(request, response),
    upgrade: (request, socket, head) => doors.upgrade(request, socket, head),
    async listen({ host = settings.host, port = settings.port } = {}) {
      const { url, port: taken } = await doors.listen({ host, port });
      return { url, port: taken };
    },
    close() {
      closing ??= server.stop();
      return closing;
    },
  };
}

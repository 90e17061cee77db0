/** The ways into a server: ports it listens on, a `fetch` for hosts that have a port of their own, and one for code in this thread. */
import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { OpenAnswers } from "./answers.ts";
import { type AppOptions, createApp, type Rooms } from "./app.ts";
import { markEndedByServer } from "./connections.ts";
import { passedBy } from "./custom-app.ts";
import { unreadable } from "./errors.ts";
import { type Listening, listen } from "./listen.ts";
import type { App } from "./types.ts";
import { createUpgrades, type Upgrades, type UpgradesOptions } from "./upgrade.ts";

export interface At {
  readonly host: string;
  readonly port: number;
}

export interface DoorsOptions extends Omit<AppOptions, "rooms"> {
  /** Sessions of WebSockets, as whoever asks for one may have them. */
  readonly protocolFor?: UpgradesOptions["protocolFor"];
}

export class Doors {
  readonly #options: DoorsOptions;
  readonly #answers = new OpenAnswers();
  readonly #listenings: Listening[] = [];
  readonly #sockets: Upgrades[] = [];
  #public: App | undefined;
  #inner: App | undefined;
  #upgrades: Upgrades | undefined;
  #onRequest: ReturnType<typeof getRequestListener> | undefined;

  constructor(options: DoorsOptions) {
    this.#options = options;
  }

  /** WebSockets that are open. */
  get sockets(): number {
    return this.#sockets.reduce((sum, { size }) => sum + size, 0);
  }

  /** Listens for everybody. Port 0 takes a free one; rejects with `PortInUseError`. */
  async listen(at: At, rooms: Rooms = "all"): Promise<Listening> {
    if (this.#answers.isClosed) throw new Error("the server is closed");
    const app = rooms === "all" ? this.#app() : createApp({ ...this.#options, rooms });
    return this.#opened(await listen(app, at, rooms === "all" ? this.#publicUpgrades() : undefined), this.#prefix);
  }

  /**
   * Listens for graphs of this server, whose clients have no other way in: on this machine, under a path that nobody else knows.
   * `isGuest`: the process is somebody else's, whose globals stay as they are.
   */
  async listenPrivately(isGuest: boolean): Promise<Listening> {
    const mountPrefix = `/${randomUUID()}`;
    const { settings } = this.#options;
    // Where users log in graphs bring the server's own key.
    const app = createApp({ ...this.#options, settings: { ...settings, mountPrefix } });
    const at = { host: "127.0.0.1", port: 0 };
    return this.#opened(await listen(app, at, this.#makeUpgrades(mountPrefix), { isGuest }), mountPrefix);
  }

  /** Answers a request that came to somebody else. */
  async fetch(request: Request): Promise<Response> {
    if (request.headers.get("upgrade")?.toLowerCase() === "websocket") return noWebSocket();
    return this.#answer(this.#app(), request);
  }

  /** The same for a server of Node, without the way over web requests. */
  handle(request: IncomingMessage, response: ServerResponse): void {
    if (this.#answers.isClosed) {
      response.writeHead(503, { "content-type": "application/json" }).end(JSON.stringify(GOING_DOWN));
      return;
    }
    const done = this.#answers.begin(() => {
      markEndedByServer(request.socket);
      request.socket.destroy();
    });
    response.once("close", done);
    this.#onRequest ??= getRequestListener(this.#app().fetch, { errorHandler: unreadable });
    void this.#onRequest(request, response);
  }

  /** Takes a WebSocket that came to somebody else's server. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#publicUpgrades()?.handle(null, request, socket, head);
  }

  /** Answers code in this thread: as our routes do, with nothing of the project's before them. */
  call(request: Request): Promise<Response> {
    this.#inner ??= createApp({
      ...this.#options,
      settings: { ...this.#options.settings, mountPrefix: "" },
      authenticate: null,
      servicesFor: null,
      custom: null,
    });
    return this.#answer(this.#inner, request);
  }

  /** Takes no more requests. What is not answered after `graceMs` is cut off. */
  async close(graceMs: number): Promise<void> {
    for (const upgrades of this.#sockets) upgrades.close();
    await Promise.all([this.#answers.close(graceMs), ...this.#listenings.map((listening) => listening.close(graceMs))]);
  }

  get #prefix(): string {
    return this.#options.settings.mountPrefix;
  }

  #app(): App {
    this.#public ??= createApp(this.#options);
    return this.#public;
  }

  #opened(listening: Listening, prefix: string): Listening {
    const opened = { ...listening, url: `${listening.url}${prefix}` };
    this.#listenings.push(opened);
    return opened;
  }

  #publicUpgrades(): Upgrades | undefined {
    this.#upgrades ??= this.#makeUpgrades(this.#prefix);
    return this.#upgrades;
  }

  /** Undefined when what they carry is disabled. */
  #makeUpgrades(mountPrefix: string): Upgrades | undefined {
    const { services, protocolFor = null, settings, logger, observe, tracing = null, custom = null } = this.#options;
    if (settings.disabled.has("threads") || settings.disabled.has("runs")) return undefined;
    const { cors, configurable, logged, maxBodyBytes } = settings;
    const made = createUpgrades({
      protocol: services.protocol,
      protocolFor,
      cors,
      mountPrefix,
      configurable,
      logged,
      app: custom && {
        passes: (request) => passedBy(custom.app, request, mountPrefix),
        isFirst: custom.order === "middleware_first" && !custom.authenticated,
      },
      maxBodyBytes,
      logger,
      observe,
      tracing,
    });
    this.#sockets.push(made);
    return made;
  }

  async #answer(app: App, request: Request): Promise<Response> {
    const answers = this.#answers;
    if (answers.isClosed) return goingDown();
    let done = (): void => undefined;
    const cut = new Promise<Response>((resolve) => {
      done = answers.begin(() => resolve(goingDown()));
    });
    try {
      return await Promise.race([app.fetch(request, { answers }), cut]);
    } finally {
      done();
    }
  }
}

const GOING_DOWN = { detail: "The server is going down" };
const goingDown = (): Response => Response.json(GOING_DOWN, { status: 503 });

/** There is no connection that could become one. */
const noWebSocket = (): Response =>
  Response.json(
    {
      detail: "WebSockets are not taken by fetch: use listen() or upgrade() of the server, or POST for an event stream",
    },
    { status: 426, headers: { upgrade: "websocket" } },
  );

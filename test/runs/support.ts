/** What the tests of runs share: a server per file, the seven ways to create a run, gates, and a look at the database. */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { http, ok } from "../support/http.ts";
import { FIXTURES, put, type TempDir, tempDir } from "../support/project.ts";
import { type ServerOptions, startServer, type TestServer } from "../support/server.ts";
import { type Frame, openSse, type SseOptions, type SseStream } from "../support/sse.ts";

// biome-ignore lint/suspicious/noExplicitAny: values of any graph; `expect` is the check.
export type Any = any;
export type Body = Record<string, unknown>;

/** A server and the calls tests make on it. */
export class Api {
  readonly server: TestServer;

  constructor(server: TestServer) {
    this.server = server;
  }

  get url(): string {
    return this.server.url;
  }

  get http() {
    return http(this.server.url);
  }

  /** The body of a GET that must succeed. Its own connection, so it sees what any other client would. */
  get<T = Any>(path: string): Promise<T> {
    return ok(this.http.get<T>(path, { headers: { connection: "close" } }));
  }

  post<T = Any>(path: string, body?: unknown): Promise<T> {
    return ok(this.http.post<T>(path, body));
  }

  async thread(): Promise<string> {
    return (await this.post("/threads", {})).thread_id;
  }

  open(path: string, options: SseOptions = {}): Promise<SseStream> {
    return openSse(`${this.server.url}${path}`, options);
  }

  /** All frames of a stream that must begin. */
  async frames(path: string, options: SseOptions = {}): Promise<Frame[]> {
    const stream = await this.open(path, options);
    if (stream.status === 200) return stream.rest();
    let text = "";
    for await (const frame of stream) text += frame.raw;
    throw new Error(`Expected a stream, got ${stream.status}: ${text}`);
  }

  stream(body: Body, path = "/runs/stream"): Promise<Frame[]> {
    return this.frames(path, { body });
  }

  wait(body: Body, path = "/runs/wait"): Promise<Any> {
    return this.post(path, body);
  }

  /** Starts a run in the background on a new thread. */
  async background(body: Body): Promise<Place> {
    const thread_id = await this.thread();
    const { run_id } = await this.post(`/threads/${thread_id}/runs`, body);
    return { thread_id, run_id, path: `/threads/${thread_id}/runs/${run_id}` };
  }
}

export interface Place {
  readonly thread_id: string;
  readonly run_id: string;
  readonly path: string;
}

/** One server for all tests of a file. */
export function useServer(options: () => Promise<ServerOptions> | ServerOptions = () => ({})): Api {
  let server: TestServer | undefined;
  beforeAll(async () => {
    server = await startServer(await options());
  });
  afterAll(() => server?.[Symbol.asyncDispose]());
  return new Proxy({} as Api, {
    get(_, name) {
      if (server === undefined) throw new Error("The server has not started");
      const api = new Api(server);
      const value = api[name as keyof Api] as unknown;
      return typeof value === "function" ? value.bind(api) : value;
    },
  });
}

/** A temporary folder for all tests of a file. */
export function useTempDir(): { readonly dir: string } {
  let temp: TempDir | undefined;
  beforeAll(async () => {
    temp = await tempDir();
  });
  afterAll(() => temp?.[Symbol.asyncDispose]());
  return {
    get dir() {
      return temp?.dir ?? "";
    },
  };
}

/** The fixture graphs, and `more` of them, in a project of their own, for settings of `langgraph.json`. */
export async function fixturesWith(
  config: Record<string, unknown>,
  more: Readonly<Record<string, string>> = {},
): Promise<TempDir> {
  const temp = await tempDir("skein-project-");
  const { graphs } = JSON.parse(readFileSync(join(FIXTURES, "langgraph.json"), "utf8"));
  const absolute = Object.entries<string>(graphs).map(([id, path]) => [id, join(FIXTURES, path)]);
  const content = { graphs: { ...Object.fromEntries(absolute), ...more }, ...config };
  await put(join(temp.dir, "langgraph.json"), JSON.stringify(content));
  return temp;
}

/* -------------------------------------------------------------------------------- the ways */

/** One of the seven operations that create a run. */
export interface Way {
  readonly name: string;
  /** Where the body goes. */
  path(api: Api): Promise<string>;
  /** What the operation takes: itself, or a list of them. */
  wrap(body: Body): unknown;
  readonly stateful: boolean;
  /** Creates the run and gives its final output, however it has to be got. */
  output(api: Api, body: Body): Promise<Any>;
}

const onThread = async (api: Api, suffix: string): Promise<string> => `/threads/${await api.thread()}/runs${suffix}`;
const always = (path: string) => () => Promise.resolve(path);
const same = (body: Body): unknown => body;

const streamed = (way: Pick<Way, "path">): Way["output"] => {
  return async (api, body) => {
    const frames = await api.stream({ ...body, stream_mode: "values" }, await way.path(api));
    const last = frames.at(-1);
    if (last?.event === "error") return { __error__: json(last) };
    // The frame of an interrupt says only that; `wait` says it beside the values.
    const [before, end] = [json(frames.at(-2)), json(last)];
    return end?.__interrupt__ === undefined ? end : { ...before, ...end };
  };
};
const waited = (way: Pick<Way, "path">): Way["output"] => {
  return async (api, body) => api.wait(body, await way.path(api));
};
const joined = (way: Pick<Way, "path" | "wrap">): Way["output"] => {
  return async (api, body) => {
    const path = await way.path(api);
    const created = await api.post(path, way.wrap(body));
    const { run_id } = Array.isArray(created) ? created[0] : created;
    return api.get(`${path.replace(/\/batch$/, "")}/${run_id}/join`);
  };
};

function makeWay(
  name: string,
  path: Way["path"],
  output: (way: Pick<Way, "path" | "wrap">) => Way["output"],
  wrap = same,
): Way {
  return { name, path, wrap, stateful: name.includes("/threads"), output: output({ path, wrap }) };
}

export const WAYS: readonly Way[] = [
  makeWay("POST /runs/stream", always("/runs/stream"), streamed),
  makeWay("POST /runs/wait", always("/runs/wait"), waited),
  makeWay("POST /runs", always("/runs"), joined),
  makeWay("POST /runs/batch", always("/runs/batch"), joined, (body) => [body]),
  makeWay("POST /threads/{t}/runs/stream", (api) => onThread(api, "/stream"), streamed),
  makeWay("POST /threads/{t}/runs/wait", (api) => onThread(api, "/wait"), waited),
  makeWay("POST /threads/{t}/runs", (api) => onThread(api, ""), joined),
];

/* ---------------------------------------------------------------------------------- frames */

export const json = (frame: Frame | undefined): Any => (frame?.data === undefined ? undefined : JSON.parse(frame.data));
export const ofEvent = (frames: readonly Frame[], event: string): Frame[] => frames.filter((f) => f.event === event);
export const payloads = (frames: readonly Frame[], event: string): Any[] => ofEvent(frames, event).map(json);
export const names = (frames: readonly Frame[]): (string | undefined)[] => frames.map(({ event }) => event);
export const ids = (frames: readonly Frame[]): number[] => frames.map(({ id }) => Number(id));
export const numbers = (count: number, first = 0): number[] => Array.from({ length: count }, (_, i) => first + i);

/* ----------------------------------------------------------------------------------- gates */

/** A handle on the `slow` graph: its three steps wait for `open(1)`, `open(2)`, `open(3)` and write what they do. */
export class Gate {
  readonly #base: string;
  readonly input: Body;

  constructor(dir: string, name: string, extra: Body = {}) {
    this.#base = join(dir, `gate-${name}`);
    this.input = { gate: this.#base, log: `${this.#base}.log`, ...extra };
  }

  open(...steps: number[]): void {
    for (const step of steps) writeFileSync(`${this.#base}.${step}`, "");
  }

  openAll(): void {
    this.open(1, 2, 3);
  }

  /** What the steps wrote: `start 1`, `end 1`, `aborted 2` … */
  get log(): string[] {
    const file = `${this.#base}.log`;
    return existsSync(file) ? readFileSync(file, "utf8").trimEnd().split("\n") : [];
  }

  note(line: string): void {
    appendFileSync(`${this.#base}.log`, `${line}\n`);
  }
}

export { database } from "../support/database.ts";

/**
 * The kit: `behaviour(id, test)` ties a test to a line of `behaviours.ts`. Tests speak HTTP to one shared server,
 * several at a time, so each makes its own threads and finds its things again by a mark of its own.
 */
import { randomUUID } from "node:crypto";
import { expect } from "vitest";
import { type Answer, http, type RequestOptions } from "../support/http.ts";
import { type Frame, openSse, type SseOptions, type SseStream } from "../support/sse.ts";

// biome-ignore lint/suspicious/noExplicitAny: values of any graph; `expect` is the check.
export type Any = any;
export type Body = Readonly<Record<string, unknown>>;

export interface Tested {
  readonly id: string;
  readonly test: (context: { api: Api }) => Promise<void>;
  /** It disturbs others: it runs when they are done. */
  readonly alone: boolean;
}

const TESTS: Tested[] = [];
export const tests = (): readonly Tested[] => TESTS;

export function behaviour(id: string, test: Tested["test"], { alone = false } = {}): void {
  TESTS.push({ id, test, alone });
}

export const NOBODY = "01a20228-0000-7000-8000-000000000000";
/** A schedule that does not come round while tests run. */
export const YEARLY = "0 0 1 1 *";
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export class Api {
  readonly url: string;
  readonly http: ReturnType<typeof http>;

  constructor(url: string) {
    this.url = url.replace(/\/$/, "");
    this.http = http(url);
  }

  get<T = Any>(path: string): Promise<T> {
    return this.#ok(this.http.get<T>(path), `GET ${path}`);
  }
  post<T = Any>(path: string, body?: unknown): Promise<T> {
    return this.#ok(this.http.post<T>(path, body), `POST ${path}`);
  }
  patch<T = Any>(path: string, body: unknown): Promise<T> {
    return this.#ok(this.http.patch<T>(path, body), `PATCH ${path}`);
  }
  put<T = Any>(path: string, body: unknown): Promise<T> {
    return this.#ok(this.http.put<T>(path, body), `PUT ${path}`);
  }
  delete<T = Any>(path: string, body?: unknown): Promise<T> {
    return this.#ok(this.http.delete<T>(path, body), `DELETE ${path}`);
  }

  /** A request as it is: for odd bodies and headers. */
  raw(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(this.url + path, init);
  }

  /** A new value to find one's own things by. */
  mark(): string {
    return randomUUID();
  }

  async thread(body: Body = {}): Promise<string> {
    return (await this.post("/threads", body)).thread_id;
  }

  assistant(body: Body = {}): Promise<Any> {
    return this.post("/assistants", { graph_id: "plain", ...body });
  }

  cron(body: Body = {}): Promise<Any> {
    return this.post("/runs/crons", { assistant_id: "plain", schedule: YEARLY, ...body });
  }

  /** Runs a graph to its end, on a thread of its own, and gives its output. */
  async run(assistant_id: string, input: unknown = {}, more: Body = {}): Promise<Any> {
    return this.post("/runs/wait", { assistant_id, input, ...more });
  }

  runOn(thread_id: string, assistant_id: string, input: unknown = {}, more: Body = {}): Promise<Any> {
    return this.post(`/threads/${thread_id}/runs/wait`, { assistant_id, input, ...more });
  }

  /** A thread on which `plain` has run: four checkpoints, `{value: 4}`. */
  async ranPlain(body: Body = {}): Promise<string> {
    const thread_id = await this.thread(body);
    await this.runOn(thread_id, "plain", { value: 1 });
    return thread_id;
  }

  /** A thread that waits for a person. */
  async asked(graph = "hitl"): Promise<string> {
    const thread_id = await this.thread();
    await this.runOn(thread_id, graph, { question: "Sure?" });
    return thread_id;
  }

  async start(assistant_id: string, input: unknown = {}, more: Body = {}, on?: string): Promise<Place> {
    const thread_id = on ?? (await this.thread());
    const run = await this.post(`/threads/${thread_id}/runs`, { assistant_id, input, ...more });
    return { thread_id, run_id: run.run_id, path: `/threads/${thread_id}/runs/${run.run_id}`, run };
  }

  /** A run that takes longer than any test, until it is cancelled; `settle` does that if the test did not. */
  async busy(more: Body = {}, on?: string): Promise<Busy> {
    const place = await this.start("slow", { delay_ms: 300_000 }, more, on);
    return {
      ...place,
      [Symbol.asyncDispose]: async () => {
        await this.http.post(`${place.path}/cancel?wait=true`);
      },
    };
  }

  /** Waits until a run is seen to execute. */
  async running({ path }: Place): Promise<void> {
    await eventually(async () => (await this.get(path)).status === "running");
  }

  open(path: string, options: SseOptions = {}): Promise<SseStream> {
    return openSse(this.url + path, options);
  }

  /** All frames of a stream that must begin and end. */
  async frames(path: string, options: SseOptions = {}): Promise<Frame[]> {
    await using stream = await this.open(path, options);
    expect(stream.status).toBe(200);
    return await stream.rest();
  }

  stream(assistant_id: string, input: unknown, more: Body = {}): Promise<Frame[]> {
    return this.frames("/runs/stream", { body: { assistant_id, input, ...more } });
  }

  async state(thread_id: string): Promise<Any> {
    return this.get(`/threads/${thread_id}/state`);
  }

  /** All checkpoints of a thread, newest first. */
  async history(thread_id: string): Promise<Any[]> {
    return this.post(`/threads/${thread_id}/history`, { limit: 100 });
  }

  async #ok<T>(pending: Promise<Answer<T>>, what: string): Promise<T> {
    const answer = await pending;
    if (answer.status >= 200 && answer.status < 300) return answer.body;
    throw new Error(`${what}: expected a success, got ${answer.status} ${answer.text}`);
  }
}

export interface Place {
  readonly thread_id: string;
  readonly run_id: string;
  readonly path: string;
  readonly run: Any;
}
export interface Busy extends Place, AsyncDisposable {}

/** The answer is this error, as `{"detail": "<sentence>"}` alone, and the sentence holds all of `names`. */
export async function refused(
  pending: Promise<Answer<unknown>>,
  status: number,
  ...names: readonly string[]
): Promise<void> {
  const answer = await pending;
  expect([answer.status, answer.text]).toEqual([status, answer.text]);
  expect(answer.headers.get("content-type")).toContain("application/json");
  expect(answer.body).toEqual({ detail: expect.stringMatching(/\S/) });
  for (const name of names) expect((answer.body as Any).detail).toContain(name);
}

/** Waits for an effect that no answer announces. */
export async function eventually(check: () => Promise<unknown>, ms = 10_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await check())) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${check}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

export const json = (frame: Frame | undefined): Any => (frame?.data === undefined ? undefined : JSON.parse(frame.data));
export const names = (frames: readonly Frame[]): (string | undefined)[] => frames.map(({ event }) => event);
export const of = (frames: readonly Frame[], event: string): Any[] =>
  frames.filter((frame) => frame.event === event).map(json);
export const ids = (items: readonly Any[], field: string): string[] => items.map((item) => item[field]);
export type { Answer, Frame, RequestOptions };

/** What the fault tests share: gates, logs that nodes write, the database as it lies on the disk, and the bare CLI. */
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { http, ok } from "../support/http.ts";
import { ROOT } from "../support/project.ts";
import { eventually, type TestServer } from "../support/server.ts";
import { type Frame, openSse } from "../support/sse.ts";

export interface RunRow {
  readonly run_id: string;
  readonly thread_id: string;
  readonly status: string;
}

export const openGate = (gate: string, ...steps: readonly number[]): void => {
  for (const step of steps) writeFileSync(`${gate}.${step}`, "");
};

/** Lines that nodes have appended to a file; none while there is no file. */
export function linesOf(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\n").filter(Boolean);
  } catch {
    return [];
  }
}

export const newThread = async (server: TestServer): Promise<string> =>
  (await ok(http(server.url).post<{ thread_id: string }>("/threads", {}))).thread_id;

export const startRun = (server: TestServer, thread_id: string, body: object): Promise<RunRow> =>
  ok(http(server.url).post<RunRow>(`/threads/${thread_id}/runs`, body));

export const runOf = (server: TestServer, { thread_id, run_id }: RunRow): Promise<RunRow> =>
  ok(http(server.url).get<RunRow>(`/threads/${thread_id}/runs/${run_id}`));

export const threadStatus = async (server: TestServer, thread_id: string): Promise<string> =>
  (await ok(http(server.url).get<{ status: string }>(`/threads/${thread_id}`))).status;

const inFlight = (status: string): boolean => status === "pending" || status === "running";

/** Waits until the run has ended and returns it. */
export const ended = (server: TestServer, run: RunRow, ms = 30_000): Promise<RunRow> =>
  eventually(
    async () => {
      const now = await runOf(server, run);
      return inFlight(now.status) ? undefined : now;
    },
    { ms, every: 50 },
  );

/** Waits until the stored state of a thread says that these nodes come next: what came before is on the disk. */
export const nextNodes = (server: TestServer, thread_id: string, ...next: readonly string[]): Promise<true> =>
  eventually(async () => {
    const state = await ok(http(server.url).get<{ next: string[] }>(`/threads/${thread_id}/state`));
    return JSON.stringify(state.next) === JSON.stringify(next) || undefined;
  });

export const idsOf = (frames: readonly Frame[]): number[] => frames.map(({ id }) => Number(id));

/** What frames say, without the heartbeats that came between them. */
export const toldBy = (frames: readonly Frame[]): string[] =>
  frames.map(({ id, event, data }) => `${id} ${event} ${data}`);

/** The attempts that a stream's metadata events tell of. */
export const attemptsOf = (frames: readonly Frame[]): number[] =>
  frames.filter(({ event }) => event === "metadata").map(({ data }) => JSON.parse(data ?? "").attempt);

/** The attempts of a run, as its stream tells of them. */
export async function attemptsOfRun(server: TestServer, { thread_id, run_id }: RunRow): Promise<number[]> {
  await using stream = await openSse(`${server.url}/threads/${thread_id}/runs/${run_id}/stream`);
  return attemptsOf(await stream.rest());
}

/** What the run came to. */
export const outputOf = (server: TestServer, { thread_id, run_id }: RunRow): Promise<unknown> =>
  ok(http(server.url).get(`/threads/${thread_id}/runs/${run_id}/join`));

export const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

export interface CliResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
}

/** Runs the CLI to its end. Killed after `ms`: then `signal` is SIGKILL. */
export function cli(args: readonly string[], { env = {}, ms = 20_000 }: { env?: object; ms?: number } = {}) {
  return new Promise<CliResult>((resolve) => {
    const { PATH, HOME } = process.env;
    const child = spawn(process.execPath, [join(ROOT, "dist", "cli.js"), ...args], {
      env: { PATH, HOME, ...env },
      timeout: ms,
      killSignal: "SIGKILL",
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
    }
    child.once("close", (code, signal) => resolve({ code, signal, output }));
  });
}

/** An HTTP server of the test, closed with its connections. */
export async function listenOn(handler: Parameters<typeof createServer>[1]): Promise<Listener> {
  const server = createServer(handler as never);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return new Listener(server);
}

export class Listener implements AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly #server: Server;

  constructor(server: Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    this.url = `http://127.0.0.1:${this.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Resident memory of a server's process, in bytes; Linux only. */
export const rssOf = ({ pid }: TestServer): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;

/**
 * Restarts of a server that several tests share, one for all of them: it comes when everybody who is still there wants one.
 *
 *     using restarts = shared.enter();
 *     await restarts.next();
 */
export class SharedRestarts {
  readonly #restart: () => Promise<void>;
  readonly #waiting: { resolve(): void; reject(error: unknown): void }[] = [];
  #present = 0;

  constructor(restart: () => Promise<void>) {
    this.#restart = restart;
  }

  enter(): { next(): Promise<void> } & Disposable {
    this.#present += 1;
    return {
      next: () =>
        new Promise((resolve, reject) => {
          this.#waiting.push({ resolve, reject });
          this.#look();
        }),
      [Symbol.dispose]: () => {
        this.#present -= 1;
        this.#look();
      },
    };
  }

  #look(): void {
    if (this.#waiting.length === 0 || this.#waiting.length < this.#present) return;
    const all = this.#waiting.splice(0);
    void this.#restart().then(
      () => all.forEach(({ resolve }) => void resolve()),
      (error: unknown) => all.forEach(({ reject }) => void reject(error)),
    );
  }
}

/** A Redis of a test file's own: killed, frozen and flushed at will. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import getPort from "get-port";
import { type TempDir, tempDir } from "../../../support/project.ts";
import { accepts, Daemon } from "./processes.ts";

const run = promisify(execFile);

/** For `requireOrSkip`. */
export async function redisMissing(): Promise<string | undefined> {
  try {
    await run("redis-server", ["--version"]);
    await run("redis-cli", ["--version"]);
    return undefined;
  } catch {
    return "no redis-server and redis-cli in PATH";
  }
}

export async function startRedis(): Promise<Redis> {
  const redis = new Redis(await tempDir("skein-redis-"), await getPort());
  try {
    await redis.start();
    return redis;
  } catch (error) {
    await redis[Symbol.asyncDispose]();
    throw error;
  }
}

export class Redis implements AsyncDisposable {
  readonly port: number;
  readonly #temp: TempDir;
  #daemon: Daemon | undefined;

  constructor(temp: TempDir, port: number) {
    this.#temp = temp;
    this.port = port;
  }

  /** Starts empty: nothing is ever written to the disk. */
  async start(): Promise<void> {
    const args = ["--port", `${this.port}`, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    this.#daemon = new Daemon("redis-server", [...args, "--dir", this.#temp.dir]);
    await this.#daemon.ready(() => accepts(this.port));
  }

  async kill(): Promise<void> {
    await this.#daemon?.kill("SIGKILL");
  }

  /** Connections stay open and nobody answers. */
  async freeze(): Promise<void> {
    await this.#daemon?.kill("SIGSTOP");
  }

  async thaw(): Promise<void> {
    await this.#daemon?.kill("SIGCONT");
  }

  /** Runs and answers, whatever a test has left it in. */
  async heal(): Promise<void> {
    if (this.#daemon?.isRunning === true) await this.thaw();
    else await this.start();
  }

  /** One command by redis-cli: its output. */
  async command(...words: string[]): Promise<string> {
    return (await run("redis-cli", ["-p", `${this.port}`, ...words])).stdout.trim();
  }

  async flush(): Promise<void> {
    await this.command("FLUSHALL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#temp[Symbol.asyncDispose]();
  }
}

/** Programs that a test file starts for itself: they end with it, however it ends. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A program that listens on a port. Its output is kept for the error that says why it did not start. */
export class Daemon {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  #output = "";

  constructor(program: string, args: readonly string[], options: SpawnOptions = {}) {
    this.#child = spawn(program, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    running.add(this.#child);
    this.#exited = once(this.#child, "exit").finally(() => running.delete(this.#child));
    this.#exited.catch(() => undefined);
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.#output += text;
      });
    }
  }

  get isRunning(): boolean {
    return running.has(this.#child);
  }

  /** Sends a signal and, for one that ends the program, waits until it has ended. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    if (!this.isRunning) return;
    this.#child.kill(signal);
    if (signal !== "SIGSTOP" && signal !== "SIGCONT") await this.#exited;
  }

  /** Waits until `isReady` says so. Rejects with what the program printed when it ends first or takes longer than `ms`. */
  async ready(isReady: () => Promise<boolean>, ms = 20_000): Promise<void> {
    const end = performance.now() + ms;
    while (!(await isReady())) {
      if (!this.isRunning || performance.now() > end) throw new Error(`${this.#child.spawnfile}: ${this.#output}`);
      await delay(10);
    }
  }
}

/** Whether somebody accepts connections on this port of the loopback interface. */
export async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

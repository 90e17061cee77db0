/** Schemas that only the TypeScript source of a graph can tell, read by a process that lives for as long as it has work. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { GraphSpec } from "../executor/protocol.ts";
import type { GraphTypes } from "../schemas/graphs.ts";
import type { GraphSource } from "./derive.ts";

export interface Request {
  readonly id: number;
  readonly source: GraphSource;
}

export interface Reading {
  readonly id: number;
  /** By the name of the export. */
  readonly types: Readonly<Record<string, GraphTypes>> | null;
  /** Why there are none. */
  readonly problem: string | null;
}

export interface TypesOptions {
  /** The graphs of the project: those of one file are read together. */
  readonly graphs: () => readonly GraphSpec[];
  readonly project_dir: string;
  /** A file whose types take longer has none, milliseconds. */
  readonly timeoutMs: number;
  /** How long the process waits for more work: it is warm then, milliseconds. */
  readonly idleMs: number;
  /** Types could not be read; the graph's schemas are what its channels tell. */
  readonly onProblem: (file: string, problem: string) => void;
}

const ENTRY = fileURLToPath(new URL("./child.js", import.meta.url));
const HEAP_MB = 2048;

export const isTypeScript = ({ file }: GraphSpec): boolean => /\.[cm]?tsx?$/.test(file);

type Result = Omit<Reading, "id">;

export class Types {
  readonly #options: TypesOptions;
  /** By file; kept until the code changes. */
  readonly #known = new Map<string, Promise<Reading["types"]>>();
  /** One after the other: the time of each is its own. */
  #turn: Promise<unknown> = Promise.resolve();
  #answer: ((reading: Reading) => void) | undefined;
  #child: ChildProcess | undefined;
  #idle: NodeJS.Timeout | undefined;
  #lastId = 0;

  constructor(options: TypesOptions) {
    this.#options = options;
  }

  /** What the types of a graph tell; null when nothing can be told. Never rejects. */
  async of({ file, export_name }: GraphSpec): Promise<GraphTypes | null> {
    return (await (this.#known.get(file) ?? this.#enqueue(file)))?.[export_name] ?? null;
  }

  #enqueue(file: string): Promise<Reading["types"]> {
    const reading = this.#turn.then(async () => {
      // Forgotten while it waited for its turn.
      if (this.#known.get(file) !== reading) return null;
      const { types, problem } = await this.#read(file);
      if (problem !== null) this.#options.onProblem(file, problem);
      return types;
    });
    this.#known.set(file, reading);
    this.#turn = reading;
    return reading;
  }

  /** Forgets everything: the code has changed, or the server stops. */
  reset(): void {
    this.#known.clear();
    this.#stop({ types: null, problem: null });
  }

  async #read(file: string): Promise<Result> {
    const { graphs, project_dir, timeoutMs, idleMs } = this.#options;
    const here = graphs().filter((graph) => graph.file === file);
    const export_names = [...new Set(here.map(({ export_name }) => export_name))];
    const id = ++this.#lastId;
    clearTimeout(this.#idle);
    const tooLate = { types: null, problem: `not within ${timeoutMs / 1000} s` };
    const timer = setTimeout(() => this.#stop(tooLate), timeoutMs);
    const answered = new Promise<Result>((resolve) => {
      this.#answer = (reading) => {
        if (reading.id === id) resolve(reading);
      };
    });
    this.#started().send({ id, source: { file, export_names, project_dir } } satisfies Request, () => undefined);
    const result = await answered;
    clearTimeout(timer);
    this.#idle = setTimeout(() => this.#stop(tooLate), idleMs).unref();
    return result;
  }

  #started(): ChildProcess {
    if (this.#child !== undefined) return this.#child;
    const child = fork(ENTRY, {
      execArgv: [`--max-old-space-size=${HEAP_MB}`],
      env: {},
      serialization: "advanced",
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    this.#child = child;
    child.on("message", (reading: Reading) => this.#answer?.(reading));
    child.on("error", (error) => this.#ended(child, { types: null, problem: error.message }));
    child.on("exit", (code, signal) =>
      this.#ended(child, { types: null, problem: `its process ended (${signal ?? code})` }),
    );
    return child;
  }

  #stop(result: Result): void {
    clearTimeout(this.#idle);
    const child = this.#child;
    if (child === undefined) return;
    this.#ended(child, result);
    child.kill("SIGKILL");
  }

  #ended(child: ChildProcess, result: Result): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    this.#answer?.({ id: this.#lastId, ...result });
  }
}

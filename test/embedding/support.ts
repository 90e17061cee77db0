/** The package as it is published, in a project of somebody else. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, renameSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ROOT, type TempDir, tempDir } from "../support/project.ts";

/** A folder with the examples in it and `skein`, unpacked, in its node_modules. */
export async function installed(): Promise<TempDir> {
  const temp = await tempDir("skein-installed-");
  const { dir } = temp;
  cpSync(join(ROOT, "examples"), dir, { recursive: true, filter: (path) => !path.includes("node_modules") });
  const modules = join(dir, "node_modules");
  mkdirSync(modules);
  for (const name of readdirSync(join(ROOT, "node_modules"))) {
    if (name.startsWith(".") || name.startsWith("skein")) continue;
    symlinkSync(join(ROOT, "node_modules", name), join(modules, name), "junction");
  }
  const run = (file: string, args: readonly string[]) => execFileSync(file, args, { cwd: ROOT, encoding: "utf8" });
  const packed = run("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", dir]).trim();
  run("tar", ["-xzf", join(dir, packed), "-C", dir]);
  renameSync(join(dir, "package"), join(modules, "skein"));
  if (!existsSync(join(modules, "skein", "dist", "index.js"))) throw new Error("the package has no dist/index.js");
  return temp;
}

/** A program under test, and what it prints. */
export class Program implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | null>;
  readonly #lines: string[] = [];
  readonly #url: Promise<string>;

  constructor(dir: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const inherited = { PATH: process.env.PATH, HOME: process.env.HOME, TMPDIR: process.env.TMPDIR };
    this.#child = spawn(process.execPath, args, {
      cwd: dir,
      env: { ...inherited, PORT: "0", EXAMPLES_TOKEN_DELAY_MS: "1", ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#exited = new Promise((resolve) => this.#child.once("close", (code) => resolve(code)));
    this.#url = new Promise((resolve, reject) => {
      const read = (line: string): void => {
        this.#lines.push(line);
        if (line.startsWith("http://")) resolve(line);
      };
      for (const stream of [this.#child.stdout, this.#child.stderr]) {
        if (stream !== null) createInterface({ input: stream }).on("line", read);
      }
      void this.#exited.then((code) => reject(new Error(`ended with ${code}:\n${this.output}`)));
    });
    this.#url.catch(() => undefined);
  }

  get output(): string {
    return this.#lines.join("\n");
  }

  /** The first line that is a URL. */
  url(): Promise<string> {
    return this.#url;
  }

  /** Asks it to end; the code it ends with. */
  stop(): Promise<number | null> {
    this.#child.kill("SIGTERM");
    return this.#exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }
}

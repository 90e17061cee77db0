/**
 * React components of a project (`ui` in langgraph.json), bundled for browsers. A process of its own does it: bundlers read what
 * users wrote, and Tailwind may even run it; and the memory goes back with the process.
 */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { UiSettings } from "../config.ts";

export interface UiFile {
  /** Has a hash of the contents in it, so it may be kept for ever. */
  readonly name: string;
  readonly type: "text/javascript" | "text/css" | "application/octet-stream";
  readonly contents: Uint8Array;
}

export interface UiBundle {
  readonly namespace: string;
  /** Global variable of the page that the script sets. */
  readonly global: string;
  readonly files: readonly UiFile[];
}

/** What the process answers: bundles, or the one that failed. */
export type Bundled =
  | { readonly bundles: readonly UiBundle[] }
  | { readonly namespace: string; readonly file: string; readonly problem: string };

/** A component file cannot be bundled; the message says which and where. */
export class UiBuildError extends Error {
  override readonly name = "UiBuildError";
}

const ENTRY = fileURLToPath(new URL("./child.js", import.meta.url));

export class UiBundles {
  #bundles: ReadonlyMap<string, UiBundle> = new Map();

  /** Bundles what the project says now; the bundles of before are served until then. Rejects with `UiBuildError`, and keeps them. */
  async build(project: UiSettings): Promise<void> {
    const bundles = project.components.length === 0 ? [] : await bundled(project);
    this.#bundles = new Map(bundles.map((bundle) => [bundle.namespace, bundle]));
  }

  find(namespace: string): UiBundle | undefined {
    return this.#bundles.get(namespace);
  }
}

/** One answer from one process. */
function bundled(project: UiSettings): Promise<readonly UiBundle[]> {
  return new Promise((resolve, reject) => {
    const child = fork(ENTRY, { serialization: "advanced", stdio: ["ignore", "ignore", "pipe", "ipc"] });
    let said = "";
    child.stderr?.on("data", (text: Buffer) => {
      said = (said + text.toString()).slice(-2000);
    });
    child.on("message", (answer: Bundled) => {
      child.kill("SIGKILL");
      if ("bundles" in answer) resolve(answer.bundles);
      else reject(new UiBuildError(`ui "${answer.namespace}" (${answer.file}) cannot be bundled: ${answer.problem}`));
    });
    child.on("error", reject);
    // After an answer this changes nothing.
    child.on("exit", (code, signal) =>
      reject(new UiBuildError(`ui cannot be bundled: the process ended (${signal ?? code}) ${said}`.trim())),
    );
    child.send(project, (error) => {
      if (error !== null) reject(error);
    });
  });
}

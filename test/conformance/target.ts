/** The server under test: the one at SKEIN_CONFORMANCE_URL, else our own built server with the kit's graphs. */
import { fileURLToPath } from "node:url";
import { startServer } from "../support/server.ts";

export interface Target extends AsyncDisposable {
  readonly url: string;
  /** Ours: `gaps.ts` holds, and there is a database file to look at. */
  readonly own: boolean;
}

export const GRAPHS = fileURLToPath(new URL(".", import.meta.url));

export async function startTarget(): Promise<Target> {
  const url = process.env.SKEIN_CONFORMANCE_URL;
  if (url !== undefined && url !== "") return { url, own: false, async [Symbol.asyncDispose]() {} };
  const server = await startServer({ project: GRAPHS, args: ["--jobs", "30"] });
  return { url: server.url, own: true, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

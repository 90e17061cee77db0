/** The compiled entry in a real worker thread: all kinds of exports, TypeScript, loopback, death of the thread. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { FromExecutor, GraphSpec, ToExecutor } from "../../src/executor/protocol.ts";
import { GRAPHS, job, MapStorage, spec, withOutput } from "./support.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
let out: string;

beforeAll(() => {
  out = mkdtempSync(join(tmpdir(), "skein-executor-"));
  const esbuild = join(ROOT, "node_modules/.bin/esbuild");
  const entry = join(ROOT, "src/executor/main.ts");
  const flags = ["--bundle", "--platform=node", "--format=esm", "--packages=external"];
  execFileSync(esbuild, [entry, ...flags, `--outfile=${out}/main.mjs`, "--log-level=error"]);
  symlinkSync(join(ROOT, "node_modules"), join(out, "node_modules"));
});
afterAll(() => rmSync(out, { recursive: true, force: true }));

function start(graphs: readonly GraphSpec[]) {
  const storage = new MapStorage();
  const worker = new Worker(join(out, "main.mjs"), { workerData: { graphs, project_dir: GRAPHS, server_url: "" } });
  const messages: FromExecutor[] = [];
  const wake = new Set<() => void>();
  const send = (...batch: ToExecutor[]): void => worker.postMessage(batch);
  worker.on("message", (batch: readonly FromExecutor[]) => {
    messages.push(...batch);
    for (const message of batch) {
      if (message.type === "storage") {
        send({ type: "storage_reply", id: message.id, ok: true, value: storage.answer(message.call) });
      }
    }
    for (const look of [...wake]) look();
  });
  const until = <T extends FromExecutor["type"]>(type: T): Promise<Extract<FromExecutor, { type: T }>> =>
    new Promise((resolve) => {
      const look = (): void => {
        const found = messages.find((m): m is Extract<FromExecutor, { type: T }> => m.type === type);
        if (found === undefined) return;
        wake.delete(look);
        resolve(found);
      };
      wake.add(look);
      look();
    });
  return { worker, messages, send, until };
}

async function runOnce(graph: GraphSpec, fields: Parameters<typeof job>[1] = {}) {
  const { worker, send, until } = start([graph]);
  try {
    send({ type: "run", job: job(graph.graph_id, fields) });
    return withOutput((await until("finished")).outcome);
  } finally {
    await worker.terminate();
  }
}

it("runs TypeScript with the project's path aliases", async () => {
  expect(await runOnce(spec("typed", "ts/graph.ts", "default"))).toMatchObject({
    kind: "success",
    output: `{"foo":"aliased:good"}`,
  });
});

it("runs CommonJS graphs on their own copy of LangGraph", async () => {
  expect(await runOnce(spec("common", "common.cjs"))).toMatchObject({ kind: "interrupted" });
});

it("runs functional-API entrypoints, whose output need not be an object", async () => {
  const outcome = await runOnce(spec("functional", "common.cjs"), { kwargs: { input: "you" } });
  expect(outcome).toMatchObject({ kind: "success", output: `"hello you"` });
});

it("runs agents, with our checkpointer in place of theirs", async () => {
  const input = { messages: [{ role: "user", content: "hi" }] };
  const outcome = await runOnce(spec("agent", "agent.mjs", "default"), { kwargs: { input } });
  expect(outcome).toMatchObject({ kind: "success", snapshot: { checkpoint_id: expect.any(String) as string } });
});

it("reports graphs that fail to load and serves the others", async () => {
  const graphs = [
    spec("broken", "broken.mjs"),
    spec("nowhere", "nowhere.mjs"),
    spec("notAGraph"),
    spec("gone"),
    spec("plain"),
  ];
  const { worker, messages, until } = start(graphs);
  expect((await until("ready")).graphs).toEqual([{ graph_id: "plain", langgraph_version: "1.7.3" }]);
  const failures = messages.filter((m) => m.type === "load_failed");
  expect(failures.map(({ graph_id, error }) => [graph_id, error.error])).toEqual([
    ["broken", "RangeError"],
    ["nowhere", "Error"],
    ["notAGraph", "Error"],
    ["gone", "Error"],
  ]);
  expect(failures[0]?.stack).toContain("broken.mjs");
  expect(failures[3]?.error.message).toContain("It exports:");
  await worker.terminate();
});

it("lets every SDK generation find this server without a URL", async () => {
  const server = createServer((_, response) => response.setHeader("content-type", "application/json").end("[]"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const { worker, send, until } = start([spec("back", "loop-back.mjs", "default")]);
  send({ type: "listening", server_url: `http://127.0.0.1:${port}` }, { type: "run", job: job("back") });
  expect(withOutput((await until("finished")).outcome)).toMatchObject({ kind: "success", output: `{"foo":[0,0,0]}` });
  await worker.terminate();
  server.close();
});

it("answers pings", async () => {
  const { worker, send, until } = start([spec("plain")]);
  send({ type: "ping", id: 7 });
  expect((await until("pong")).id).toBe(7);
  await worker.terminate();
});

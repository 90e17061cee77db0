/** Runs every example once in this process, without a server: `npm run try -w skein-examples`. */
import assert from "node:assert/strict";
import { Command, MemorySaver } from "@langchain/langgraph";
import { graph as agent } from "../src/graphs/agent.ts";
import { graph as approval } from "../src/graphs/approval.ts";
import { graph as report } from "../src/graphs/report.ts";
import { graph as supervisor } from "../src/graphs/supervisor.ts";

const human = (content: string) => ({ messages: [{ role: "user", content }] });

async function tryAgent() {
  const stream = await agent.stream(human("What is the weather in Lisbon, and what is (3 + 4) * 12?"), {
    streamMode: ["messages", "values"],
  });
  let tokens = 0;
  let toolCallChunks = 0;
  let last = "";
  for await (const [mode, data] of stream) {
    if (mode === "values") last = data.messages.at(-1)?.text ?? "";
    else {
      tokens += 1;
      if ("tool_call_chunks" in data[0] && (data[0].tool_call_chunks as unknown[]).length > 0) toolCallChunks += 1;
    }
  }
  assert.match(last, /24 °C/);
  assert.match(last, /84/);
  assert.ok(toolCallChunks >= 4, "tool calls arrive in pieces");
  console.log(`agent       ${tokens} chunks, ${toolCallChunks} of tool calls: ${last}`);
}

async function tryApproval() {
  approval.checkpointer = new MemorySaver();
  const config = { configurable: { thread_id: "1" } };
  const asked = await approval.invoke(human("Please pay 30 to Grace"), config);
  assert.ok("__interrupt__" in asked);
  await approval.invoke(new Command({ resume: { decision: "edit", amount: 20 } }), config);
  const done = await approval.invoke(new Command({ resume: { decision: "approve" } }), config);
  assert.equal(done.outcome, "paid");
  assert.equal(done.messages.at(-1)?.text, "Paid 20 to Grace.");
  console.log(`approval    ${done.messages.at(-1)?.text}`);
}

async function trySupervisor() {
  const namespaces = new Set<string>();
  let last = "";
  const stream = await supervisor.stream(human("Sourdough"), { streamMode: ["messages", "values"], subgraphs: true });
  for await (const [namespace, mode, data] of stream) {
    namespaces.add(namespace.join("|").replace(/:.*/, ""));
    if (mode === "values" && namespace.length === 0) last = data.messages.at(-1)?.text ?? "";
  }
  assert.deepEqual([...namespaces].sort(), ["", "researcher", "writer"]);
  assert.match(last, /^Sourdough/);
  console.log(`supervisor  namespaces ${JSON.stringify([...namespaces])}: ${last}`);
}

async function tryReport() {
  const progress: unknown[] = [];
  const stream = await report.stream({ topic: "moss", step_ms: 5 }, { streamMode: "custom" });
  for await (const event of stream) progress.push(event);
  assert.equal(progress.length, 12);
  const started = Date.now();
  await assert.rejects(report.invoke({ step_ms: 10_000 }, { signal: AbortSignal.timeout(100) }));
  console.log(`report      ${progress.length} progress events; cancelled after ${Date.now() - started} ms`);
}

await tryAgent();
await tryApproval();
await trySupervisor();
await tryReport();

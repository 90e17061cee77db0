/**
 * Entry of an executor thread: loads the project's graphs, then carries out what the main thread sends. The only place
 * where user graphs run.
 */
import { parentPort, workerData } from "node:worker_threads";
import { poolRandomValues } from "../pooled-random.ts";
import { keepVariablesAtHand } from "./environment.ts";
import { createExecutor } from "./executor.ts";
import type { Batch, ExecutorSettings, ToExecutor } from "./protocol.ts";

if (parentPort === null) throw new Error("executor/main must be started as a worker thread");
const port = parentPort;
poolRandomValues();
keepVariablesAtHand();
const executor = createExecutor(workerData as ExecutorSettings, (batch) => port.postMessage(batch));
port.on("message", (batch: Batch<ToExecutor> | ToExecutor) => {
  for (const message of Array.isArray(batch) ? (batch as Batch<ToExecutor>) : [batch as ToExecutor]) {
    executor.receive(message);
  }
});

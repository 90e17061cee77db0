/**
 * Entry of the process that reads the types of graphs. A process of its own, because the compiler computes for seconds and
 * holds hundreds of megabytes: runs and requests go on meanwhile, and the memory goes back with it.
 */
import { setPriority } from "node:os";
import { TypeReader } from "./derive.ts";
import type { Reading, Request } from "./type-schemas.ts";

setPriority(5);
const reader = new TypeReader();

process.on("message", ({ id, source }: Request) => {
  process.send?.(read(id, source) satisfies Reading);
});
process.on("disconnect", () => process.exit());

function read(id: number, source: Request["source"]): Reading {
  try {
    return { id, types: reader.read(source), problem: null };
  } catch (error) {
    return { id, types: null, problem: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

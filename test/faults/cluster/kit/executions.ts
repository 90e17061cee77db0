/** What nodes wrote about themselves. */
import { writeFileSync } from "node:fs";
import { eventually } from "../../../support/server.ts";
import { linesOf } from "../../support.ts";

export interface Execution {
  readonly id: string;
  readonly node: string;
  readonly what: string;
  readonly pid: number;
  readonly at: number;
}

/** The lines of a log of `work` or `tick`, in the order they were written. */
export const executions = (log: string): Execution[] =>
  linesOf(log).map((line) => {
    const [id = "", node = "", what = "", pid, at] = line.split(" ");
    return { id, node, what, pid: Number(pid), at: Number(at) };
  });

/** How often each node of a run began: `{ one: 1, two: 2 }`. */
export function startsOf(log: string, id: string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { node } of executions(log).filter((line) => line.id === id && line.what === "start")) {
    counts[node] = (counts[node] ?? 0) + 1;
  }
  return counts;
}

export const ONCE = { one: 1, two: 1, three: 1 };

/** Waits until a node of a run has begun, the `times`-th time, and says which process it is in. */
export const begun = (log: string, id: string, node: string, times = 1): Promise<number> =>
  eventually(
    () =>
      executions(log).filter((line) => line.id === id && line.node === node && line.what === "start")[times - 1]?.pid,
    { ms: 60_000, every: 10 },
  );

export const open = (gate: string): void => writeFileSync(gate, "");

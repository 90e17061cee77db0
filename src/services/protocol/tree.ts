/** The tree of graphs of a run: what its lifecycle events say has begun and ended. */
import { notFound } from "../../errors.ts";
import type { AgentStatus, AgentTree } from "../../schemas/protocol.ts";
import { dataOf, isProtocolEvent, parseProtocolName } from "../../schemas/protocol-events.ts";
import type { RunRecord, Storage } from "../../storage/storage.ts";
import * as runs from "../../storage/tables/runs.ts";
import type { RunEvent } from "../../streaming/events.ts";

export interface TreeOptions {
  readonly storage: Storage;
  /** Stored events of a run after an index, a page at a time; empty when there are no more. */
  readonly load: (run_id: string, after: number) => Promise<readonly RunEvent[]>;
}

const STATUS = {
  pending: "started",
  running: "running",
  success: "completed",
  error: "failed",
  timeout: "failed",
  interrupted: "interrupted",
} as const satisfies Record<RunRecord["status"], AgentStatus>;

/** How far the graphs of a run of the thread, by default its newest, have got. A run that kept no events is its root alone. */
export async function agentTree(
  { storage, load }: TreeOptions,
  thread_id: string,
  run_id: string | undefined,
): Promise<AgentTree> {
  const run = await storage.read(async (db) => {
    if (run_id !== undefined) return runs.find(db, run_id);
    return (await runs.listOfThread(db, thread_id, { limit: 1, offset: 0, status: null }))[0];
  });
  if (run === undefined || run.thread_id !== thread_id) {
    throw notFound(run_id === undefined ? `Thread ${thread_id} has no run` : `Run ${run_id} not found`, "run");
  }
  return treeOf(run, await lifecycleOf(load, run));
}

async function lifecycleOf(load: TreeOptions["load"], { run_id, kwargs }: RunRecord): Promise<readonly RunEvent[]> {
  if (kwargs.protocol === undefined) return [];
  const found: RunEvent[] = [];
  for (let after = -1; ; ) {
    const page = await load(run_id, after);
    const last = page.at(-1);
    if (last === undefined) return found;
    found.push(...page.filter(({ event }) => event.startsWith("@lifecycle|")));
    after = last.id;
  }
}

interface Node {
  readonly namespace: readonly string[];
  status: AgentStatus;
  graph_name: string;
  readonly children: Node[];
}

/** Folds lifecycle events of the graphs below the root, oldest first; the root is as the run's row says. */
export function treeOf(
  { status, graph_id }: Pick<RunRecord, "status" | "graph_id">,
  lifecycle: readonly Pick<RunEvent, "event" | "data">[],
): AgentTree {
  const root: Node = { namespace: [], status: STATUS[status], graph_name: graph_id, children: [] };
  for (const { event, data } of lifecycle) {
    if (!isProtocolEvent(event)) continue;
    const { namespace } = parseProtocolName(event);
    const said = JSON.parse(dataOf(data)) as { readonly event: AgentStatus; readonly graph_name?: string };
    const node = nodeAt(root, namespace);
    node.status = said.event;
    node.graph_name = said.graph_name ?? node.graph_name;
  }
  return root;
}

/** The node at a namespace below `root`, made with those above it where they are not there. */
function nodeAt(root: Node, namespace: readonly string[]): Node {
  let node = root;
  for (let depth = 1; depth <= namespace.length; depth += 1) {
    const path = namespace.slice(0, depth);
    const name = path.join("|");
    let child = node.children.find((each) => each.namespace.join("|") === name);
    if (child === undefined) {
      child = { namespace: path, status: "started", graph_name: path.at(-1)?.split(":")[0] ?? "", children: [] };
      node.children.push(child);
    }
    node = child;
  }
  return node;
}

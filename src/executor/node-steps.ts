/** Tells when nodes of a graph begin and end: a handler of LangChain's, by the interface that all its versions have. */
import type { NodeStep } from "./protocol.ts";
import { thrownBody } from "./thrown.ts";

/** LangGraph tags the call of a node with its superstep; what is called inside the node does not get the tag. */
const STEP = /^graph:step:(\d+)$/;

export function nodeSteps(tell: (step: NodeStep) => void): object {
  /** The node that a call is in, for calls under way. */
  const nodes = new Map<string, string | null>();
  const isNode = (id: string): boolean => nodes.get(id) === id;
  const end = (id: string, rest: Pick<Extract<NodeStep, { step: "end" }>, "error" | "left">): void => {
    if (isNode(id)) tell({ step: "end", id, at: now(), ...rest });
    nodes.delete(id);
  };
  return {
    name: "skein_node_steps",
    // Told at once, or the times would be those of LangChain's queue.
    awaitHandlers: true,
    ignoreLLM: true,
    ignoreRetriever: true,
    handleChainStart(
      _chain: unknown,
      _inputs: unknown,
      id: string,
      parent_id: string | undefined,
      tags: readonly string[] = [],
      metadata: Readonly<Record<string, unknown>> = {},
      _type?: string,
      name?: string,
    ): void {
      const parent = (parent_id === undefined ? null : nodes.get(parent_id)) ?? null;
      const [, superstep] = STEP.exec(tags.find((tag) => STEP.test(tag)) ?? "") ?? [];
      const node = String(metadata.langgraph_node ?? name);
      // LangGraph's own first node only takes the input in.
      const counts = superstep !== undefined && node !== "__start__";
      nodes.set(id, counts ? id : parent);
      if (!counts) return;
      const namespace = namespaceOf(metadata.langgraph_checkpoint_ns);
      tell({ step: "begin", id, parent, at: now(), node, superstep: Number(superstep), namespace });
    },
    handleChainEnd(_output: unknown, id: string): void {
      end(id, { error: null });
    },
    handleChainError(thrown: unknown, id: string): void {
      const isLeaving = (thrown as { is_bubble_up?: unknown } | null)?.is_bubble_up === true;
      const error = thrownBody(thrown);
      end(id, isLeaving ? { error: null, left: error.error } : { error });
    },
  };
}

/** Of the graph around the node: its own name comes last. */
const namespaceOf = (own: unknown): string => (typeof own === "string" ? own.split("|").slice(0, -1).join("|") : "");

const now = (): number => performance.timeOrigin + performance.now();

/** Tells when nodes of a graph, and the models and tools they call, begin and end: a handler of LangChain's, by the interface that all its versions have. */
import type { NodeStep, StepOf } from "./protocol.ts";
import { thrownBody } from "./thrown.ts";

/** LangGraph tags the call of a node with its superstep; what is called inside the node does not get the tag. */
const STEP = /^graph:step:(\d+)$/;

export function nodeSteps(tell: (step: NodeStep) => void): object {
  /** What is told of a call under way: itself, or what it is in. */
  const told = new Map<string, string | null>();
  const around = (parent_id: string | undefined): string | null =>
    (parent_id === undefined ? null : told.get(parent_id)) ?? null;
  const begin = (id: string, parent_id: string | undefined, of: StepOf): void => {
    tell({ step: "begin", id, parent: around(parent_id), at: now(), of });
    told.set(id, id);
  };
  const end = (id: string, rest: Omit<Extract<NodeStep, { step: "end" }>, "step" | "id" | "at">): void => {
    if (told.get(id) === id) tell({ step: "end", id, at: now(), ...rest });
    told.delete(id);
  };
  const fail = (thrown: unknown, id: string): void => {
    const isLeaving = (thrown as { is_bubble_up?: unknown } | null)?.is_bubble_up === true;
    const error = thrownBody(thrown);
    end(id, isLeaving ? { error: null, left: error.error } : { error });
  };
  const beginModel = (
    model: unknown,
    _input: unknown,
    id: string,
    parent_id: string | undefined,
    _params?: unknown,
    _tags?: unknown,
    metadata: Readonly<Record<string, unknown>> = {},
    name?: string,
  ): void => begin(id, parent_id, { kind: "model", name: String(metadata.ls_model_name ?? name ?? classOf(model)) });
  return {
    name: "skein_node_steps",
    // Told at once, or the times would be those of LangChain's queue.
    awaitHandlers: true,
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
      const [, superstep] = STEP.exec(tags.find((tag) => STEP.test(tag)) ?? "") ?? [];
      const node = String(metadata.langgraph_node ?? name);
      // LangGraph's own first node only takes the input in.
      const counts = superstep !== undefined && node !== "__start__";
      const namespace = namespaceOf(metadata.langgraph_checkpoint_ns);
      if (counts) begin(id, parent_id, { kind: "node", name: node, superstep: Number(superstep), namespace });
      else told.set(id, around(parent_id));
    },
    handleChainEnd(_output: unknown, id: string): void {
      end(id, { error: null });
    },
    handleChainError: fail,
    handleChatModelStart: beginModel,
    handleLLMStart: beginModel,
    handleLLMEnd(output: unknown, id: string): void {
      const usage = usageOf(output);
      end(id, usage === undefined ? { error: null } : { error: null, usage });
    },
    handleLLMError: fail,
    handleToolStart(
      tool: unknown,
      _input: unknown,
      id: string,
      parent_id: string | undefined,
      _tags?: unknown,
      _metadata?: unknown,
      name?: string,
    ): void {
      begin(id, parent_id, { kind: "tool", name: String(name ?? classOf(tool)) });
    },
    handleToolEnd(_output: unknown, id: string): void {
      end(id, { error: null });
    },
    handleToolError: fail,
  };
}

/** How LangChain names what is called. */
const classOf = (serialized: unknown): unknown => (serialized as { id?: readonly unknown[] } | null)?.id?.at(-1);

function usageOf(output: unknown): { readonly input: number; readonly output: number } | undefined {
  const [[generation] = []] = (output as { generations?: readonly (readonly unknown[])[] } | null)?.generations ?? [];
  const { message } = (generation ?? {}) as { message?: { usage_metadata?: Record<string, unknown> } };
  const { input_tokens, output_tokens } = message?.usage_metadata ?? {};
  if (typeof input_tokens !== "number" || typeof output_tokens !== "number") return undefined;
  return { input: input_tokens, output: output_tokens };
}

/** Of the graph around the node: its own name comes last. */
const namespaceOf = (own: unknown): string => (typeof own === "string" ? own.split("|").slice(0, -1).join("|") : "");

const now = (): number => performance.timeOrigin + performance.now();

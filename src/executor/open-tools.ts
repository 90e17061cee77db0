/** The calls of tools that are under way in a run, as events of streaming v2. */
import type { Namespace } from "./graph-tree.ts";
import { toJson } from "./serialize.ts";

interface OpenTool {
  /** Where it runs. */
  readonly at: Namespace;
  /** Where it is shown. */
  readonly namespace: Namespace;
}

export interface OpenTools {
  /** An event of a tool of the node at a namespace. */
  event(at: Namespace, event: ToolEvent): void;
  /** The calls under way at a namespace. */
  callsAt(at: Namespace): readonly string[];
  /** None of them goes on. */
  fail(): void;
}

export interface OpenToolsOptions {
  readonly say: (namespace: Namespace, event: ToolEvent) => void;
  readonly graphOf: (at: Namespace) => Namespace;
  /** The namespace of the task that was given this call. */
  readonly taskOfCall: (tool_call_id: string) => Namespace | undefined;
}

/** Calls of these tools are shown at the namespace of their task: clients find a subagent by it. */
const SUBAGENT_TOOL = "task";

const UNFINISHED = "The tool did not finish.";

export function createOpenTools({ say, graphOf, taskOfCall }: OpenToolsOptions): OpenTools {
  const tools = new Map<string, OpenTool>();

  const namespaceOf = (at: Namespace, name: string, tool_call_id: string): Namespace => {
    const graph = graphOf(at);
    if (name !== SUBAGENT_TOOL) return graph;
    const isNode = graph.length < at.length;
    return isNode ? at : (taskOfCall(tool_call_id) ?? graph);
  };

  return {
    event(at, event) {
      const { tool_call_id } = event;
      let tool = tools.get(tool_call_id);
      if (tool === undefined || event.event === "tool-started") {
        const name = event.event === "tool-started" ? event.tool_name : "";
        tool = { at, namespace: namespaceOf(at, name, tool_call_id) };
        if (tool_call_id !== "") tools.set(tool_call_id, tool);
      }
      if (event.event === "tool-finished" || event.event === "tool-error") tools.delete(tool_call_id);
      say(tool.namespace, event);
    },
    callsAt(at) {
      const key = at.join("|");
      return [...tools].flatMap(([id, tool]) => (tool.at.join("|") === key ? [id] : []));
    },
    fail() {
      for (const [tool_call_id, { namespace }] of tools) {
        say(namespace, { event: "tool-error", tool_call_id, message: UNFINISHED });
      }
      tools.clear();
    },
  };
}

export type ToolEvent = { readonly tool_call_id: string } & (
  | { readonly event: "tool-started"; readonly tool_name: string; readonly input: unknown }
  | { readonly event: "tool-output-delta"; readonly delta: string }
  | { readonly event: "tool-finished"; readonly output: unknown }
  | { readonly event: "tool-error"; readonly message: string }
);

interface ToolChunk {
  readonly event: string;
  readonly toolCallId?: unknown;
  readonly name?: unknown;
  readonly input?: unknown;
  readonly data?: unknown;
  readonly output?: unknown;
  readonly error?: unknown;
}

/** A chunk of LangGraph's mode `tools`. */
export function toolEvent(payload: unknown): ToolEvent {
  const { event, toolCallId, name, input, data, output, error } = payload as ToolChunk;
  const tool_call_id = typeof toolCallId === "string" ? toolCallId : "";
  switch (event) {
    case "on_tool_start":
      return { event: "tool-started", tool_call_id, tool_name: typeof name === "string" ? name : "unknown", input };
    case "on_tool_event":
      return { event: "tool-output-delta", tool_call_id, delta: typeof data === "string" ? data : toJson(data ?? "") };
    case "on_tool_end":
      return { event: "tool-finished", tool_call_id, output };
    default: {
      const { message } = Object(error) as { readonly message?: unknown };
      return { event: "tool-error", tool_call_id, message: typeof message === "string" ? message : String(error) };
    }
  }
}

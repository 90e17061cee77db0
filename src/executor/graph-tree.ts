/**
 * Which graphs of a run there are, told by what they stream: a namespace is a graph when something of its own loop comes from
 * it. Says each graph's start and end, and holds back what comes before its name is known.
 */

/** A task as a graph announces it. */
export interface TaskStart {
  readonly id: string;
  readonly name: string;
  readonly input?: unknown;
  readonly triggers?: readonly unknown[];
  readonly metadata?: { readonly lc_agent_name?: unknown };
}

export type Cause =
  | { readonly type: "toolCall"; readonly tool_call_id: string }
  | { readonly type: "send" | "edge"; readonly from_node: string };

export type GraphEnd =
  | { readonly event: "completed" | "interrupted" }
  | { readonly event: "failed"; readonly error?: string };

export type GraphEvent = { readonly graph_name: string } & (
  | { readonly event: "started"; readonly cause?: unknown }
  | GraphEnd
);

export type Namespace = readonly string[];

export interface GraphTree {
  /** Something of the graph's own loop: said at once, or when the graph's start can be said. */
  own(namespace: Namespace, at: number, say: () => void): void;
  /** Something else that happened there: graphs above it have started. */
  touch(namespace: Namespace): void;
  /** To be called before the task is said through `own`. */
  taskStarted(namespace: Namespace, task: TaskStart): void;
  /** To be called when the task's end has been said: the graphs it ran end too. */
  taskEnded(namespace: Namespace, task: Pick<TaskStart, "id" | "name">, end: GraphEnd): void;
  /** The graph has finished a step; what starts next was caused by it. */
  stepEnded(namespace: Namespace): void;
  /** How many tasks of this node run. */
  running(namespace: Namespace, node: string): number;
  /** The namespace of the task that was given this tool call. */
  taskOfCall(tool_call_id: string): Namespace | undefined;
  /** What something else says started the graph; that wins over what can be told here. */
  noteCause(namespace: Namespace, cause: unknown): void;
  /** The graph in which something at this namespace happened: itself only when `orSelf`. */
  graphOf(namespace: Namespace, orSelf: boolean): Namespace;
  /** All graphs but the root end, deepest first. */
  end(end: GraphEnd): void;
}

export interface GraphTreeOptions {
  say(namespace: Namespace, at: number, event: GraphEvent): void;
  now(): number;
  /** The tool calls that run at a node. */
  openCalls(namespace: Namespace): readonly string[];
}

/** So many events of a graph may wait for its first task, which tells its name. */
const HELD = 3;

interface Graph {
  readonly namespace: Namespace;
  readonly at: number;
  readonly held: (() => void)[];
  agent: string | undefined;
  name: string | undefined;
}

/** What is known of a graph's loop. */
interface Loop {
  readonly tasks: Map<string, TaskStart>;
  before: ReadonlySet<string>;
  current: Set<string>;
}

const keyOf = (namespace: Namespace): string => namespace.join("|");
const segmentOf = ({ id, name }: Pick<TaskStart, "id" | "name">): string => `${name}:${id}`;

/** The key of a namespace, or of one below it. */
export const isAtOrBelow = (key: string, above: string): boolean =>
  above === "" || key === above || key.startsWith(`${above}|`);

export function createGraphTree(options: GraphTreeOptions): GraphTree {
  const graphs = new Map<string, Graph>();
  const loops = new Map<string, Loop>();
  const causes = new Map<string, unknown>();
  const calls = new Map<string, Namespace>();
  let waiting = 0;

  const loopOf = (namespace: Namespace): Loop => {
    const key = keyOf(namespace);
    let loop = loops.get(key);
    if (loop === undefined) {
      loop = { tasks: new Map(), before: new Set(), current: new Set() };
      loops.set(key, loop);
    }
    return loop;
  };

  const causeOf = (namespace: Namespace): unknown => {
    const key = keyOf(namespace);
    const noted = causes.get(key);
    if (noted !== undefined) return noted;
    const [call, ...others] = options.openCalls(namespace);
    if (call !== undefined && others.length === 0) return { type: "toolCall", tool_call_id: call } satisfies Cause;
    const parent = loops.get(keyOf(namespace.slice(0, -1)));
    const task = [...(parent?.tasks.values() ?? [])].find((started) => segmentOf(started) === namespace.at(-1));
    if (parent === undefined || task === undefined) return undefined;
    const given = callOf(task.input);
    if (given !== undefined) return { type: "toolCall", tool_call_id: given } satisfies Cause;
    const [from_node, ...more] = parent.before;
    if (from_node === undefined || more.length > 0) return undefined;
    const triggers = (task.triggers ?? []).map(String);
    if (triggers.includes("__pregel_push")) return { type: "send", from_node } satisfies Cause;
    if (triggers.some((trigger) => trigger.startsWith("branch:to:")))
      return { type: "edge", from_node } satisfies Cause;
    return undefined;
  };

  const release = (graph: Graph): void => {
    if (graph.name !== undefined) return;
    waiting -= 1;
    graph.name = graph.agent ?? nodeOf(graph.namespace);
    const cause = causeOf(graph.namespace);
    options.say(graph.namespace, graph.at, {
      event: "started",
      graph_name: graph.name,
      ...(cause === undefined ? {} : { cause }),
    });
    for (const say of graph.held.splice(0)) say();
  };
  const releaseAbove = (namespace: Namespace, depth: number): void => {
    if (waiting === 0) return;
    for (let i = 1; i <= depth; i += 1) {
      const graph = graphs.get(keyOf(namespace.slice(0, i)));
      if (graph !== undefined) release(graph);
    }
  };
  const releaseBelow = (namespace: Namespace): void => {
    if (waiting === 0) return;
    const above = keyOf(namespace);
    for (const [key, graph] of graphs) if (key !== above && isAtOrBelow(key, above)) release(graph);
  };
  const endAll = (ending: readonly [string, Graph][], end: GraphEnd): void => {
    const deepestFirst = [...ending].reverse().sort(([, a], [, b]) => b.namespace.length - a.namespace.length);
    for (const [, graph] of ending) release(graph);
    for (const [key, graph] of deepestFirst) {
      graphs.delete(key);
      loops.delete(key);
      const { event, ...error } = end;
      options.say(graph.namespace, options.now(), { event, graph_name: graph.name as string, ...error } as GraphEvent);
    }
  };

  return {
    own(namespace, at, say) {
      releaseBelow(namespace);
      releaseAbove(namespace, namespace.length - 1);
      if (namespace.length === 0) return say();
      const key = keyOf(namespace);
      let graph = graphs.get(key);
      if (graph === undefined) {
        graph = { namespace, at, held: [], agent: agentOf(loops.get(key)), name: undefined };
        graphs.set(key, graph);
        waiting += 1;
      }
      if (graph.name !== undefined) return say();
      graph.held.push(say);
      graph.agent ??= agentOf(loops.get(key));
      if ((loops.get(key)?.tasks.size ?? 0) > 0 || graph.held.length >= HELD) release(graph);
    },
    touch: (namespace) => releaseAbove(namespace, namespace.length),
    taskStarted(namespace, task) {
      const loop = loopOf(namespace);
      loop.tasks.set(task.id, task);
      loop.current.add(task.name);
      const call = callOf(task.input);
      if (call !== undefined) calls.set(call, [...namespace, segmentOf(task)]);
    },
    taskEnded(namespace, task, end) {
      loops.get(keyOf(namespace))?.tasks.delete(task.id);
      const prefix = keyOf([...namespace, segmentOf(task)]);
      const ending = [...graphs].filter(([key]) => isAtOrBelow(key, prefix));
      if (ending.length > 0) endAll(ending, end);
    },
    stepEnded(namespace) {
      const loop = loopOf(namespace);
      loop.before = loop.current;
      loop.current = new Set();
    },
    running: (namespace, node) =>
      [...(loops.get(keyOf(namespace))?.tasks.values() ?? [])].filter(({ name }) => name === node).length,
    taskOfCall: (tool_call_id) => calls.get(tool_call_id),
    noteCause(namespace, cause) {
      causes.set(keyOf(namespace), cause);
    },
    graphOf(namespace, orSelf) {
      for (let depth = namespace.length - (orSelf ? 0 : 1); depth > 0; depth -= 1) {
        const above = namespace.slice(0, depth);
        if (graphs.has(keyOf(above))) return above;
      }
      return [];
    },
    end: (end) => endAll([...graphs], end),
  };
}

function nodeOf(namespace: Namespace): string {
  const segment = namespace.at(-1) ?? "";
  const colon = segment.indexOf(":");
  return colon === -1 ? segment : segment.slice(0, colon);
}

function agentOf(loop: Loop | undefined): string | undefined {
  for (const { metadata } of loop?.tasks.values() ?? []) {
    const name = metadata?.lc_agent_name;
    if (typeof name === "string" && name !== "") return name;
  }
  return undefined;
}

/** The one tool call a task was given: LangGraph's tool nodes get it beside the state, or alone in a list. */
function callOf(input: unknown): string | undefined {
  if (typeof input !== "object" || input === null) return undefined;
  const { tool_call, lg_tool_call } = input as { readonly tool_call?: unknown; readonly lg_tool_call?: unknown };
  const call: unknown = Array.isArray(input)
    ? input.length === 1
      ? input[0]
      : undefined
    : (tool_call ?? lg_tool_call);
  const id = (call as { readonly id?: unknown } | null | undefined)?.id;
  return typeof id === "string" ? id : undefined;
}

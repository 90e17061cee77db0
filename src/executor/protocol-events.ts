/**
 * What a graph streams → events of streaming v2 in the run's log. Nothing here does I/O.
 *
 * Sources: LangGraph's protocol stream (v3), its chunks or the events of its transformers; and, where that is not to be had
 * or the run was asked for in v1's modes, v1's chunks. What the lines on the wire look like is the protocol's word; where
 * LangGraph's own stream differs from it (blocks that interleave, namespaces of nodes, lifecycle of plain nodes) it is put right.
 */
import { type ProtocolMethod, paramsText, protocolName } from "../schemas/protocol-events.ts";
import { type BlockWriter, type CoreEvent, createBlockWriter } from "./block-writer.ts";
import { createGraphTree, type GraphEnd, isAtOrBelow, type Namespace, type TaskStart } from "./graph-tree.ts";
import type { GraphConfig, MuxEventLike } from "./langgraph.ts";
import type { Json, WireEvent } from "./protocol.ts";
import { isMessage, type MessageLike, stateJson, toJson } from "./serialize.ts";

/** How the run ended for what is still open in it. */
export type SinkEnd = "completed" | "interrupted" | { readonly failed: string };

export interface ProtocolSink {
  /** A chunk of the graph's stream. */
  chunk(namespace: Namespace, mode: string, payload: unknown): void;
  /** An event of the graph's transformers, instead of chunks. */
  muxEvent(event: MuxEventLike): void;
  /** Closes open messages and the graphs below the root. The root's own end is told by the run. */
  end(how: SinkEnd): void;
}

export interface ProtocolSinkOptions {
  emit(event: WireEvent): void;
  /** Milliseconds since 1970. */
  now(): number;
  /** Messages come as core's events, at the namespace of their node (`v3`), or as messages and their chunks (`v1`). */
  readonly messages: "v3" | "v1";
  /** Checkpoints come as envelopes before their values, or as v1's frames behind them. */
  readonly checkpoints?: "envelopes" | "frames";
  /** Text of a state. */
  readonly valuesJson?: (values: unknown) => Json;
}

interface OpenMessage {
  readonly writer: BlockWriter;
  /** Key of the namespace of the task that says it. */
  readonly task: string;
  readonly namespace: Namespace;
  readonly node: string | undefined;
}

interface OpenTool {
  readonly name: string;
  readonly at: Namespace;
  readonly namespace: Namespace;
}

/** Calls of these tools are shown at the namespace of their task: clients find a subagent by it. */
const SUBAGENT_TOOL = "task";

const UNFINISHED = "The message was not finished.";

export function createProtocolSink(options: ProtocolSinkOptions): ProtocolSink {
  const { emit, now, messages: kind, checkpoints: announced = "envelopes", valuesJson = stateJson } = options;
  const messages = new Map<string, OpenMessage>();
  const said = new Set<string>();
  const tools = new Map<string, OpenTool>();
  const requested = new Set<string>();
  /** Values that wait for the frame of their checkpoint. */
  const unannounced = new Map<string, { readonly at: number; readonly json: Json }>();

  const write = (
    method: Parameters<typeof protocolName>[0],
    ns: Namespace,
    data: Json,
    at: number,
    node?: string,
  ): void => emit({ event: protocolName(method, ns), data: paramsText(ns, at, node, data) });

  const tree = createGraphTree({
    now,
    say: (ns, at, event) => write("lifecycle", ns, toJson(event), at),
    openCalls(ns) {
      const key = ns.join("|");
      return [...tools].flatMap(([id, { at }]) => (at.join("|") === key ? [id] : []));
    },
  });

  /** Says something of a graph's own loop. */
  const own = (method: ProtocolMethod, ns: Namespace, data: Json, node?: string, at = now()): void =>
    tree.own(ns, at, () => write(method, ns, data, at, node));
  /** Says something that happened in a graph. */
  const say = (method: Parameters<typeof write>[0], ns: Namespace, data: Json, node?: string): void => {
    tree.touch(ns);
    write(method, ns, data, now(), node);
  };

  /* ------------------------------------------------------------------ values and checkpoints */

  const flushValues = (ns: Namespace): void => {
    if (unannounced.size === 0) return;
    const key = ns.join("|");
    const waiting = unannounced.get(key);
    if (waiting === undefined) return;
    unannounced.delete(key);
    own("values", ns, waiting.json, undefined, waiting.at);
  };

  const request = (ns: Namespace, interrupts: unknown): void => {
    for (const interrupt of Array.isArray(interrupts) ? (interrupts as unknown[]) : []) {
      const { id, value = null } = (interrupt ?? {}) as { readonly id?: unknown; readonly value?: unknown };
      // A graph above repeats those of the graphs below it, later.
      if (typeof id !== "string" || requested.has(id)) continue;
      requested.add(id);
      own("input.requested", ns, toJson({ interrupt_id: id, payload: value, value }));
    }
  };

  const onValues = (ns: Namespace, payload: unknown): void => {
    flushValues(ns);
    if (hasInterrupts(payload)) {
      request(ns, payload.__interrupt__);
      return;
    }
    closeMessages((message) => message.namespace.join("|") === ns.join("|") && kind === "v1", "completed");
    if (announced === "frames") unannounced.set(ns.join("|"), { at: now(), json: valuesJson(payload) });
    else own("values", ns, valuesJson(payload));
    tree.stepEnded(ns);
  };

  const onCheckpoint = (ns: Namespace, payload: unknown): void => {
    const envelope = envelopeOf(payload);
    if (envelope === undefined) return;
    // The frame of a checkpoint without values (of the input) tells clients nothing.
    if (isFrame(payload) && !unannounced.has(ns.join("|"))) return;
    own("checkpoints", ns, toJson(envelope));
    flushValues(ns);
  };

  /* ---------------------------------------------------------------------- updates and tasks */

  const onUpdate = (ns: Namespace, node: string, values: unknown): void => {
    flushValues(ns);
    if (node === "__interrupt__") request(ns, values);
    if (node.startsWith("__")) return;
    if (kind === "v1" && tree.running(ns, node) <= 1) {
      closeMessages((message) => message.node === node && message.namespace.join("|") === ns.join("|"), "completed");
    }
    own("updates", ns, toJson({ node, values }), node);
  };

  const onTask = (ns: Namespace, payload: unknown): void => {
    flushValues(ns);
    const task = payload as TaskStart & TaskResult;
    if (!("result" in task)) {
      tree.taskStarted(ns, task);
      own("tasks", ns, toJson(task));
      return;
    }
    const end = endOf(task);
    const at = [...ns, `${task.name}:${task.id}`].join("|");
    const how = end.event === "failed" ? { failed: end.error ?? UNFINISHED } : end.event;
    closeMessages((message) => isAtOrBelow(message.task, at), how);
    own("tasks", ns, toJson(task));
    tree.taskEnded(ns, task, end);
  };

  /* ------------------------------------------------------------------------------- messages */

  const closeMessages = (isMeant: (message: OpenMessage) => boolean, how: SinkEnd): void => {
    for (const [key, message] of messages) {
      if (!isMeant(message)) continue;
      messages.delete(key);
      if (typeof how === "object") message.writer.fail(how.failed);
      // Core says itself when a message is finished.
      else if (how === "completed" && kind === "v1") message.writer.finish();
      else message.writer.fail(UNFINISHED);
    }
  };

  const open = (key: string, head: { id: string; run_id: string }, at: Namespace, node: string | undefined) => {
    const namespace = tree.graphOf(at, false);
    const writer = createBlockWriter(head, (data) => say("messages", namespace, data, node));
    const message: OpenMessage = { writer, task: at.join("|"), namespace, node };
    messages.set(key, message);
    return message;
  };

  const onCoreEvent = (at: Namespace, event: CoreEvent, run_id: string, node: string | undefined): void => {
    const isStart = event.event === "message-start";
    const id = isStart && typeof event.id === "string" ? event.id : `run-${run_id}`;
    if (isStart) {
      messages.get(run_id)?.writer.fail(UNFINISHED);
      messages.delete(run_id);
    }
    const message = messages.get(run_id) ?? open(run_id, { id, run_id }, at, node);
    message.writer.event(event);
    if (!message.writer.isOpen) messages.delete(run_id);
  };

  const onMessage = (ns: Namespace, message: MessageLike, metadata: MessageMetadata): void => {
    const { id } = message;
    if (id === undefined || message._getType() === "tool") return;
    const isWhole = message.concat === undefined;
    if (isWhole && said.has(id)) return;
    said.add(id);
    const { langgraph_checkpoint_ns: at, langgraph_node: node } = metadata;
    // A message from nowhere is one of the graph whose stream it came in.
    const place = typeof at === "string" && at !== "" ? at.split("|") : [...ns, ""];
    const run_id = id.startsWith("run-") ? id.slice("run-".length) : id;
    const { writer } = messages.get(id) ?? open(id, { id, run_id }, place, typeof node === "string" ? node : undefined);
    writer.chunk(message);
    if (!isWhole) return;
    writer.finish();
    messages.delete(id);
  };

  /* ---------------------------------------------------------------------------------- tools */

  const onTool = (at: Namespace, event: ToolEvent): void => {
    const { tool_call_id } = event;
    let tool = tools.get(tool_call_id);
    if (tool === undefined || event.event === "tool-started") {
      const name = event.event === "tool-started" ? event.tool_name : "";
      tool = { name, at, namespace: toolNamespace(at, name, tool_call_id) };
      if (tool_call_id !== "") tools.set(tool_call_id, tool);
    }
    if (event.event === "tool-finished" || event.event === "tool-error") tools.delete(tool_call_id);
    say("tools", tool.namespace, toJson(event));
  };

  const toolNamespace = (at: Namespace, name: string, tool_call_id: string): Namespace => {
    const graph = tree.graphOf(at, kind === "v1");
    if (name !== SUBAGENT_TOOL) return graph;
    const isNode = graph.length < at.length;
    return isNode ? at : (tree.taskOfCall(tool_call_id) ?? graph);
  };

  /* --------------------------------------------------------------------------------- custom */

  const onCustom = (ns: Namespace, payload: unknown): void => {
    if (isNamed(payload)) say(`custom:${payload.name}`, ns, toJson({ ...payload, payload: payload.payload ?? null }));
    else say("custom", ns, toJson({ payload: payload ?? null }));
  };

  return {
    chunk(ns, mode, payload) {
      switch (mode) {
        case "values":
          return onValues(ns, payload);
        case "checkpoints":
          return onCheckpoint(ns, payload);
        case "updates":
          for (const [node, values] of Object.entries((payload ?? {}) as object)) onUpdate(ns, node, values);
          return;
        case "tasks":
          return onTask(ns, payload);
        case "messages": {
          const [data, metadata] = payload as readonly [unknown, MessageMetadata];
          if (kind === "v1") {
            if (isMessage(data)) onMessage(ns, data, metadata);
            return;
          }
          const { run_id, langgraph_node: node } = metadata;
          return onCoreEvent(ns, data as CoreEvent, textOf(run_id), typeof node === "string" ? node : undefined);
        }
        case "tools":
          return onTool(ns, toolEvent(payload));
        case "custom":
          return onCustom(ns, payload);
        default:
      }
    },
    muxEvent({ method, params: { namespace, node, data } }) {
      switch (method) {
        case "values":
          return onValues(namespace, data);
        case "checkpoints":
          return onCheckpoint(namespace, data);
        case "updates": {
          const { node: of, values } = data as { readonly node?: unknown; readonly values?: unknown };
          if (typeof of === "string") onUpdate(namespace, of, values);
          return;
        }
        case "tasks":
          return onTask(namespace, data);
        case "messages":
          return onCoreEvent(namespace, data as CoreEvent, textOf((data as CoreEvent).run_id), node);
        case "tools":
          return onTool(namespace, data as ToolEvent);
        case "custom":
          return onCustom(namespace, isUnnamed(data) ? data.payload : data);
        case "lifecycle": {
          const { cause } = data as { readonly cause?: unknown };
          if (typeof cause === "object" && cause !== null) tree.noteCause(namespace, cause);
          return;
        }
        default:
          // A channel of a transformer of the graph's.
          if (method.startsWith("custom:"))
            onCustom(namespace, { name: method.slice("custom:".length), payload: data });
      }
    },
    end(how) {
      for (const key of unannounced.keys()) flushValues(key === "" ? [] : key.split("|"));
      closeMessages(() => true, how);
      tree.end(typeof how === "object" ? { event: "failed", error: how.failed } : { event: how });
    },
  };
}

/* --------------------------------------------------------------------------------- shapes */

const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

interface MessageMetadata {
  readonly run_id?: unknown;
  readonly langgraph_node?: unknown;
  readonly langgraph_checkpoint_ns?: unknown;
}

interface TaskResult {
  readonly result?: unknown;
  readonly interrupts?: readonly unknown[];
  readonly error?: unknown;
}

function endOf({ interrupts, error }: TaskResult): GraphEnd {
  if (error !== undefined && error !== null) {
    const { message } = Object(error) as { readonly message?: unknown };
    return {
      event: "failed",
      error: typeof message === "string" ? message : typeof error === "string" ? error : toJson(error),
    };
  }
  return { event: (interrupts?.length ?? 0) > 0 ? "interrupted" : "completed" };
}

const hasInterrupts = (payload: unknown): payload is { readonly __interrupt__: unknown } =>
  typeof payload === "object" && payload !== null && "__interrupt__" in payload;

/** A custom event that names itself; it is one of the channel `custom:<name>`. */
const isNamed = (payload: unknown): payload is { readonly name: string; readonly payload: unknown } =>
  typeof payload === "object" &&
  payload !== null &&
  "payload" in payload &&
  "name" in payload &&
  typeof payload.name === "string";

const isUnnamed = (data: unknown): data is { readonly payload: unknown } =>
  typeof data === "object" && data !== null && "payload" in data && !("name" in data);

interface CheckpointFrame {
  readonly config: GraphConfig;
  readonly parentConfig?: GraphConfig;
  readonly metadata?: { readonly step?: unknown; readonly source?: unknown };
}

/** True for v1's frame of a checkpoint, which has the whole state; false for an envelope. */
const isFrame = (payload: unknown): payload is CheckpointFrame =>
  typeof payload === "object" && payload !== null && "config" in payload;

function envelopeOf(payload: unknown): object | undefined {
  if (!isFrame(payload)) return payload as object;
  const id = payload.config.configurable?.checkpoint_id;
  const parent_id = payload.parentConfig?.configurable?.checkpoint_id;
  if (typeof id !== "string") return undefined;
  const { step, source } = payload.metadata ?? {};
  return { id, ...(typeof parent_id === "string" ? { parent_id } : {}), step, source };
}

type ToolEvent = { readonly tool_call_id: string } & (
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
function toolEvent(payload: unknown): ToolEvent {
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

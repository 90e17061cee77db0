/** A run with events of streaming v2: what it asks LangGraph for, and who gets what comes. */
import type { RunKwargs } from "../schemas/runs.ts";
import type { GraphConfig, GraphLike, LangGraph, MuxEventLike, StreamTransformerLike } from "./langgraph.ts";
import type { Modes } from "./modes.ts";
import type { Json, Outcome, WireEvent } from "./protocol.ts";
import { createProtocolSink, type SinkEnd } from "./protocol-events.ts";
import { stateJson } from "./serialize.ts";

export interface ProtocolRun {
  /** Options of the graph's stream, in place of those that the modes ask for. */
  asks(): GraphConfig;
  /**
   * What transformers of the graph's own make of its stream; undefined when none of them has a say. LangGraph keeps every event
   * of it until the run ends, so such a graph is read as it is.
   */
  transformed(graph: GraphLike, stream: AsyncIterable<unknown>): AsyncIterable<MuxEventLike> | undefined;
  /** A chunk `[namespace, mode, payload]`. */
  chunk(chunk: unknown): void;
  /** An event of the transformed stream. */
  event(event: MuxEventLike): void;
  /** Values that no chunk has brought. */
  values(values: unknown): void;
  /** To be called when nothing more comes. */
  end(outcome: Outcome): void;
}

/** What LangGraph's own protocol stream (`streamEvents` v3) asks for. */
const PROTOCOL_MODES = ["values", "updates", "messages", "tools", "custom", "tasks"];

/** `texts` is to be used by the modes too: one text of a state serves both. */
export function createProtocolRun(
  {
    protocol,
    stream_mode,
    subgraphs,
  }: Pick<RunKwargs, "stream_mode" | "subgraphs"> & Required<Pick<RunKwargs, "protocol">>,
  { hasProtocolStream, createGraphRunStream }: Pick<LangGraph, "hasProtocolStream" | "createGraphRunStream">,
  modes: Modes,
  emit: (event: WireEvent) => void,
  texts: StateTexts,
): ProtocolRun {
  const isV3 = protocol === "native" && hasProtocolStream;
  const asksForFrames = protocol === "beside" && stream_mode.includes("checkpoints");
  const checkpoints = hasProtocolStream && !asksForFrames ? "envelopes" : "frames";
  const sink = createProtocolSink({
    emit,
    now: Date.now,
    messages: isV3 ? "v3" : "v1",
    checkpoints,
    valuesJson: texts.json,
  });

  const toModes = (namespace: readonly string[], mode: string, payload: unknown): void => {
    // Frames that only the sink has asked for.
    if (mode === "checkpoints" && checkpoints === "frames" && !asksForFrames) return;
    if (subgraphs) modes.chunk(namespace, mode, payload);
    else if (namespace.length === 0) modes.chunk(null, mode, payload);
  };

  return {
    asks() {
      if (isV3) return { version: "v3", streamMode: PROTOCOL_MODES, subgraphs: true };
      const frames = checkpoints === "frames" ? ["checkpoints"] : [];
      const streamMode = [...new Set([...modes.requested, ...PROTOCOL_MODES, ...frames])];
      return { streamMode, subgraphs: true, version: "v2" };
    },
    transformed({ streamTransformers = [] }, stream) {
      if (!isV3) return undefined;
      const speaking = streamTransformers.map((create) => create()).filter(addsToStream);
      return speaking.length === 0
        ? undefined
        : createGraphRunStream?.(
            stream,
            speaking.map((transformer) => () => transformer),
          );
    },
    chunk(chunk) {
      const [namespace, mode, payload] = chunk as readonly [readonly string[], string, unknown];
      texts.forget();
      toModes(namespace, mode, payload);
      sink.chunk(namespace, mode, payload);
    },
    event(event) {
      const { method, params } = event;
      texts.forget();
      if (method === "values") modes.chunk(params.namespace, method, params.data);
      sink.muxEvent(event);
    },
    values: (values) => sink.chunk([], "values", values),
    end: (outcome) => sink.end(sinkEnd(outcome)),
  };
}

/**
 * The two that every agent of LangChain's has do not: they make views for callers in the same process. Nobody looks at those
 * here, and a promise in them that a failing tool rejects would end the process.
 */
const addsToStream = ({ __native, onRegister }: StreamTransformerLike): boolean =>
  __native !== true || onRegister !== undefined;

function sinkEnd(outcome: Outcome): SinkEnd {
  switch (outcome.kind) {
    case "success":
      return "completed";
    case "error":
      return { failed: outcome.error.message };
    case "interrupted":
      return "interrupted";
    default:
      return "cancelled";
  }
}

/** `stateJson` that writes a state once for those who want it at the same time. */
export interface StateTexts {
  json(values: unknown): Json;
  /** To be called when time has passed: nodes may have changed a state in place. */
  forget(): void;
}

export function createStateTexts(): StateTexts {
  let last: { readonly values: unknown; readonly json: Json } | undefined;
  return {
    json(values) {
      if (last === undefined || last.values !== values) last = { values, json: stateJson(values) };
      return last.json;
    },
    forget() {
      last = undefined;
    },
  };
}

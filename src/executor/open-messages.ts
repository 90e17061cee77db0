/** The messages of a run that are being said in events of streaming v2: which event goes to which, and the end of each. */
import { type BlockWriter, type CoreEvent, createBlockWriter } from "./block-writer.ts";
import type { Namespace } from "./graph-tree.ts";
import type { Json } from "./protocol.ts";
import type { SinkEnd } from "./protocol-events.ts";
import type { MessageLike } from "./serialize.ts";

export interface OpenMessage {
  readonly writer: BlockWriter;
  /** Key of the namespace of the task that says it. */
  readonly task: string;
  readonly namespace: Namespace;
  readonly node: string | undefined;
}

export interface MessageMetadata {
  readonly run_id?: unknown;
  readonly langgraph_node?: unknown;
  readonly langgraph_checkpoint_ns?: unknown;
}

export interface OpenMessages {
  /** An event of LangChain's core, of the call `run_id` in the task at a namespace. */
  event(at: Namespace, event: CoreEvent, run_id: string, node: string | undefined): void;
  /** A message, or a piece of one, from the stream of the graph at a namespace. */
  chunk(namespace: Namespace, message: MessageLike, metadata: MessageMetadata): void;
  /** Those that are meant are not said on. */
  close(isMeant: (message: OpenMessage) => boolean, how: SinkEnd): void;
}

export interface OpenMessagesOptions {
  readonly kind: "v3" | "v1";
  readonly say: (namespace: Namespace, data: Json, node: string | undefined) => void;
  /** The graph of the task at a namespace. */
  readonly graphOf: (at: Namespace) => Namespace;
}

const UNFINISHED = "The message was not finished.";

export function createOpenMessages({ kind, say, graphOf }: OpenMessagesOptions): OpenMessages {
  const messages = new Map<string, OpenMessage>();
  const said = new Set<string>();

  const open = (key: string, head: { id: string; run_id: string }, at: Namespace, node: string | undefined) => {
    const namespace = graphOf(at);
    const writer = createBlockWriter(head, (data) => say(namespace, data, node));
    const message: OpenMessage = { writer, task: at.join("|"), namespace, node };
    messages.set(key, message);
    return message;
  };

  return {
    event(at, event, run_id, node) {
      const isStart = event.event === "message-start";
      const id = isStart && typeof event.id === "string" ? event.id : `run-${run_id}`;
      if (isStart) {
        messages.get(run_id)?.writer.fail(UNFINISHED);
        messages.delete(run_id);
      }
      const message = messages.get(run_id) ?? open(run_id, { id, run_id }, at, node);
      message.writer.event(event);
      if (!message.writer.isOpen) messages.delete(run_id);
    },
    chunk(ns, message, metadata) {
      const { id } = message;
      if (id === undefined || message._getType() === "tool") return;
      const isWhole = message.concat === undefined;
      if (isWhole && said.has(id)) return;
      said.add(id);
      const { langgraph_checkpoint_ns: at, langgraph_node } = metadata;
      const node = typeof langgraph_node === "string" ? langgraph_node : undefined;
      // A message from nowhere is one of the graph whose stream it came in.
      const place = typeof at === "string" && at !== "" ? at.split("|") : [...ns, ""];
      const run_id = id.startsWith("run-") ? id.slice("run-".length) : id;
      const { writer } = messages.get(id) ?? open(id, { id, run_id }, place, node);
      writer.chunk(message);
      if (!isWhole) return;
      writer.finish();
      messages.delete(id);
    },
    close(isMeant, how) {
      for (const [key, message] of messages) {
        if (!isMeant(message)) continue;
        messages.delete(key);
        if (typeof how === "object") message.writer.fail(how.failed);
        // Core says itself when a message is finished.
        else if (how === "completed" && kind === "v1") message.writer.finish();
        else message.writer.fail(UNFINISHED);
      }
    },
  };
}

import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk } from "@langchain/core/messages";
import { ChatGenerationChunk } from "@langchain/core/outputs";
import { tool } from "@langchain/core/tools";
import {
  Annotation,
  interrupt,
  MessagesAnnotation,
  Send,
  START,
  StateGraph,
  StreamChannel,
} from "@langchain/langgraph";
import { createAgent } from "langchain";

/** Streams these chunks, and fails behind them when told to. */
class ChunkModel extends BaseChatModel {
  constructor(chunks, failure) {
    super({});
    Object.assign(this, { chunks, failure });
  }
  _llmType() {
    return "chunks";
  }
  async *_streamResponseChunks(_messages, _options, manager) {
    for (const message of this.chunks()) {
      const chunk = new ChatGenerationChunk({ message, text: "" });
      yield chunk;
      await manager?.handleLLMNewToken("", undefined, undefined, undefined, undefined, { chunk });
      await globalThis.__gate?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (this.failure !== undefined) throw this.failure;
  }
  async _generate(messages, options, manager) {
    let all;
    for await (const chunk of this._streamResponseChunks(messages, options, manager))
      all = all ? all.concat(chunk) : chunk;
    return { generations: [all] };
  }
}

const talking = (model) =>
  new StateGraph(MessagesAnnotation)
    .addNode("agent", async ({ messages }, config) => ({ messages: [await model.invoke(messages, config)] }))
    .addEdge(START, "agent")
    .compile();

const piece = (fields) => new AIMessageChunk({ id: "m", content: "", ...fields });
export const reasons = talking(
  new ChunkModel(() => [
    piece({ content: [{ type: "reasoning", reasoning: "Let me ", index: 0 }] }),
    piece({ content: [{ type: "reasoning", reasoning: "think", index: 0 }] }),
    piece({ content: [{ type: "text", text: "Ans", index: 1 }] }),
    piece({ content: [{ type: "text", text: "wer", index: 1 }] }),
    piece({ tool_call_chunks: [{ index: 2, id: "c", name: "f", args: "", type: "tool_call_chunk" }] }),
    piece({ tool_call_chunks: [{ index: 2, args: '{"a":', type: "tool_call_chunk" }] }),
    piece({ tool_call_chunks: [{ index: 2, args: "1}", type: "tool_call_chunk" }] }),
    piece({ usage_metadata: { input_tokens: 3, output_tokens: 2, total_tokens: 5 } }),
  ]),
);
/** Counts its calls from 0, as most do, behind text that is no block. */
export const speaksThenCalls = talking(
  new ChunkModel(() => [
    piece({ content: "Let me " }),
    piece({ content: "see." }),
    piece({ tool_call_chunks: [{ index: 0, id: "c", name: "f", args: "", type: "tool_call_chunk" }] }),
    piece({ tool_call_chunks: [{ index: 0, args: '{"a":1}', type: "tool_call_chunk" }] }),
    piece({ tool_call_chunks: [{ index: 1, id: "d", name: "g", args: "{}", type: "tool_call_chunk" }] }),
  ]),
);
export const modelFails = talking(
  new ChunkModel(() => [piece({ content: "par" }), piece({ content: "t" })], new Error("model exploded")),
);
const talker = talking(new ChunkModel(() => [piece({ content: "H" }), piece({ content: "i" })]));
export const talksBelow = new StateGraph(MessagesAnnotation).addNode("child", talker).addEdge(START, "child").compile();

/** Says 6 MB, half as much again as may wait unread, and then waits at `__after`. */
export const floods = new StateGraph(MessagesAnnotation)
  .addNode(
    "child",
    talking(new ChunkModel(() => Array.from({ length: 96 }, () => piece({ content: "x".repeat(65_536) })))),
  )
  .addNode("after", async () => {
    await globalThis.__after?.();
    return {};
  })
  .addEdge(START, "child")
  .addEdge("child", "after")
  .compile();

const Log = Annotation.Root({ log: Annotation({ reducer: (a, b) => a.concat(b), default: () => [] }) });
export const named = new StateGraph(Log)
  .addNode("tells", (_state, config) => {
    config.writer?.({ name: "a2a", payload: { step: 1 } });
    config.writer?.("plain string");
    return { log: ["told"] };
  })
  .addEdge(START, "tells")
  .compile();

const worker = new StateGraph(Log)
  .addNode("work", () => ({ log: ["worked"] }))
  .addEdge(START, "work")
  .compile();
export const sends = new StateGraph(Log)
  .addNode("plan", () => ({ log: ["plan"] }))
  .addNode("worker", worker)
  .addEdge(START, "plan")
  .addConditionalEdges("plan", () => [new Send("worker", { log: [] }), new Send("worker", { log: [] })], ["worker"])
  .compile();

/** Answers with these messages, one after the other, without streaming. */
class ScriptedModel extends BaseChatModel {
  constructor(script) {
    super({});
    Object.assign(this, { script });
  }
  _llmType() {
    return "scripted";
  }
  bindTools() {
    return this;
  }
  async _generate(messages) {
    const said = messages.filter((message) => message.getType() === "ai").length;
    return { generations: [{ text: "", message: this.script(said) }] };
  }
}

const helper = createAgent({
  model: new ScriptedModel(() => new AIMessage({ content: "sub says", id: "s1" })),
  tools: [],
  name: "helper",
});
const task = tool(
  async ({ description }, config) => {
    const { messages } = await helper.invoke({ messages: [{ role: "user", content: description }] }, config);
    return messages.at(-1).text;
  },
  {
    name: "task",
    description: "Asks a helper",
    schema: { type: "object", properties: { description: { type: "string" } } },
  },
);
const parts = tool(
  async function* () {
    yield "part 0";
    yield "part 1";
    return "whole";
  },
  { name: "parts", description: "Speaks in parts", schema: { type: "object", properties: {} } },
);
const bad = tool(
  () => {
    throw new Error("tool failed");
  },
  { name: "bad", description: "Fails", schema: { type: "object", properties: {} } },
);
const call = (id, name, args = {}) => ({ id, name, args, type: "tool_call" });
export const deepAgent = createAgent({
  model: new ScriptedModel((said) =>
    said === 0
      ? new AIMessage({
          content: "Look.",
          id: "a1",
          tool_calls: [call("c1", "task", { description: "do it" }), call("c2", "parts")],
        })
      : new AIMessage({ content: "done", id: "a2" }),
  ),
  tools: [task, parts],
});
export const agentFails = createAgent({
  model: new ScriptedModel((said) =>
    said === 0
      ? new AIMessage({ content: "Look.", id: "a1", tool_calls: [call("c1", "bad")] })
      : new AIMessage({ content: "sorry", id: "a2" }),
  ),
  tools: [bad],
});

/** A graph with a channel of its own in its stream. */
const withChannel = (work) =>
  Object.assign(new StateGraph(Log).addNode("one", work).addEdge(START, "one").compile(), {
    streamTransformers: [
      () => {
        const files = StreamChannel.remote("files");
        return {
          init: () => ({ files }),
          process(event) {
            if (event.method === "updates") files.push({ wrote: event.params.node });
            return true;
          },
        };
      },
    ],
  });
export const channels = withChannel(() => ({ log: ["one"] }));
export const channelsFail = withChannel(() => {
  throw new Error("no");
});
export const channelsAsk = withChannel(() => ({ log: [interrupt("sure?")] }));

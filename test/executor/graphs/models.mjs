import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessageChunk } from "@langchain/core/messages";
import { ChatGenerationChunk } from "@langchain/core/outputs";
import { tool } from "@langchain/core/tools";
import { FakeListChatModel } from "@langchain/core/utils/testing";
import { MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { ToolNode, toolsCondition } from "@langchain/langgraph/prebuilt";

const fake = new FakeListChatModel({ responses: ["Hi there"] });
export const chat = new StateGraph(MessagesAnnotation)
  .addNode("agent", async ({ messages }, config) => ({ messages: [await fake.invoke(messages, config)] }))
  .addEdge(START, "agent")
  .compile();

/** Streams one tool call in pieces, then, once it sees the tool's answer, text. */
class ToolModel extends BaseChatModel {
  _llmType() {
    return "scripted";
  }
  async *_streamResponseChunks(messages, _options, manager) {
    const answered = messages.at(-1)?.getType() === "tool";
    const piece = (id, args, index) => ({
      index: 0,
      id,
      name: index === 0 ? "get_weather" : undefined,
      args,
      type: "tool_call_chunk",
    });
    const chunks = answered
      ? [new AIMessageChunk({ id: "ai-2", content: "It is " }), new AIMessageChunk({ id: "ai-2", content: "sunny." })]
      : [
          new AIMessageChunk({ id: "ai-1", content: "Let me look." }),
          new AIMessageChunk({ id: "ai-1", content: "", tool_call_chunks: [piece("call_1", "", 0)] }),
          new AIMessageChunk({ id: "ai-1", content: "", tool_call_chunks: [piece(undefined, '{"city":', 1)] }),
          new AIMessageChunk({ id: "ai-1", content: "", tool_call_chunks: [piece(undefined, '"Paris"}', 2)] }),
        ];
    for (const message of chunks) {
      const chunk = new ChatGenerationChunk({ message, text: message.content });
      yield chunk;
      await manager?.handleLLMNewToken(message.content, undefined, undefined, undefined, undefined, { chunk });
    }
  }
  async _generate(messages, options, manager) {
    let all;
    for await (const chunk of this._streamResponseChunks(messages, options, manager))
      all = all ? all.concat(chunk) : chunk;
    return { generations: [all] };
  }
}

const weather = tool(({ city }) => `Sunny in ${city}`, {
  name: "get_weather",
  description: "The weather",
  schema: { type: "object", properties: { city: { type: "string" } } },
});
const model = new ToolModel({});
export const toolAgent = new StateGraph(MessagesAnnotation)
  .addNode("agent", async ({ messages }, config) => ({ messages: [await model.invoke(messages, config)] }))
  .addNode("tools", new ToolNode([weather]))
  .addEdge(START, "agent")
  .addConditionalEdges("agent", toolsCondition)
  .addEdge("tools", "agent")
  .compile();

// One model call that says `tokens` words without a pause, so that whatever carries the tokens is the slow part.
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk } from "@langchain/core/messages";
import { ChatGenerationChunk } from "@langchain/core/outputs";
import { Annotation, END, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";

class WordyModel extends BaseChatModel {
  constructor(tokens) {
    super({});
    this.tokens = tokens;
  }

  _llmType() {
    return "wordy";
  }

  async _generate() {
    const message = new AIMessage(Array.from({ length: this.tokens }, (_, index) => word(index)).join(""));
    return { generations: [{ text: message.text, message }] };
  }

  async *_streamResponseChunks(_messages, options, runManager) {
    for (let index = 0; index < this.tokens; index++) {
      options.signal?.throwIfAborted();
      const text = word(index);
      const chunk = new ChatGenerationChunk({ text, message: new AIMessageChunk({ content: text }) });
      yield chunk;
      await runManager?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk });
    }
  }
}

const word = (index) => ` word${index}`;

const State = Annotation.Root({ ...MessagesAnnotation.spec, tokens: Annotation() });

async function answer({ messages, tokens }, config) {
  return { messages: [await new WordyModel(tokens).invoke(messages, config)] };
}

export const graph = new StateGraph(State)
  .addNode("answer", answer)
  .addEdge(START, "answer")
  .addEdge("answer", END)
  .compile();

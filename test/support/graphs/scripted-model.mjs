// A chat model without a network: `script(messages)` says what comes next, as { text, toolCalls }, token by token.
// Before token `index` it awaits `before(index, signal)`.
import { setTimeout as delay } from "node:timers/promises";
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk } from "@langchain/core/messages";
import { ChatGenerationChunk } from "@langchain/core/outputs";

export class ScriptedModel extends BaseChatModel {
  constructor({ script, delayMs = 0, before = () => undefined }) {
    super({});
    this.script = script;
    this.before = before;
    this.delayMs = delayMs;
  }

  _llmType() {
    return "scripted";
  }

  bindTools() {
    return this;
  }

  async _generate(messages, options) {
    let whole;
    for await (const { message } of this._streamResponseChunks(messages, options))
      whole = whole?.concat(message) ?? message;
    const message = new AIMessage({
      content: whole.content,
      tool_calls: whole.tool_calls,
      usage_metadata: whole.usage_metadata,
    });
    return { generations: [{ text: message.text, message }] };
  }

  async *_streamResponseChunks(messages, options, runManager) {
    let index = 0;
    for (const fields of chunks(await this.script(messages), messages.length)) {
      await this.before(index++, options.signal);
      if (this.delayMs > 0) await delay(this.delayMs, undefined, { signal: options.signal });
      options.signal?.throwIfAborted();
      const chunk = new ChatGenerationChunk({ text: fields.content, message: new AIMessageChunk(fields) });
      yield chunk;
      await runManager?.handleLLMNewToken(fields.content, undefined, undefined, undefined, undefined, { chunk });
    }
  }
}

function* chunks({ text = "", toolCalls = [] }, turn) {
  const words = text.match(/\s*\S+/g) ?? [];
  for (const content of words) yield { content };
  for (const [number, { name, args }] of toolCalls.entries()) {
    const id = `call_${turn}_${number}`;
    // Indices count blocks of content, and the text is one: LangChain would put a call with its index into it.
    const index = number + (words.length > 0 ? 1 : 0);
    yield { content: "", tool_call_chunks: [{ type: "tool_call_chunk", index, id, name, args: "" }] };
    for (const piece of JSON.stringify(args).match(/.{1,8}/gs)) {
      yield { content: "", tool_call_chunks: [{ type: "tool_call_chunk", index, args: piece }] };
    }
  }
  const output_tokens = words.length + 10 * toolCalls.length;
  yield { content: "", usage_metadata: { input_tokens: turn, output_tokens, total_tokens: turn + output_tokens } };
}

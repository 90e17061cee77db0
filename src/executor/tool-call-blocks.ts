/**
 * Tool calls in the events that LangChain makes of a model's chunks, where the model's package makes none itself. It puts text that is
 * a string into block 0, and a call into the block of its index, which most providers count from 0: so a call behind text went into the
 * text, and was missing in the answer as well. Such calls get the blocks behind the text.
 */
interface Call {
  readonly index?: number | undefined;
}

/** What we know of a `ChatGenerationChunk`. */
interface Chunk {
  readonly message: { readonly content?: unknown; readonly tool_call_chunks?: readonly Call[] };
}

interface ChatModel {
  _streamResponseChunks(...call: readonly unknown[]): AsyncIterable<Chunk>;
  _streamChatModelEvents?(...call: readonly unknown[]): AsyncIterable<unknown>;
}

/** `BaseChatModel` of `@langchain/core/language_models/chat_models`. */
export interface ChatModelClass {
  readonly prototype: ChatModel;
}

/** To be called once for a copy of LangChain. Versions without such events are left alone. */
export function keepToolCallsApart({ prototype }: ChatModelClass): void {
  const { _streamChatModelEvents: streamEvents } = prototype;
  if (streamEvents === undefined) return;
  prototype._streamChatModelEvents = function (this: ChatModel, ...call) {
    const chunks = (): AsyncIterable<Chunk> => behindText(this._streamResponseChunks(...call));
    const model = Object.create(this, { _streamResponseChunks: { value: chunks } }) as ChatModel;
    return streamEvents.call(model, ...call);
  };
}

async function* behindText(chunks: AsyncIterable<Chunk>): AsyncGenerator<Chunk, void> {
  let hasText = false;
  let by: number | undefined;
  for await (const chunk of chunks) {
    const { content, tool_call_chunks: calls = [] } = chunk.message;
    hasText ||= typeof content === "string" && content !== "";
    // Of models that number their blocks themselves no call meets the text.
    if (calls.length > 0) by ??= hasText && calls.some(({ index }) => index === 0) ? 1 : 0;
    yield calls.length === 0 || by === 0 ? chunk : moved(chunk, calls, by ?? 0);
  }
}

/** A view of the chunk; it is the model's own. */
function moved(chunk: Chunk, calls: readonly Call[], by: number): Chunk {
  const value = calls.map((call) => (call.index === undefined ? call : { ...call, index: call.index + by }));
  const message: unknown = Object.create(chunk.message, { tool_call_chunks: { value } });
  return Object.create(chunk, { message: { value: message } }) as Chunk;
}

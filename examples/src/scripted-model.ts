/**
 * A chat model that follows a script instead of a network: the same messages always give the same
 * answer. It behaves like a provider's model on every wire a server has to carry: it streams token
 * by token, splits the arguments of tool calls over several chunks, and reports its token usage.
 */
import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import type { BaseLanguageModelInput } from "@langchain/core/language_models/base";
import {
  BaseChatModel,
  type BaseChatModelCallOptions,
  type BaseChatModelParams,
  type BindToolsInput,
} from "@langchain/core/language_models/chat_models";
import { AIMessage, AIMessageChunk, type BaseMessage, type ToolMessage } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";
import type { Runnable } from "@langchain/core/runnables";

export interface ScriptedToolCall {
  readonly name: string;
  readonly args: Record<string, unknown>;
}

/** What the model says next: text, tool calls, or text and then tool calls. */
export interface Turn {
  readonly text?: string;
  readonly toolCalls?: readonly ScriptedToolCall[];
}

/** The script: a pure function of the conversation and the names of the bound tools. */
export type Script = (messages: readonly BaseMessage[], tools: readonly string[]) => Turn;

export interface ScriptedModelParams extends BaseChatModelParams {
  readonly script: Script;
  /** Pause before each token in milliseconds. */
  readonly delayMs?: number;
}

interface ScriptedCallOptions extends BaseChatModelCallOptions {
  toolNames?: string[];
}

export class ScriptedChatModel extends BaseChatModel<ScriptedCallOptions> {
  readonly #script: Script;
  readonly #delayMs: number;

  constructor(params: ScriptedModelParams) {
    super(params);
    this.#script = params.script;
    this.#delayMs = params.delayMs ?? 0;
  }

  override _llmType(): string {
    return "scripted";
  }

  override getLsParams(options: this["ParsedCallOptions"]) {
    return { ...super.getLsParams(options), ls_provider: "scripted", ls_model_name: "scripted-1" };
  }

  override bindTools(
    tools: BindToolsInput[],
    kwargs?: Partial<ScriptedCallOptions>,
  ): Runnable<BaseLanguageModelInput, AIMessageChunk, ScriptedCallOptions> {
    return this.withConfig({ ...kwargs, toolNames: tools.map(toolName) });
  }

  override async _generate(messages: BaseMessage[], options: this["ParsedCallOptions"]): Promise<ChatResult> {
    let whole: AIMessageChunk | undefined;
    for await (const { message } of this._streamResponseChunks(messages, options)) {
      const chunk = message as AIMessageChunk;
      whole = whole === undefined ? chunk : whole.concat(chunk);
    }
    if (whole === undefined) throw new Error("The script gave an empty answer");
    const { id, content, tool_calls, usage_metadata, response_metadata } = whole;
    const message = new AIMessage({ id, content, tool_calls, usage_metadata, response_metadata });
    return { generations: [{ text: message.text, message }] };
  }

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const turn = this.#script(messages, options.toolNames ?? []);
    for (const fields of chunksOf(turn, messages)) {
      await pause(this.#delayMs, options.signal);
      const text = typeof fields.content === "string" ? fields.content : "";
      const generation = new ChatGenerationChunk({ text, message: new AIMessageChunk(fields) });
      yield generation;
      await runManager?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk: generation });
    }
  }
}

type ChunkFields = Exclude<ConstructorParameters<typeof AIMessageChunk>[0], string | unknown[]>;

function* chunksOf(turn: Turn, messages: readonly BaseMessage[]): Generator<ChunkFields> {
  const words = tokens(turn.text ?? "");
  const calls = turn.toolCalls ?? [];
  for (const content of words) yield { content };
  // Indices count blocks of content, and the text is one: LangChain would take a call of the same index for a part of it.
  const first = words.length > 0 ? 1 : 0;
  for (const [number, call] of calls.entries()) {
    yield* toolCallChunks(call, `call_${messages.length}_${number}`, first + number);
  }
  yield {
    content: "",
    response_metadata: { model_name: "scripted-1", finish_reason: calls.length > 0 ? "tool_calls" : "stop" },
    usage_metadata: usage(messages, words.length + calls.length * 10),
  };
}

/** As providers do it: first the name and id, then the arguments as text in pieces. */
function* toolCallChunks(call: ScriptedToolCall, id: string, index: number): Generator<ChunkFields> {
  yield { content: "", tool_call_chunks: [{ type: "tool_call_chunk", index, id, name: call.name, args: "" }] };
  for (const args of pieces(JSON.stringify(call.args), 12)) {
    yield { content: "", tool_call_chunks: [{ type: "tool_call_chunk", index, args }] };
  }
}

const tokens = (text: string): string[] => text.match(/\s*\S+|\s+$/g) ?? [];

const pieces = (text: string, size: number): string[] => text.match(new RegExp(`.{1,${size}}`, "gs")) ?? [];

function usage(messages: readonly BaseMessage[], output_tokens: number) {
  const input_tokens = messages.reduce((sum, message) => sum + tokens(message.text).length, 0);
  return { input_tokens, output_tokens, total_tokens: input_tokens + output_tokens };
}

function toolName(tool: BindToolsInput): string {
  if ("name" in tool && typeof tool.name === "string") return tool.name;
  const named = (tool as { function?: { name?: string } }).function;
  return named?.name ?? "tool";
}

/** Waits, and stops waiting with the signal's reason when the run is cancelled. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  if (ms <= 0) return;
  await new Promise<void>((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Text of the last message a person wrote. */
export function lastHumanText(messages: readonly BaseMessage[]): string {
  return messages.findLast((message) => message.getType() === "human")?.text ?? "";
}

/** Results of the tools called since the last message a person wrote. */
export function toolResults(messages: readonly BaseMessage[]): ToolMessage[] {
  const asked = messages.findLastIndex((message) => message.getType() === "human");
  return messages.slice(asked + 1).filter((message): message is ToolMessage => message.getType() === "tool");
}

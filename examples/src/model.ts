/** The examples' one choice of model: a real provider when its key is set, the scripted one otherwise. */
import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { type Script, ScriptedChatModel } from "./scripted-model.ts";

interface Provider {
  readonly key: string;
  readonly package: string;
  readonly model: string;
}

const PROVIDERS: readonly Provider[] = [
  { key: "ANTHROPIC_API_KEY", package: "@langchain/anthropic", model: "anthropic:claude-sonnet-4-5" },
  { key: "OPENAI_API_KEY", package: "@langchain/openai", model: "openai:gpt-5-mini" },
];

const TOKEN_DELAY_MS = Number(process.env.EXAMPLES_TOKEN_DELAY_MS ?? 15);

export async function chatModel(script: Script): Promise<BaseChatModel> {
  const provider = PROVIDERS.find(({ key }) => process.env[key]);
  if (provider === undefined) return new ScriptedChatModel({ script, delayMs: TOKEN_DELAY_MS });
  return realModel(provider);
}

async function realModel(provider: Provider): Promise<BaseChatModel> {
  // Imported only here: most people run the examples without a key, and this import is slow.
  const { initChatModel } = await import("langchain");
  try {
    return (await initChatModel(process.env.EXAMPLES_MODEL ?? provider.model)) as unknown as BaseChatModel;
  } catch (error) {
    if (!isMissingPackage(error)) throw error;
    throw new Error(
      `${provider.key} is set, but its model package is not installed. ` +
        `Run \`npm install --no-save ${provider.package}\`, or unset ${provider.key} to use the scripted model.`,
      { cause: error },
    );
  }
}

function isMissingPackage(error: unknown): boolean {
  return error instanceof Error && /Unable to import|Cannot find package/.test(error.message);
}

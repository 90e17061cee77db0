/** One case per method of the SDK: what a user does with it, and what comes back. */
import type { Any, Api, Gate } from "../../runs/support.ts";

export interface World {
  /** The client under test. Generations of one class; what they share is tested, not their types. */
  readonly sdk: Any;
  readonly api: Api;
  /** The newest generation has options that older ones do not send, */
  readonly newest: boolean;
  /** and the oldest lacks some that all others have. Its version is 2.0.0: released once by mistake, and still in use. */
  readonly oldest: boolean;
  /** Metadata that nothing else on the server has. */
  readonly mine: Readonly<Record<string, string>>;
  gate(name: string): Gate;
}

export type Cases = Readonly<Record<string, (world: World) => Promise<void>>>;

export const input = { value: 1 };
export const final = { value: 4, steps: ["first", "second"] };
export const NOBODY = "01a20228-0000-7000-8000-000000000000";

export async function all(stream: AsyncIterable<Any>): Promise<Any[]> {
  const items: Any[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

export const pick = (items: readonly Any[], key: string): Any[] => items.map((item) => item[key]);

/** A thread that waits for an answer, and one that has run to its end. */
export async function asking({ sdk, mine }: World): Promise<string> {
  const { thread_id } = await sdk.threads.create({ metadata: mine });
  await sdk.runs.wait(thread_id, "hitl", { input: { question: "Sure?" } });
  return thread_id;
}

export async function ended({ sdk, mine }: World, graph = "plain"): Promise<string> {
  const { thread_id } = await sdk.threads.create({ metadata: mine });
  await sdk.runs.wait(thread_id, graph, { input });
  return thread_id;
}

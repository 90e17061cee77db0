/**
 * What `useStream` of the React, Svelte, Vue and Angular packages is a shell of: `StreamController` of the SDK, without a page.
 * Each package brings a copy of the SDK of its own: the newest and the oldest are driven here, and in pages those of React and Svelte.
 */
import { existsSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Client } from "@langchain/langgraph-sdk";
import type { StreamController, StreamControllerOptions, StreamStore } from "@langchain/langgraph-sdk/stream";
import { afterEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { type Any, useServer, useTempDir } from "../runs/support.ts";
import { eventually } from "../support/server.ts";

const api = useServer(() => ({ project: fileURLToPath(new URL("./browser", import.meta.url)) }));
const temp = useTempDir();

type Core = Pick<typeof import("@langchain/langgraph-sdk/stream"), "StreamController" | "messagesProjection"> & {
  readonly Client: typeof Client;
};

/** The copy of the SDK that a package has. */
async function coreOf(name: string | null): Promise<Core> {
  const here = createRequire(import.meta.url);
  const there = name === null ? here : createRequire(here.resolve(name));
  const load = (id: string): Promise<Any> => import(pathToFileURL(there.resolve(id)).href);
  const [stream, sdk] = await Promise.all([load("@langchain/langgraph-sdk/stream"), load("@langchain/langgraph-sdk")]);
  return { ...stream, Client: sdk.Client };
}

/** Node 20 has no WebSocket of its own. */
const webSocket: Partial<StreamControllerOptions> = {
  transport: "websocket",
  webSocketFactory: (url) => new WebSocket(url) as unknown as globalThis.WebSocket,
};
const KINDS: readonly [string, string | null, Partial<StreamControllerOptions>][] = [
  ["SDK 1.15 over SSE", null, {}],
  ["SDK 1.15 over WebSocket", null, webSocket],
  ["@langchain/svelte 1.0", "@langchain/svelte", {}],
];

const opened: StreamController[] = [];
afterEach(async () => {
  for (const controller of opened.splice(0)) await controller.dispose();
});

/** Waits until the store holds what is looked for. */
function until<T>(store: StreamStore<T>, found: (now: T) => boolean): Promise<T> {
  return new Promise((resolve) => {
    const look = (): void => {
      const now = store.getSnapshot();
      if (!found(now)) return;
      unsubscribe();
      resolve(now);
    };
    const unsubscribe = store.subscribe(look);
    look();
  });
}

const human = (content: string) => ({ messages: [{ type: "human", content }] });
const textsIn = ({ messages }: { messages: readonly { readonly text: string }[] }) => messages.map(({ text }) => text);
const isSaid =
  (...texts: string[]) =>
  (now: Any): boolean =>
    JSON.stringify(textsIn(now)) === JSON.stringify(texts);
const runs = async ({ rootStore }: StreamController): Promise<string[]> =>
  (await api.get<Any[]>(`/threads/${rootStore.getSnapshot().threadId}/runs`)).map(({ status }) => status);
const ranTo = (page: StreamController, ...statuses: string[]): Promise<unknown> =>
  eventually(async () => (await runs(page)).join() === statuses.join());

let gates = 0;
function newGate() {
  gates += 1;
  const file = join(temp.dir, `gate-${gates}`);
  return { file, config: { configurable: { gate: file } }, open: () => writeFileSync(file, "") };
}

describe.each(KINDS)("the core of %s", async (_, name, transport) => {
  const { StreamController, Client, messagesProjection } = await coreOf(name);

  function open(assistantId = "conversation", more: Partial<StreamControllerOptions> = {}): StreamController {
    const client = new Client<Record<string, unknown>>({ apiUrl: api.url });
    const controller = new StreamController({ assistantId, client, ...transport, ...more });
    opened.push(controller);
    return controller;
  }
  /** Another page on the thread. */
  async function reopen(controller: StreamController, assistantId?: string): Promise<StreamController> {
    const { threadId } = controller.rootStore.getSnapshot();
    const other = open(assistantId, { threadId });
    await other.hydrate();
    return other;
  }
  const threadOf = (controller: StreamController): string => controller.rootStore.getSnapshot().threadId ?? "";

  test("words are shown as they come, and a second turn follows the first", async () => {
    const gate = newGate();
    const page = open();
    const sent = page.submit(human("hello there"), { config: gate.config });
    const { isLoading } = await until(page.rootStore, isSaid("hello there", "You said:"));
    expect(isLoading).toBe(true);
    gate.open();
    await sent;
    const { values } = await until(page.rootStore, (now) => !now.isLoading);
    expect(textsIn(page.rootStore.getSnapshot())).toEqual(["hello there", "You said: hello there"]);
    expect((values as Any).messages).toHaveLength(2);
    await page.submit(human("and again"));
    await until(page.rootStore, isSaid("hello there", "You said: hello there", "and again", "You said: and again"));
    await ranTo(page, "success", "success");
  });

  test("who rejoins sees the run from its beginning, and it stays one run", async () => {
    const gate = newGate();
    const page = open();
    void page.submit(human("wait for me"), { config: gate.config });
    await until(page.rootStore, isSaid("wait for me", "You said:"));
    await page.disconnect();
    const back = await reopen(page);
    const { isLoading } = await until(back.rootStore, isSaid("wait for me", "You said:"));
    expect(isLoading).toBe(true);
    gate.open();
    await until(back.rootStore, (now) => isSaid("wait for me", "You said: wait for me")(now) && !now.isLoading);
    await ranTo(page, "success");
  });

  test("a question is shown to whoever looks; one answers and both go on", async () => {
    const page = open();
    await page.submit(human("Ask me"));
    const { interrupt } = await until(page.rootStore, (now) => now.interrupts.length > 0 && !now.isLoading);
    expect(interrupt?.value).toEqual({ question: "May I?" });
    const other = await reopen(page);
    const { interrupt: asked } = await until(other.rootStore, (now) => now.interrupts.length > 0);
    await other.respond("yes", { interruptId: asked?.id ?? "" });
    const isDone = (now: Any): boolean => isSaid("Ask me", "You answered: yes")(now) && !now.isLoading;
    const [mine, others] = [await until(other.rootStore, isDone), await until(page.rootStore, isDone)];
    expect(mine.interrupts).toEqual([]);
    // Older ones go on showing what somebody else has answered.
    if (name === null) expect(others.interrupts).toEqual([]);
  });

  test("two questions are answered at once", async () => {
    const page = open("hitl2");
    await page.submit({});
    const { interrupts } = await until(page.rootStore, (now) => now.interrupts.length === 2 && !now.isLoading);
    await page.respondAll(Object.fromEntries(interrupts.map(({ id, value }) => [id ?? "", (value as Any).ask])));
    const { values } = await until(page.rootStore, (now) => (now.values as Any).done === "left+right");
    expect(values).toMatchObject({ answers: { left: "left", right: "right" } });
  });

  test("tool cards, as they come and from the past", async () => {
    const page = open("agent");
    await page.submit(human("hi you"));
    const isDone = (now: Any): boolean => now.toolCalls.length === 2 && !now.isLoading;
    const cards = (now: Any) =>
      now.toolCalls.map((call: Any) => [call.name, call.status, String(call.output?.content ?? call.output)]).sort();
    const expected = [
      ["add", "finished", "5"],
      ["shout", "finished", "HI YOU"],
    ];
    expect(cards(await until(page.rootStore, isDone))).toEqual(expected);
    // Older ones show cards only of what they have seen.
    if (name !== null) return;
    const back = await reopen(page, "agent");
    expect(cards(await until(back.rootStore, isDone))).toEqual(expected);
    expect(textsIn(back.rootStore.getSnapshot()).at(-1)).toBe("Results: 5, HI YOU");
  });

  test("an agent that works for another, and what is said in it", async () => {
    const page = open("subagents");
    await page.submit(human("the moon"));
    const found = await until(page.subagentStore, (now) =>
      [...now.values()].some(({ status }) => status === "complete"),
    );
    const [agent] = found.values();
    expect([found.size, agent?.name]).toEqual([1, "researcher"]);
    const { store, release } = page.registry.acquire(messagesProjection(agent?.namespace ?? []));
    await until(store, (messages) => messages.at(-1)?.text === "I found all about the moon");
    release();
    expect(textsIn(page.rootStore.getSnapshot()).at(-1)).toBe("They say: I found all about the moon");
    const back = await reopen(page, "subagents");
    await until(back.subagentStore, (now) => [...now.values()].some(({ status }) => status === "complete"));
  });

  test("stop ends the run; what fails is shown", async () => {
    const gate = newGate();
    const page = open();
    void page.submit(human("talk a lot"), { config: gate.config });
    await until(page.rootStore, isSaid("talk a lot", "You said:"));
    await page.stop();
    expect(page.rootStore.getSnapshot().isLoading).toBe(false);
    await ranTo(page, "interrupted");
    expect(existsSync(gate.file)).toBe(false);
    const other = open();
    await other.submit(human("Fail"));
    const { error } = await until(other.rootStore, (now) => now.error !== undefined && !now.isLoading);
    expect(String(error)).toContain("kaboom");
  });

  test("a message that is sent meanwhile waits for its turn in the page", async () => {
    const gate = newGate();
    const page = open();
    void page.submit(human("one"), { config: gate.config });
    await until(page.rootStore, isSaid("one", "You said:"));
    await page.submit(human("two"), { multitaskStrategy: "enqueue" });
    expect(page.queueStore.getSnapshot()).toHaveLength(1);
    gate.open();
    await until(page.rootStore, isSaid("one", "You said: one", "two", "You said: two"));
    expect(page.queueStore.getSnapshot()).toEqual([]);
  });

  test("a page that turns to another thread shows that one", async () => {
    const [one, two] = [open(), open()];
    await Promise.all([one.submit(human("one")), two.submit(human("two"))]);
    await one.hydrate(threadOf(two));
    await until(one.rootStore, isSaid("two", "You said: two"));
    await one.submit(human("three"));
    for (const { rootStore } of [one, two]) {
      await until(rootStore, isSaid("two", "You said: two", "three", "You said: three"));
    }
  });

  test.skipIf(name !== null)(
    "a queue on the server: shown to others, cancelled, and worked off by itself",
    async () => {
      const gate = newGate();
      const page = open("conversation", { queue: "server" });
      void page.submit(human("one"), { config: gate.config });
      await until(page.rootStore, isSaid("one", "You said:"));
      for (const text of ["two", "three"]) await page.submit(human(text), { multitaskStrategy: "enqueue" });
      const queued = await until(page.queueStore, (now) => now.length === 2 && now.every(({ runId }) => runId));
      expect(await runs(page)).toEqual(["pending", "pending", "running"]);
      const other = open("conversation", { queue: "server", threadId: threadOf(page) });
      await other.hydrate();
      const seen = await until(other.queueStore, (now) => now.length === 2);
      expect(seen.map(({ runId }) => runId).sort()).toEqual(queued.map(({ runId }) => runId).sort());
      expect(await page.cancelQueued(queued[0]?.id ?? "")).toBe(true);
      gate.open();
      for (const { rootStore, queueStore } of [page, other]) {
        await until(rootStore, isSaid("one", "You said: one", "three", "You said: three"));
        await until(queueStore, (now) => now.length === 0);
      }
      await ranTo(page, "success", "interrupted", "success");
    },
  );
});

/** `useStream` in a real browser, on another origin, in every package and generation that has it. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Any, useServer, useTempDir } from "../runs/support.ts";
import { requireOrSkip } from "../support/requirements.ts";
import { eventually } from "../support/server.ts";
import { CHROMIUM, chromiumMissing, type Pages, servePages } from "./browser/browser.ts";

/** v1: packages whose hook speaks to `/threads/{id}/runs/stream`. */
const V1 = {
  "sdk-1": "@langchain/langgraph-sdk/react",
  "sdk-2": "sdk-2.0/react",
  "react-0.3": "react-0.3",
};
/** v2: theirs speaks to `/threads/{id}/commands` and `/threads/{id}/stream/events` only. */
const V2 = {
  "react-1": "@langchain/react",
  "svelte-1": "@langchain/svelte",
};

const api = useServer(() => ({ project: fileURLToPath(new URL("./browser", import.meta.url)) }));
const temp = useTempDir();
let pages: Pages;
let browser: Browser;
/** Pages share a cache; what they keep of a session is each tab's own. */
let profile: BrowserContext;
let gates = 0;

beforeAll(async () => {
  if (chromiumMissing() !== undefined) return;
  [pages, browser] = await Promise.all([
    servePages({ ...V1, ...V2 }),
    // Root, as in most containers, has no sandbox; and nobody looks, so nothing is painted by a GPU made of software.
    chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] }),
  ]);
  profile = await browser.newContext();
});
beforeEach((context) => requireOrSkip("Chromium", chromiumMissing, context));
afterAll(async () => {
  await browser?.close();
  await pages?.[Symbol.asyncDispose]();
});

/** A new tab is a new process, which costs more than all a test does in it: a test gets those that others have left. */
const idle: Page[] = [];
const opened: Chat[] = [];
afterEach(async () => {
  for (const { page } of opened.splice(0)) {
    if (page.isClosed()) continue;
    page.removeAllListeners("pageerror");
    await page.goto("about:blank");
    idle.push(page);
  }
});

/** A page with the chat, as its reader sees it. */
class Chat {
  readonly page: Page;
  /** What a page may not have: exceptions that nobody caught. */
  readonly failures: Error[] = [];

  constructor(page: Page) {
    this.page = page;
    page.on("pageerror", (error) => this.failures.push(error));
    page.setDefaultTimeout(10_000);
  }

  static async open(hook: string, query: Readonly<Record<string, string>> = {}): Promise<Chat> {
    const chat = new Chat(idle.pop() ?? (await profile.newPage()));
    opened.push(chat);
    await chat.page.goto(`${pages.url}/${hook}?${new URLSearchParams({ api: api.url, ...query })}`);
    return chat;
  }

  async write(text: string): Promise<void> {
    await this.page.getByRole("textbox").fill(text);
  }

  async press(name: string, index = 0): Promise<void> {
    await this.page.getByRole("button", { name, exact: true }).nth(index).click();
  }

  async say(text: string): Promise<void> {
    await this.write(text);
    await this.press("Send");
  }

  /** Waits until the page shows these messages and nothing else. */
  async shows(...messages: string[]): Promise<void> {
    await expect.poll(() => this.page.locator("li p").allTextContents(), { timeout: 10_000 }).toEqual(messages);
    expect(this.failures).toEqual([]);
  }

  async is(state: "working" | "ready"): Promise<void> {
    await this.page.locator("output", { hasText: state }).waitFor();
  }

  /** Waits until the page shows these cards of tools. */
  async showsCards(...cards: string[]): Promise<void> {
    const shown = async () => (await this.page.locator("pre").allTextContents()).sort();
    await expect.poll(shown, { timeout: 10_000 }).toEqual(cards.sort());
  }

  get thread(): string {
    return new URL(this.page.url()).searchParams.get("thread") ?? "";
  }

  runs(): Promise<Any[]> {
    return api.get(`/threads/${this.thread}/runs`);
  }
}

function newGate(): { readonly file: string; open(): void } {
  gates += 1;
  const file = join(temp.dir, `gate-${gates}`);
  return { file, open: () => writeFileSync(file, "") };
}

const statuses = async (chat: Chat): Promise<string[]> => (await chat.runs()).map(({ status }) => status);
const ranTo = (chat: Chat, ...expected: string[]): Promise<unknown> =>
  eventually(async () => (await statuses(chat)).join() === expected.join());

/** v2 has models say blocks. */
const textOf = ({ content }: Any): string =>
  typeof content === "string" ? content : content.map(({ text }: Any) => text).join("");

/** The word of each generation for a tool that has answered. */
const doneIn = (hook: string): string => (hook in V1 ? "completed" : "finished");
const cardsOf = (done: string, text: string): string[] => [
  `add {"a":2,"b":3} ${done}: "5"`,
  `shout ${JSON.stringify({ text })} ${done}: ${JSON.stringify(text.toUpperCase())}`,
];

describe.each(Object.keys({ ...V1, ...V2 }))("useStream of %s", (hook) => {
  test("words are shown as they come, and the thread has what was shown", async () => {
    const gate = newGate();
    const chat = await Chat.open(hook, { gate: gate.file });
    await chat.say("hello there");
    await chat.shows("hello there", "You said:");
    await chat.is("working");
    gate.open();
    await chat.shows("hello there", "You said: hello there");
    await chat.is("ready");
    const { values, status } = await api.get(`/threads/${chat.thread}`);
    expect(values.messages.map(textOf)).toEqual(["hello there", "You said: hello there"]);
    expect(status).toBe("idle");
    await chat.say("and again");
    await chat.shows("hello there", "You said: hello there", "and again", "You said: and again");
  });

  test("a question is shown and its answer goes on", async () => {
    const chat = await Chat.open(hook);
    await chat.say("Ask me");
    await chat.page.getByText("May I?").waitFor();
    await chat.is("ready");
    // Whoever comes later is asked too.
    await chat.page.reload();
    await chat.page.getByText("May I?").waitFor();
    await chat.press("Yes");
    await chat.shows("Ask me", "You answered: yes");
    await chat.page.getByText("May I?").waitFor({ state: "detached" });
  });

  test("a page that is loaded again joins the run that goes on", async () => {
    const gate = newGate();
    const chat = await Chat.open(hook, { gate: gate.file });
    await chat.say("wait for me");
    await chat.shows("wait for me", "You said:");
    await chat.page.reload();
    await chat.shows("wait for me", "You said:");
    await chat.is("working");
    gate.open();
    await chat.shows("wait for me", "You said: wait for me");
    await chat.is("ready");
    expect(await statuses(chat)).toEqual(["success"]);
  });

  test("stop ends the run", async () => {
    const gate = newGate();
    const chat = await Chat.open(hook, { gate: gate.file });
    await chat.say("talk a lot");
    await chat.shows("talk a lot", "You said:");
    await chat.press("Stop");
    await chat.is("ready");
    await ranTo(chat, "interrupted");
    expect(existsSync(gate.file)).toBe(false);
  });

  test("a message that is sent meanwhile is answered next", async () => {
    const gate = newGate();
    const chat = await Chat.open(hook, { gate: gate.file });
    await chat.say("one");
    await chat.shows("one", "You said:");
    await chat.say("two");
    gate.open();
    await chat.shows("one", "You said: one", "two", "You said: two");
    await chat.is("ready");
    await ranTo(chat, "success", "success");
  });

  test("what fails in the graph is shown", async () => {
    const chat = await Chat.open(hook);
    await chat.say("Fail");
    await chat.page.getByRole("alert").filter({ hasText: "kaboom" }).waitFor();
    await chat.is("ready");
  });
});

describe.each(["sdk-1", ...Object.keys(V2)])("work in useStream of %s", (hook) => {
  test("tools are shown at work", async () => {
    const chat = await Chat.open(hook, { assistant: "agent" });
    await chat.say("hi you");
    await chat.showsCards(...cardsOf(doneIn(hook), "hi you"));
    await chat.page.getByText("Results: 5, HI YOU").waitFor();
    await chat.is("ready");
    // The copies of the SDK that those of v2 bring show cards only of what they have seen.
    if (hook in V2) return;
    await chat.page.reload();
    await chat.showsCards(...cardsOf(doneIn(hook), "hi you"));
  });

  test("an agent that works for another is shown", async () => {
    const chat = await Chat.open(hook, { assistant: "subagents" });
    await chat.say("the moon");
    await chat.page.getByText("They say: I found all about the moon").waitFor();
    const shown = () => chat.page.locator("strong").allTextContents();
    await expect.poll(shown, { timeout: 10_000 }).toEqual(["researcher complete"]);
    // A page that is loaded again has it from what is stored.
    await chat.page.reload();
    await expect.poll(shown, { timeout: 10_000 }).toEqual(["researcher complete"]);
  });
});

describe.each(Object.keys(V1))("useStream v1 of %s", (hook) => {
  test("an edited message and an answer made again are branches; both can be read", async () => {
    const chat = await Chat.open(hook);
    await chat.say("first");
    await chat.shows("first", "You said: first");
    await chat.say("second");
    await chat.shows("first", "You said: first", "second", "You said: second");
    // Which checkpoint a message came from it learns from the history, which it asks for when the run has ended.
    await chat.is("ready");
    await chat.write("better");
    await chat.press("Edit", 1);
    await chat.shows("first", "You said: first", "better", "You said: better");
    await chat.page.getByText("2 of 2").waitFor();
    await chat.press("Previous");
    await chat.page.getByText("1 of 2").waitFor();
    await chat.shows("first", "You said: first", "second", "You said: second");
    await chat.press("Again", 1);
    await chat.page.getByText("2 of 2").waitFor();
    await chat.shows("first", "You said: first", "second", "You said: second");
    expect(await statuses(chat)).toEqual(Array(4).fill("success"));
  });

  test("stop ends the run of a page that would not come back", async () => {
    const chat = await Chat.open(hook, { gate: newGate().file, rejoin: "no" });
    await chat.say("talk a lot");
    await chat.shows("talk a lot", "You said:");
    await chat.press("Stop");
    await chat.is("ready");
    await ranTo(chat, "interrupted");
  });

  test("a page that is closed takes its run with it, unless it means to come back", async () => {
    const [leaving, returning] = [await Chat.open(hook, { gate: newGate().file, rejoin: "no" }), newGate()];
    const staying = await Chat.open(hook, { gate: returning.file });
    for (const chat of [leaving, staying]) {
      await chat.say("bye");
      await chat.shows("bye", "You said:");
      await chat.page.close();
    }
    await ranTo(leaving, "interrupted");
    expect(await statuses(staying)).toEqual(["running"]);
    returning.open();
    await ranTo(staying, "success");
  });
});

describe("useStream v2 of @langchain/react", () => {
  test("shows a thread that has ended", async () => {
    const thread = await api.thread();
    const input = { messages: [{ type: "human", content: "hello" }] };
    await api.wait({ assistant_id: "conversation", input }, `/threads/${thread}/runs/wait`);
    const chat = await Chat.open("react-1", { thread });
    await chat.shows("hello", "You said: hello");
    await chat.is("ready");
  });

  test("over a WebSocket: words, reload in the middle, tools, a question", async () => {
    const gate = newGate();
    const chat = await Chat.open("react-1", { gate: gate.file, transport: "websocket" });
    const sockets: string[] = [];
    chat.page.on("websocket", (socket) => sockets.push(socket.url()));
    await chat.say("wait for me");
    await chat.shows("wait for me", "You said:");
    await chat.page.reload();
    await chat.shows("wait for me", "You said:");
    await chat.is("working");
    gate.open();
    await chat.shows("wait for me", "You said: wait for me");
    await chat.is("ready");
    await chat.say("Ask me");
    await chat.page.getByText("May I?").waitFor();
    await chat.press("Yes");
    await chat.shows("wait for me", "You said: wait for me", "Ask me", "You answered: yes");
    expect(sockets.length).toBeGreaterThan(0);
    expect(sockets.every((url) => url.includes(`/threads/${chat.thread}/stream/events`))).toBe(true);
    const tools = await Chat.open("react-1", { assistant: "agent", transport: "websocket" });
    await tools.say("hi you");
    await tools.showsCards(...cardsOf("finished", "hi you"));
  });
});

describe("v1 and v2 on one thread", () => {
  test("each shows what the other says, and answers what the other was asked", async () => {
    const v2 = await Chat.open("react-1");
    await v2.say("one");
    await v2.shows("one", "You said: one");
    const gate = newGate();
    const v1 = await Chat.open("sdk-1", { thread: v2.thread, gate: gate.file });
    await v1.shows("one", "You said: one");
    await v1.say("two");
    // As it comes, also to who did not begin it.
    for (const chat of [v1, v2]) await chat.shows("one", "You said: one", "two", "You said:");
    gate.open();
    for (const chat of [v1, v2]) await chat.shows("one", "You said: one", "two", "You said: two");
    await v1.say("Ask me");
    for (const { page } of [v1, v2]) await page.getByText("May I?").waitFor();
    await v2.press("Yes");
    const all = ["one", "You said: one", "two", "You said: two", "Ask me", "You answered: yes"];
    await v2.shows(...all);
    // It follows no run that it has not begun; what has ended it reads.
    await v1.page.reload();
    await v1.shows(...all);
    await ranTo(v2, "success", "interrupted", "success", "success");
  });

  test("both show the same cards", async () => {
    const v2 = await Chat.open("react-1", { assistant: "agent" });
    await v2.say("hi you");
    await v2.showsCards(...cardsOf("finished", "hi you"));
    const v1 = await Chat.open("sdk-1", { assistant: "agent", thread: v2.thread });
    await v1.showsCards(...cardsOf("completed", "hi you"));
    await v1.say("and me");
    await v1.showsCards(...cardsOf("completed", "hi you"), ...cardsOf("completed", "and me"));
    await v2.showsCards(...cardsOf("finished", "hi you"), ...cardsOf("finished", "and me"));
  });
});

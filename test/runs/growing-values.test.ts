/**
 * What a thread with a long history shows, everywhere it is shown: it is stored and told in parts, and nobody may notice.
 * The state of the newest checkpoint, which is stored another way, says what it must be.
 */
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { execute, query } from "../support/database.ts";
import { eventually, project, type TempDir } from "../support/server.ts";
import { type Any, type Api, json, numbers, useServer } from "./support.ts";

/** Does with its messages what the last one says; `notes` is a list beside them, and not part of the output. */
const GRAPH = `
  import { existsSync, writeFileSync } from "node:fs";
  import { setTimeout as delay } from "node:timers/promises";
  import { AIMessage, RemoveMessage } from "@langchain/core/messages";
  import { Annotation, END, MessagesAnnotation, START, StateGraph, interrupt } from "@langchain/langgraph";
  const State = Annotation.Root({
    ...MessagesAnnotation.spec,
    notes: Annotation({ reducer: (a, b) => a.concat(b), default: () => [] }),
    last: Annotation(),
  });
  const long = (text) => text + " ${"é".repeat(1800)}";
  async function act({ messages }) {
    const [word, place] = messages.at(-1).text.split(" ");
    const at = messages.at(Number(place ?? -2));
    const last = word;
    switch (word) {
      case "edit":
        at.content = long("edited in place");
        return { messages: [at], last };
      case "replace":
        return { messages: [new AIMessage({ id: at.id, content: long("another") })], last };
      case "remove":
        return { messages: [new RemoveMessage({ id: at.id })], last };
      case "clear":
        return { messages: [new RemoveMessage({ id: "__remove_all__" })], last };
      case "wait":
        writeFileSync(place + ".began", "");
        while (!existsSync(place)) await delay(10);
        return { messages: [new AIMessage(long("waited"))], last };
      case "fail":
        throw new Error("failed as asked");
      case "ask":
        return { messages: [new AIMessage(interrupt("well?"))], last };
      case "note":
        return { notes: [long("a note")], last };
      default:
        return { messages: [new AIMessage({ content: long("answer to " + messages.length) })], last };
    }
  }
  const build = (output) => new StateGraph({ stateSchema: State, output })
    .addNode("act", act).addEdge(START, "act").addEdge("act", END).compile();
  export const chat = build(State);
  export const narrow = build(MessagesAnnotation);`;

let own: TempDir;
beforeAll(async () => {
  own = await project(
    { "growing.mjs": GRAPH },
    {
      graphs: { chat: "./growing.mjs:chat", narrow: "./growing.mjs:narrow" },
      webhooks: { url: { disable_loopback: false } },
    },
  );
});
afterAll(() => own[Symbol.asyncDispose]());

const said = (text: string, more: object = {}): Any => ({
  assistant_id: "chat",
  input: { messages: [{ role: "user", content: text }] },
  ...more,
});

class Thread {
  readonly api: Api;
  readonly thread_id: string;
  readonly path: string;

  constructor(api: Api, thread_id: string) {
    this.api = api;
    this.thread_id = thread_id;
    this.path = `/threads/${thread_id}`;
  }

  static async grown(api: Api, turns = 15, more: object = {}): Promise<Thread> {
    const thread = new Thread(api, await api.thread());
    for (const turn of numbers(turns)) await thread.say(`turn ${turn}`, more);
    return thread;
  }

  say(text: string, more: object = {}): Promise<Any> {
    return this.api.wait(said(text, more), `${this.path}/runs/wait`);
  }

  async state(): Promise<Any> {
    return (await this.api.get(`${this.path}/state`)).values;
  }

  /** What the thread shows, which is its state. */
  async shown(): Promise<Any> {
    const [thread, state] = [await this.api.get(this.path), await this.state()];
    expect(thread.values).toEqual(state);
    return thread.values;
  }
}

/** Which members of which threads are in parts, and in how many. */
async function parts(data: string): Promise<Record<string, Record<string, number>>> {
  const rows = await query<{ thread_id: string; member: string; parts: number }>(
    data,
    "select thread_id, member, count(*) as parts from thread_lists left join threads using (seq) group by thread_id, member",
  );
  const all: Record<string, Record<string, number>> = {};
  for (const { thread_id, member, parts } of rows) all[thread_id] = { ...all[thread_id], [member]: Number(parts) };
  return all;
}

describe.each([
  ["plain", {}],
  ["encrypted", { LANGGRAPH_AES_KEY: "0123456789abcdef0123456789abcdef" }],
])("%s", (kind, env: Readonly<Record<string, string>>) => {
  const api = useServer(() => ({ project: own, env }));

  test("each turn adds a part, and every way to look at the thread shows all of it", async () => {
    const thread = await Thread.grown(api, 30);
    const values = await thread.shown();
    expect(values.messages).toHaveLength(60);
    const filter = { metadata: { graph_id: "chat" } };
    expect((await api.post("/threads/search", filter))[0].values).toEqual(values);
    const extract = { end: "values.messages[-1].content", start: "values.messages[0].content", word: "values.last" };
    const [found] = await api.post("/threads/search", { ...filter, select: ["thread_id"], extract });
    expect(found.extracted).toEqual({ end: values.messages[59].content, start: "turn 0", word: "turn" });
    if (kind === "plain") {
      const search = (wanted: object) => api.post("/threads/search", { values: wanted, select: ["thread_id"] });
      expect(await search({ messages: values.messages })).toEqual([{ thread_id: thread.thread_id }]);
      expect(await search({ messages: values.messages.slice(1) })).toEqual([]);
      expect(await search({ last: "turn" })).toEqual([{ thread_id: thread.thread_id }]);
    }
    const copy = new Thread(api, (await api.post(`${thread.path}/copy`)).thread_id);
    expect(await copy.shown()).toEqual(values);
    await copy.say("on the copy");
    expect((await copy.shown()).messages).toHaveLength(62);
    expect(await thread.shown()).toEqual(values);
    await thread.say("note");
    expect((await thread.shown()).notes).toHaveLength(1);
    const ofThread = (await parts(api.server.data))[thread.thread_id];
    expect(ofThread?.messages).toBeGreaterThan(15);
    expect(ofThread?.notes).toBeUndefined();
  });

  test("edits, removals, state updates, forks, rollbacks and failures show what they leave", async () => {
    const thread = await Thread.grown(api);
    const { path } = thread;
    for (const text of ["edit 3", "more", "replace 4", "more", "remove 5", "more", "note", "edit -2", "more"]) {
      expect(await thread.say(text)).toEqual(await thread.shown());
    }
    const before = await thread.shown();
    const failed = await thread.say("fail");
    expect(failed.__error__.message).toBe("failed as asked");
    expect((await thread.shown()).messages).toHaveLength(before.messages.length + 1);
    await thread.say("more");

    await api.post(`${path}/state`, { values: { messages: [{ role: "ai", content: "by hand" }] }, as_node: "act" });
    expect((await thread.shown()).messages.at(-1).content).toBe("by hand");
    await thread.say("after the update");
    await thread.shown();

    const history = await api.get(`${path}/history?limit=1000`);
    const old = history.find((state: Any) => state.values.messages.length === 12 && state.next.length === 0);
    const fork = await thread.say("fork", { checkpoint_id: old.checkpoint_id });
    expect(fork.messages).toHaveLength(14);
    expect(await thread.shown()).toEqual(fork);
    await thread.say("behind the fork");
    expect((await thread.shown()).messages).toHaveLength(16);

    const [newest] = await api.get(`${path}/runs?limit=1`);
    expect((await api.http.delete(`${path}/runs/${newest.run_id}`)).status).toBe(200);
    expect((await thread.shown()).messages).toHaveLength(14);
    for (const text of ["after the deletion", "and on", "clear", "anew"]) await thread.say(text);
    expect((await thread.shown()).messages.length).toBeLessThan(5);
  });

  test("the run before is deleted while one that stands on it has written nothing yet", async () => {
    const thread = await Thread.grown(api, 12);
    const gate = join(own.dir, `gate-${kind}`);
    const next = thread.say(`wait ${gate}`, { durability: "exit" });
    await eventually(async () => existsSync(`${gate}.began`));
    const [, before] = await api.get(`${thread.path}/runs?limit=2`);
    expect((await api.http.delete(`${thread.path}/runs/${before.run_id}`)).status).toBe(200);
    writeFileSync(gate, "");
    expect((await next).messages).toHaveLength(26);
    expect(await next).toEqual(await thread.shown());
    await thread.say("more");
    expect((await thread.shown()).messages).toHaveLength(28);
  });

  test("wait, join and streams end with the same output, also of a graph that shows less than it keeps", async () => {
    for (const assistant_id of ["chat", "narrow"]) {
      const thread = await Thread.grown(api, 12, { assistant_id });
      const expected = async () => {
        const values = await thread.shown();
        return assistant_id === "chat" ? values : { messages: values.messages };
      };
      expect(await thread.say("waited", { assistant_id })).toEqual(await expected());
      const { run_id } = await api.post(`${thread.path}/runs`, said("joined", { assistant_id }));
      expect(await api.get(`${thread.path}/runs/${run_id}/join`)).toEqual(await expected());
      const frames = await api.stream(
        said("streamed", { assistant_id, stream_mode: "values" }),
        `${thread.path}/runs/stream`,
      );
      expect(json(frames.at(-1))).toMatchObject(await expected());
      // Others have come and gone since, are in front, or are under way: a run's output stays its own.
      const lengths: number[] = [];
      const first = (await thread.shown()).messages.length;
      const queued = [];
      for (const turn of numbers(5))
        queued.push(await api.post(`${thread.path}/runs`, said(`queued ${turn}`, { assistant_id })));
      const outputs = await Promise.all(queued.map(({ run_id }) => api.get(`${thread.path}/runs/${run_id}/join`)));
      for (const { messages } of outputs) lengths.push(messages.length);
      expect(lengths).toEqual(numbers(5).map((turn) => first + 2 * (turn + 1)));
      expect((await api.get(`${thread.path}/runs/${run_id}/join`)).messages).toHaveLength(first - 2);
      expect(outputs.at(-1)).toEqual(await expected());
      const asked = await thread.say("ask", { assistant_id });
      expect(asked.__interrupt__).toHaveLength(1);
      expect(asked.messages).toEqual((await thread.shown()).messages);
      const answered = await api.wait({ assistant_id, command: { resume: "yes" } }, `${thread.path}/runs/wait`);
      expect(answered.messages.at(-1).content).toBe("yes");
      expect(answered).toEqual(await expected());
    }
  });

  test("a webhook tells all of it, between turns that tell what is new", async () => {
    const bodies: Any[] = [];
    const receiver = createServer(async (request, response) => {
      let text = "";
      for await (const chunk of request.setEncoding("utf8")) text += chunk;
      bodies.push(JSON.parse(text));
      response.end();
    });
    receiver.listen(0, "127.0.0.1");
    await once(receiver, "listening");
    const webhook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;
    const thread = await Thread.grown(api);
    for (const turn of numbers(2)) {
      await thread.say("told", { webhook });
      await eventually(() => bodies.length > turn);
      expect(bodies[turn].values).toEqual(await thread.shown());
      await thread.say("between");
      await thread.shown();
    }
    await thread.say("fail", { webhook });
    await eventually(() => bodies.length > 2);
    expect(bodies[2]).toMatchObject({ status: "error", values: await thread.shown() });
    receiver.close();
    receiver.closeAllConnections();
  });

  test("restarts and kills between turns lose nothing and double nothing", async () => {
    const thread = await Thread.grown(api, 12);
    for (const [round, signal] of (["SIGKILL", "SIGTERM"] as const).entries()) {
      const before = await thread.shown();
      await api.server.restart(signal);
      expect(await thread.shown()).toEqual(before);
      await thread.say("after it");
      await thread.say("and once more");
      expect((await thread.shown()).messages).toHaveLength(before.messages.length + 4);
      expect(await thread.say(`round ${round}`)).toEqual(await thread.shown());
    }
    expect(
      (await api.post("/threads/prune", { thread_ids: [thread.thread_id], strategy: "keep_latest" })).pruned_count,
    ).toBe(1);
    await thread.say("after the cut");
    const { messages } = await thread.shown();
    expect(messages).toHaveLength(24 + 2 * 6 + 2);
    expect((await api.http.delete(thread.path)).status).toBe(200);
    expect((await parts(api.server.data))[thread.thread_id]).toBeUndefined();
    // Nor are there parts of nobody.
    expect(Object.keys(await parts(api.server.data))).not.toContain("null");
  });
});

describe("on two threads", () => {
  const api = useServer(() => ({ project: own, args: ["--threads", "2"] }));

  test("whatever is done to a thread in whatever order, it shows its state", async () => {
    const words = [
      "say",
      "say",
      "say",
      "edit 0",
      "edit -2",
      "replace 2",
      "remove 1",
      "note",
      "fail",
      "copy",
      "update",
      "fork",
      "delete",
    ];
    let seed = 20_240_817;
    const next = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((seed / 2_147_483_648) * below);
    };
    const act = async (thread: Thread, word: string): Promise<Thread> => {
      const { path } = thread;
      switch (word) {
        case "copy":
          return new Thread(api, (await api.post(`${path}/copy`)).thread_id);
        case "update":
          await api.post(`${path}/state`, { values: { notes: ["by hand"] }, as_node: "act" });
          return thread;
        case "fork": {
          const states = (await api.get(`${path}/history?limit=20`)).filter((state: Any) => state.next.length === 0);
          await thread.say("say", { checkpoint_id: states[next(states.length)].checkpoint_id });
          return thread;
        }
        case "delete": {
          const [run] = await api.get(`${path}/runs?limit=1`);
          if (run !== undefined) await api.http.delete(`${path}/runs/${run.run_id}`);
          return thread;
        }
        default:
          await thread.say(word);
          return thread;
      }
    };
    await Promise.all(
      numbers(3).map(async () => {
        let thread = await Thread.grown(api, 14);
        const done: string[] = [];
        for (const _ of numbers(25)) {
          const word = words[next(words.length)] ?? "say";
          done.push(word);
          thread = await act(thread, word);
          const [shown, state] = [(await api.get(thread.path)).values, await thread.state()];
          expect(shown ?? {}, done.join()).toEqual(state);
        }
      }),
    );
    expect(api.server.output).not.toContain("does not follow");
  });

  test("where what is new does not follow what is stored, the thread shows its state all the same", async () => {
    const { server } = api;
    const thread = await Thread.grown(api);
    await execute(
      server.data,
      `delete from thread_lists; update thread_values set lists = '{"messages":["another",3]}'`,
    );
    const { messages } = await thread.say("more");
    expect(messages).toHaveLength(32);
    expect(messages.at(0).content).toBe("turn 0");
    await eventually(async () => (await thread.api.get(thread.path)).values?.messages.length === 32);
    await thread.shown();
    expect(server.output).toContain("does not follow");
    for (const length of [34, 36]) expect((await thread.say("and on")).messages).toHaveLength(length);
    expect((await thread.shown()).messages).toHaveLength(36);
    expect(server.output.split("does not follow")).toHaveLength(2);
  });
});

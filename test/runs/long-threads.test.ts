/** Threads with many turns: stored as they grow, the same however they are read, and whoever has them at hand. */
import { beforeAll, describe, expect, test } from "vitest";
import { SharedRestarts } from "../faults/support.ts";
import { type Any, type Api, database, numbers, useServer } from "./support.ts";

const api = useServer();
/** After which executors have nothing at hand. */
let shared: SharedRestarts;
beforeAll(() => {
  shared = new SharedRestarts(() => api.server.restart("SIGKILL"));
});

const say = (api: Api, thread_id: string, text: string, more: object = {}): Promise<Any> =>
  api.wait(
    { assistant_id: "editing", input: { messages: [{ role: "user", content: text }] }, ...more },
    `/threads/${thread_id}/runs/wait`,
  );
const messages = async (api: Api, thread_id: string): Promise<Any[]> =>
  (await api.get(`/threads/${thread_id}/state`)).values.messages;
const texts = (list: Any[]): string[] => list.map(({ content }) => content);

describe.concurrent("a thread", () => {
  test("the file grows with what is new, not with what is there", async () => {
    using restarts = shared.enter();
    const stored: number[] = [];
    const thread_id = await api.thread();
    for (const round of numbers(3)) {
      for (const turn of numbers(20)) await say(api, thread_id, `turn ${round * 20 + turn}`);
      const db = database(api.server.data);
      const [row] = await db.all(
        "select sum(length(value)) as bytes from checkpoint_blobs where channel = 'messages' and thread_id = ?",
        thread_id,
      );
      stored.push(Number(row?.bytes));
      db.close();
    }
    const [first = 0, second = 0, third = 0] = stored;
    // Lists stored whole would have 3, then 5 times the bytes of the first round in each later one.
    expect(second - first).toBeLessThan(first * 1.5);
    expect(third - second).toBeLessThan((second - first) * 1.2);
    await restarts.next();
    const list = await messages(api, thread_id);
    expect(list).toHaveLength(120);
    expect(texts(list).filter((_, i) => i % 2 === 0)).toEqual(numbers(60).map((turn) => `turn ${turn}`));
    expect(texts((await say(api, thread_id, "once more")).messages)).toHaveLength(122);
    const history = await api.get(`/threads/${thread_id}/history?limit=9`);
    expect(history.map((state: Any) => state.values.messages?.length)).toEqual([
      122, 121, 120, 120, 119, 118, 118, 117, 116,
    ]);
  });

  test("a message that a node edits in place and returns is stored as edited", async () => {
    using restarts = shared.enter();
    const thread_id = await api.thread();
    for (const turn of numbers(12)) await say(api, thread_id, `turn ${turn}`);
    const { messages: shown } = await say(api, thread_id, "edit");
    expect(shown.at(-2).tool_calls[0].args).toMatchObject({ edits: 1 });
    expect((await messages(api, thread_id)).at(-2).tool_calls[0].args).toMatchObject({ edits: 1 });
    await restarts.next();
    const list = await messages(api, thread_id);
    expect(list.at(-2).tool_calls[0].args).toEqual({ said: "turn 11", edits: 1 });
    expect(list.at(-4).tool_calls[0].args).toEqual({ said: "turn 10" });
  });

  test("removed messages are gone, and what follows is added to what is left", async () => {
    using restarts = shared.enter();
    const thread_id = await api.thread();
    for (const turn of numbers(6)) await say(api, thread_id, `turn ${turn}`);
    await say(api, thread_id, "remove");
    await say(api, thread_id, "after");
    await restarts.next();
    const list = texts(await messages(api, thread_id));
    expect(list.slice(-4)).toEqual(["turn 5", "remove", "after", "Message 13"]);
  });

  test("forks go on beside what they left, and neither changes the other's past", async () => {
    using restarts = shared.enter();
    const thread_id = await api.thread();
    for (const turn of numbers(8)) await say(api, thread_id, `turn ${turn}`);
    const tip = (await api.get(`/threads/${thread_id}/state`)).checkpoint;
    const history = await api.get(`/threads/${thread_id}/history?limit=100`);
    const fork = history.find(
      (state: Any) => state.values.messages?.length === 10 && state.next.length === 0,
    ).checkpoint;
    const { checkpoint_id } = fork;
    for (const text of ["left", "right"]) {
      const { messages: shown } = await say(api, thread_id, text, { checkpoint_id });
      expect(texts(shown)).toEqual([...texts(shown).slice(0, 10), text, "Message 11"]);
    }
    await say(api, thread_id, "on the right");
    await restarts.next();
    expect(texts(await messages(api, thread_id)).slice(9)).toEqual([
      "Message 9",
      "right",
      "Message 11",
      "on the right",
      "Message 13",
    ]);
    const at = async ({ checkpoint_id }: Any) => (await api.get(`/threads/${thread_id}/state/${checkpoint_id}`)).values;
    expect(texts((await at(tip)).messages).at(-2)).toBe("turn 7");
    expect((await at(fork)).messages).toHaveLength(10);
  });
});

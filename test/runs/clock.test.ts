/** The clock of the machine is set back, and forward again: a thread goes on where it was, and shows what was done last. */
import { afterAll, expect, test } from "vitest";
import { clockAhead, startServer, type TempDir, tempDir } from "../support/server.ts";
import { type Any, Api } from "./support.ts";

const HOUR_MS = 3_600_000;
const data: TempDir = await tempDir("skein-data-");
afterAll(() => data[Symbol.asyncDispose]());

/** Serves the same data by another clock. */
async function at<T>(ahead: number, use: (api: Api) => Promise<T>): Promise<T> {
  await using server = await startServer({ data: data.dir, env: clockAhead(ahead) });
  const left = await use(new Api(server));
  await server.stop();
  return left;
}

const say = (api: Api, thread_id: string, content: string, rest: object = {}): Promise<Any> => {
  const input = { messages: [{ role: "user", content }] };
  return api.wait({ assistant_id: "chat", input, ...rest }, `/threads/${thread_id}/runs/wait`);
};
const said = ({ values }: Any): string[] => values.messages.map(({ content }: Any) => content);
const idsOf = (states: Any[]): string[] => states.map(({ checkpoint }) => checkpoint.checkpoint_id);

test("what is written later is newer", async () => {
  const before = await at(HOUR_MS, async (api) => {
    const [chat, asked, forked] = [await api.thread(), await api.thread(), await api.thread()];
    await say(api, chat, "one");
    await say(api, forked, "one");
    await api.wait({ assistant_id: "hitl", input: {} }, `/threads/${asked}/runs/wait`);
    return { chat, asked, forked, history: (await api.get(`/threads/${chat}/history`)) as Any[] };
  });
  const { chat, asked, forked, history } = before;
  const one = ["one", "You said: one"];
  const two = [...one, "two", "You said: two"];

  const behind = await at(0, async (api) => {
    // The thread's newest state is the input of its next run.
    await say(api, chat, "two");
    expect(said(await api.get(`/threads/${chat}`))).toEqual(two);
    expect(said(await api.get(`/threads/${chat}/state`))).toEqual(two);
    const all: Any[] = await api.get(`/threads/${chat}/history?limit=100`);
    expect(idsOf(all).slice(-history.length)).toEqual(idsOf(history));
    expect(all.map(({ parent_checkpoint_id }) => parent_checkpoint_id)).toEqual([...idsOf(all).slice(1), null]);
    for (const [index, before] of idsOf(all).entries()) {
      const rest = await api.post(`/threads/${chat}/history`, { before, limit: 3 });
      expect(idsOf(rest)).toEqual(idsOf(all).slice(index + 1, index + 4));
    }

    const answered = await api.wait(
      { assistant_id: "hitl", command: { resume: "yes" } },
      `/threads/${asked}/runs/wait`,
    );
    expect(answered).toMatchObject({ answers: { person: "yes" }, done: "person" });
    expect((await api.get(`/threads/${asked}/state`)).next).toEqual([]);

    const { checkpoint } = (await api.get(`/threads/${forked}/history?limit=100`)).at(-1);
    await say(api, forked, "other", { checkpoint });
    expect(said(await api.get(`/threads/${forked}/state`))).toContain("other");
    await api.post(`/threads/${forked}/state`, {
      values: { messages: [{ role: "user", content: "by hand" }] },
      as_node: "answer",
    });
    expect(said(await api.get(`/threads/${forked}/state`)).at(-1)).toBe("by hand");
    const copy = await api.post(`/threads/${forked}/copy`);
    expect(said(await api.get(`/threads/${copy.thread_id}/state`)).at(-1)).toBe("by hand");
    return all;
  });

  await at(HOUR_MS, async (api) => {
    expect(idsOf(await api.get(`/threads/${chat}/history?limit=100`))).toEqual(idsOf(behind));
    await say(api, chat, "three");
    expect(said(await api.get(`/threads/${chat}/state`))).toEqual([...two, "three", "You said: three"]);
    const all: Any[] = await api.get(`/threads/${chat}/history?limit=100`);
    expect(all.map(({ parent_checkpoint_id }) => parent_checkpoint_id)).toEqual([...idsOf(all).slice(1), null]);
    expect(said(await api.get(`/threads/${forked}/state`)).at(-1)).toBe("by hand");
    await api.post("/threads/prune", { thread_ids: [chat], strategy: "keep_latest" });
    expect(idsOf(await api.get(`/threads/${chat}/history?limit=100`))).toEqual(idsOf(all).slice(0, 1));
    await say(api, chat, "four");
    expect(said(await api.get(`/threads/${chat}/state`)).slice(-2)).toEqual(["four", "You said: four"]);
  });
});

import { expect } from "vitest";
import { eventually } from "../../support/server.ts";
import { all, type Cases, ended, final, input, NOBODY, pick } from "./support.ts";

/** Long before it begins: a run that is there and does nothing. */
const waiting = { input, afterSeconds: 600 };

export const runs: Cases = {
  async stream({ sdk }) {
    const { thread_id } = await sdk.threads.create();
    for (const thread of [thread_id, null]) {
      const events = await all(sdk.runs.stream(thread, "plain", { input, streamMode: ["values", "updates"] }));
      expect(pick(events, "event").sort()).toEqual(["metadata", "updates", "updates", "values", "values", "values"]);
      expect(events.at(-1).data).toEqual(final);
    }
  },

  async create({ sdk, mine }) {
    const { thread_id } = await sdk.threads.create();
    const made = await sdk.runs.create(thread_id, "plain", { input, metadata: mine, multitaskStrategy: "reject" });
    expect(made).toMatchObject({ thread_id, metadata: mine, multitask_strategy: "reject" });
    expect(["pending", "running", "success"]).toContain(made.status);
    expect(await sdk.runs.join(thread_id, made.run_id)).toEqual(final);
    await expect(sdk.runs.create(NOBODY, "plain", { input })).rejects.toThrow("404");
    const there = await sdk.runs.create(crypto.randomUUID(), "plain", { input, ifNotExists: "create" });
    expect(await sdk.runs.join(there.thread_id, there.run_id)).toEqual(final);
    expect(await sdk.runs.create(null, "plain", { input })).toMatchObject({ run_id: expect.any(String) });
  },

  async createBatch({ sdk, mine }) {
    const made = await sdk.runs.createBatch([
      { assistantId: "plain", input, metadata: mine, onCompletion: "keep" },
      { assistantId: "plain", input, onCompletion: "keep" },
    ]);
    expect(made[0].metadata).toMatchObject(mine);
    for (const { thread_id, run_id } of made) expect(await sdk.runs.join(thread_id, run_id)).toEqual(final);
  },

  async wait({ sdk }) {
    const { thread_id } = await sdk.threads.create();
    for (const thread of [thread_id, null]) expect(await sdk.runs.wait(thread, "plain", { input })).toEqual(final);
    await expect(sdk.runs.wait(thread_id, "error", { input: {} })).rejects.toThrow("TypeError: kaboom");
  },

  async list(world) {
    const { sdk } = world;
    const thread_id = await ended(world);
    const { run_id } = await sdk.runs.create(thread_id, "plain", waiting);
    const list = (options?: object) => sdk.runs.list(thread_id, options);
    const [pending, done] = await list();
    expect([pending, done]).toMatchObject([{ run_id, status: "pending" }, { status: "success" }]);
    expect(await list({ limit: 1, offset: 1 })).toEqual([done]);
    expect(await list({ status: "pending" })).toEqual([pending]);
    const select = ["run_id", "status"];
    expect(await list({ status: "success", select })).toEqual([{ run_id: done.run_id, status: "success" }]);
    expect(await list({ select: ["run_id"], limit: 1 })).toEqual([{ run_id }]);
  },

  async get({ sdk }) {
    const { thread_id } = await sdk.threads.create();
    const { run_id } = await sdk.runs.create(thread_id, "plain", { input, config: { tags: ["a"] } });
    await sdk.runs.join(thread_id, run_id);
    const run = await sdk.runs.get(thread_id, run_id);
    expect(run).toMatchObject({ run_id, thread_id, status: "success", kwargs: { config: { tags: ["a"] } } });
    await expect(sdk.runs.get(thread_id, NOBODY)).rejects.toThrow("404");
  },

  async cancel({ sdk, gate }) {
    for (const [wait, action] of [
      [true, undefined],
      [false, "rollback"],
    ] as const) {
      const held = gate(`cancel-${wait}`);
      const { thread_id } = await sdk.threads.create();
      const { run_id } = await sdk.runs.create(thread_id, "slow", { input: held.input });
      await eventually(() => held.log.includes("start 1"));
      await sdk.runs.cancel(thread_id, run_id, wait, action);
      if (wait) expect((await sdk.runs.get(thread_id, run_id)).status).toBe("interrupted");
      else await eventually(async () => (await sdk.runs.list(thread_id)).length === 0);
      expect(held.log).toEqual(["start 1", "aborted 1"]);
    }
  },

  async cancelMany({ sdk }) {
    const { thread_id: threadId } = await sdk.threads.create();
    const make = async () => (await sdk.runs.create(threadId, "plain", waiting)).run_id;
    const [one, two, three] = [await make(), await make(), await make()];
    await sdk.runs.cancelMany({ threadId, runIds: [one, two] });
    const status = async (run: string) => (await sdk.runs.get(threadId, run)).status;
    expect(await Promise.all([one, two, three].map(status))).toEqual(["interrupted", "interrupted", "pending"]);
    await sdk.runs.cancelMany({ threadId, runIds: [three], action: "rollback" });
    await expect(sdk.runs.get(threadId, three)).rejects.toThrow("404");
    await expect(sdk.runs.cancelMany({ threadId, runIds: [NOBODY] })).rejects.toThrow("404");
  },

  async join({ sdk }) {
    const { thread_id } = await sdk.threads.create();
    const { run_id } = await sdk.runs.create(thread_id, "hitl", { input: { question: "Sure?" } });
    const asked = await sdk.runs.join(thread_id, run_id, { cancelOnDisconnect: true });
    expect(asked.__interrupt__[0].value).toMatchObject({ question: "Sure?" });
  },

  async joinStream({ sdk }) {
    const { thread_id } = await sdk.threads.create();
    const options = { input, streamMode: ["values", "updates"], streamResumable: true };
    const { run_id } = await sdk.runs.create(thread_id, "plain", options);
    const whole = await all(sdk.runs.joinStream(thread_id, run_id, { lastEventId: "-1" }));
    expect(whole.at(-1)).toMatchObject({ event: "values", data: final });
    const rest = await all(sdk.runs.joinStream(thread_id, run_id, { lastEventId: whole[2].id }));
    expect(rest).toEqual(whole.slice(3));
    const filtered = await all(sdk.runs.joinStream(thread_id, run_id, { streamMode: "values" }));
    expect(pick(filtered, "event")).toEqual(["metadata", "values", "values", "values"]);
  },

  async delete({ sdk }) {
    const { thread_id } = await sdk.threads.create();
    const ids: string[] = [];
    for (const value of [1, 10]) {
      const { run_id } = await sdk.runs.create(thread_id, "plain", { input: { value } });
      await sdk.runs.join(thread_id, run_id);
      ids.push(run_id);
    }
    await sdk.runs.delete(thread_id, ids[1]);
    expect(pick(await sdk.runs.list(thread_id), "run_id")).toEqual([ids[0]]);
    expect((await sdk.threads.getState(thread_id)).values).toEqual(final);
    await expect(sdk.runs.delete(thread_id, ids[1])).rejects.toThrow("404");
  },
};

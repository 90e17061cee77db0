/** What fresh eyes found: promises made at the very end of a run, and checkpoints that are not there. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { startServer, type TestServer } from "../support/server.ts";

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const call = (path: string, body?: unknown, method = "POST"): Promise<Response> =>
  fetch(server.url + path, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });

const json = async (path: string, body?: unknown, method = "POST"): Promise<Record<string, unknown>> =>
  (await (await call(path, body, method)).json()) as Record<string, unknown>;

it("keeps the word of a cancel at whatever moment it was given", async () => {
  await Promise.all(
    Array.from({ length: 24 }, async (_, i) => {
      const action = i % 2 === 0 ? "rollback" : "interrupt";
      const { thread_id } = await json("/threads", {});
      const { run_id } = await json(`/threads/${thread_id}/runs`, { assistant_id: "slow", input: { delay_ms: 20 } });
      const run = `/threads/${thread_id}/runs/${run_id}`;
      // Spread over the run's whole life: the promise is judged by its answer, whichever moment it met.
      await new Promise((resolve) => setTimeout(resolve, i * 5));
      const cancelled = await call(`${run}/cancel?action=${action}`);
      await (await call(`${run}/join`, undefined, "GET")).text();
      if (cancelled.status !== 200) return expect(cancelled.status).toBe(409);
      const left = await call(run, undefined, "GET");
      if (action === "interrupt") return expect(await left.json()).toMatchObject({ status: "interrupted" });
      expect(left.status).toBe(404);
      expect(await json(`/threads/${thread_id}`, undefined, "GET")).toMatchObject({ status: "idle", values: null });
    }),
  );
});

it("does not start a run, or show a state, at a checkpoint that is not there", async () => {
  const { thread_id } = await json("/threads", {});
  await json(`/threads/${thread_id}/runs/wait`, { assistant_id: "plain", input: { value: 1 } });
  const run = await call(`/threads/${thread_id}/runs/wait`, { assistant_id: "plain", checkpoint_id: "nope" });
  expect([run.status, await run.json()]).toEqual([404, { detail: expect.stringContaining("nope") }]);
  const state = await call(`/threads/${thread_id}/state/nope`, undefined, "GET");
  expect(state.status).toBe(404);
});

it.each(["http://[::127.0.0.1]/", "http://localhost./", "http://host.docker.internal./"])(
  "refuses the webhook %s",
  async (webhook) => {
    const answer = await call("/runs", { assistant_id: "plain", input: { value: 1 }, webhook });
    expect([answer.status, await answer.json()]).toEqual([422, { detail: expect.stringMatching(/^webhook: /) }]);
  },
);

it("says in which subgraph an event of mode `events` happened", async () => {
  const answer = await call("/runs/stream", {
    assistant_id: "nested",
    input: {},
    stream_mode: "events",
    stream_subgraphs: true,
  });
  const names = new Set(
    (await answer.text()).match(/^event: .*$/gm)?.map((line) => line.replace(/:[0-9a-f-]{36}/g, "")),
  );
  expect(names).toEqual(
    new Set(["event: metadata", "event: events", "event: events|middle", "event: events|middle|inner"]),
  );
});

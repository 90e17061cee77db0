/** One POST to the client when a run ends. The server under test must be allowed to reach this machine. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "vitest";
import { type Any, type Api, behaviour, eventually, refused } from "../kit.ts";

interface Receiver extends AsyncDisposable {
  readonly url: string;
  readonly calls: Any[];
}

async function receiver(): Promise<Receiver> {
  const calls: Any[] = [];
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    calls.push({ type: request.headers["content-type"], body: JSON.parse(text) });
    response.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    calls,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function called(
  api: Api,
  assistant_id: string,
  more: Any = {},
): Promise<{ body: Any; thread_id: string; path: string; type: string }> {
  await using hook = await receiver();
  const { thread_id, path } = await api.start(assistant_id, { value: 1 }, { webhook: hook.url, ...more });
  await eventually(async () => hook.calls.length > 0);
  expect(hook.calls).toHaveLength(1);
  return { ...hook.calls[0], thread_id, path };
}

behaviour("webhooks.run", async ({ api }) => {
  const { body, type, path } = await called(api, "plain", { metadata: { mine: 1 } });
  const run = await api.get(path);
  expect(type).toContain("application/json");
  expect(body).toMatchObject({
    run_id: run.run_id,
    thread_id: run.thread_id,
    status: "success",
    metadata: { mine: 1 },
  });
});

behaviour("webhooks.values", async ({ api }) => {
  expect((await called(api, "plain")).body.values).toEqual({ value: 4, steps: ["first", "second"] });
});

behaviour("webhooks.times", async ({ api }) => {
  const { body } = await called(api, "plain");
  for (const field of ["run_started_at", "run_ended_at", "webhook_sent_at"])
    expect(Date.parse(body[field])).not.toBeNaN();
});

behaviour("webhooks.error", async ({ api }) => {
  expect((await called(api, "error")).body).toMatchObject({
    status: "error",
    error: { error: "TypeError", message: "kaboom" },
  });
});

behaviour("webhooks.interrupt", async ({ api }) => {
  expect((await called(api, "hitl")).body).toMatchObject({ status: "interrupted" });
});

behaviour("webhooks.stateless", async ({ api }) => {
  await using hook = await receiver();
  await api.run("plain", { value: 1 }, { webhook: hook.url });
  await eventually(async () => hook.calls.length > 0);
  expect(hook.calls[0].body).toMatchObject({ status: "success" });
});

behaviour("webhooks.no-url", async ({ api }) => {
  const body = { assistant_id: "plain", webhook: "ftp://example.com/x" };
  await refused(api.http.post(`/threads/${await api.thread()}/runs`, body), 422, "webhook");
});

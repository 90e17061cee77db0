/** What is deleted is soon in no file of a running server. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Api } from "../runs/support.ts";
import { eventually, ON_POSTGRES, startServer } from "../support/server.ts";

const DELETED = "Del3ted-Zq";
const KEPT = "K3pt-Zq";
const files = (data: string): string =>
  readdirSync(data)
    .map((file) => readFileSync(join(data, file), "latin1"))
    .join();

// It looks into the file.
test.skipIf(ON_POSTGRES)("a stateless run leaves nothing, a thread stays", async () => {
  await using server = await startServer({ env: { SKEIN_RECLAIM_SECS: "0.1" } });
  const api = new Api(server);
  const say = (word: string) => ({
    assistant_id: "chat",
    input: { messages: [{ role: "user", content: word.repeat(500) }] },
    stream_mode: "values",
  });
  const thread_id = await api.thread();
  await api.wait(say(KEPT), `/threads/${thread_id}/runs/wait`);
  await Promise.all(Array.from({ length: 40 }, () => api.stream(say(DELETED))));
  await eventually(() => !files(server.data).includes(DELETED), { every: 200 });
  expect(files(server.data)).toContain(KEPT);
  await eventually(() => statSync(join(server.data, "skein.db-wal")).size === 0);
  const { values } = await api.get(`/threads/${thread_id}/state`);
  expect(values.messages[0].content).toBe(KEPT.repeat(500));
});

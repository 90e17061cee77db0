/** Ended logs leave memory after half a minute; what somebody still reads must not. */
import { expect, test } from "vitest";
import { eventually, project, startServer } from "../support/server.ts";
import { deafClient, readIds } from "./deaf-client.ts";
import { TALKER } from "./graphs.ts";
import { ended, newThread, startRun, upTo } from "./support.ts";

const COUNT = 400;
const SIZE = 100_000;

test("a client that wakes up long after the run has ended still gets all of its stream", async () => {
  await using talker = await project({ "talk.mjs": TALKER });
  await using server = await startServer({ project: talker, args: ["--threads", "1"] });
  const body = { assistant_id: "talk", input: { count: COUNT, size: SIZE }, stream_mode: ["custom"] };
  const run = await startRun(server, await newThread(server), body);
  const deaf = await deafClient(server, `/threads/${run.thread_id}/runs/${run.run_id}/stream`);
  await ended(server, run);
  const endedAt = performance.now();
  await eventually(() => performance.now() - endedAt > 33_000, { ms: 40_000, every: 500 });
  expect(await readIds(deaf)).toEqual(upTo(COUNT + 1));
});

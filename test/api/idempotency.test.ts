/** Idempotency-Key: the same request again gets the same run, on every operation that makes one. */
import { describe, expect, test } from "vitest";
import {
  type Any,
  Api,
  database,
  Gate,
  json,
  numbers,
  useServer,
  useTempDir,
  WAYS,
  type Way,
} from "../runs/support.ts";
import { execute } from "../support/database.ts";
import type { Answer } from "../support/http.ts";
import { eventually, startServer } from "../support/server.ts";

const api = useServer();
const temp = useTempDir();
const plain = { assistant_id: "plain", input: { value: 1 } };
let count = 0;

const newKey = (): string => {
  count += 1;
  return `key ${count}`;
};
const send = (path: string, body: unknown, key: string): Promise<Answer<Any>> =>
  api.http.post(path, body, { headers: { "idempotency-key": key } });

/** The run an answer is about: in the body, or where `Content-Location` points. */
function runsIn({ body, headers }: Answer<Any>): string[] {
  if (Array.isArray(body)) return body.map(({ run_id }) => run_id);
  return [body?.run_id ?? headers.get("content-location")?.split("/").at(-1)];
}

/** Another body for the same operation. */
const other = (way: Way): unknown => way.wrap({ ...plain, input: { value: 2 } });

describe.each(WAYS.map((way) => [way.name, way] as const))("%s", (_, way) => {
  test("the same again: the same answer about the same run; another body: 409", async () => {
    const [path, key] = [await way.path(api), newKey()];
    const first = await send(path, way.wrap(plain), key);
    expect(first.status).toBe(200);
    const again = await send(path, way.wrap(plain), key);
    expect([again.status, again.text]).toEqual([200, first.text]);
    expect(runsIn(again)).toEqual(runsIn(first));
    expect(again.headers.get("content-location")).toBe(first.headers.get("content-location"));
    const conflicting = await send(path, other(way), key);
    expect([conflicting.status, conflicting.body.detail]).toEqual([409, expect.stringContaining(key)]);
    const fresh = await send(path, way.wrap(plain), newKey());
    expect(runsIn(fresh)).not.toEqual(runsIn(first));
    if (way.stateful) expect(await api.get(path.replace(/\/(stream|wait)$/, ""))).toHaveLength(2);
  });

  test("ten at once make one run", async () => {
    const [path, key] = [await way.path(api), newKey()];
    const answers = await Promise.all(numbers(10).map(() => send(path, way.wrap(plain), key)));
    expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
    expect(new Set(answers.flatMap(runsIn)).size).toBe(1);
    if (way.stateful) expect(await api.get(path.replace(/\/(stream|wait)$/, ""))).toHaveLength(1);
  });

  test("ten at once with two bodies: one body wins, the other is refused", async () => {
    const [path, key] = [await way.path(api), newKey()];
    const bodies = numbers(10).map((index) => (index % 2 === 0 ? way.wrap(plain) : other(way)));
    const answers = await Promise.all(bodies.map((body) => send(path, body, key)));
    const statuses = [0, 1].map(
      (rest) => new Set(answers.filter((_, at) => at % 2 === rest).map(({ status }) => status)),
    );
    expect(statuses.map((of) => [...of]).sort()).toEqual([[200], [409]]);
    expect(new Set(answers.filter(({ status }) => status === 200).flatMap(runsIn)).size).toBe(1);
  });

  test.each(["", "x".repeat(256)])("the key %j: 422, and no run", async (key) => {
    const path = await way.path(api);
    const { status, body } = await send(path, way.wrap(plain), key);
    expect([status, body.detail]).toEqual([422, expect.stringMatching(/^Idempotency-Key: /)]);
    if (way.stateful) expect(await api.get(path.replace(/\/(stream|wait)$/, ""))).toEqual([]);
  });
});

describe("what counts as the same", () => {
  test("the order of members and unknown ones do not matter; values do", async () => {
    const key = newKey();
    const first = await send("/runs", { assistant_id: "plain", input: { value: 1, more: { a: 1, b: 2 } } }, key);
    const same = await send(
      "/runs",
      { input: { more: { b: 2, a: 1 }, value: 1 }, assistant_id: "plain", nonsense: 1 },
      key,
    );
    expect([same.status, same.body]).toEqual([200, first.body]);
    const reordered = await send("/runs", { assistant_id: "plain", input: { value: 1, more: { a: 2, b: 1 } } }, key);
    expect(reordered.status).toBe(409);
  });

  test("another operation, another thread: 409", async () => {
    const [key, one, two] = [newKey(), await api.thread(), await api.thread()];
    expect((await send(`/threads/${one}/runs`, plain, key)).status).toBe(200);
    for (const path of [`/threads/${two}/runs`, `/threads/${one}/runs/wait`, "/runs"]) {
      expect([path, (await send(path, plain, key)).status]).toEqual([path, 409]);
    }
    expect((await send(`/threads/${one.toUpperCase()}/runs`, plain, key)).status).toBe(200);
    expect(await api.get(`/threads/${two}/runs`)).toEqual([]);
  });

  test("a request that failed has not used its key", async () => {
    const [key, thread_id] = [newKey(), crypto.randomUUID()];
    expect((await send(`/threads/${thread_id}/runs`, plain, key)).status).toBe(404);
    expect((await send(`/threads/${thread_id}/runs`, { ...plain, if_not_exists: "create" }, key)).status).toBe(200);
    const busy = newKey();
    const gate = new Gate(temp.dir, "busy");
    const { run_id } = await api.post(`/threads/${thread_id}/runs`, { assistant_id: "slow", input: gate.input });
    const reject = { ...plain, multitask_strategy: "reject" };
    expect((await send(`/threads/${thread_id}/runs`, reject, busy)).status).toBe(409);
    gate.openAll();
    await api.get(`/threads/${thread_id}/runs/${run_id}/join`);
    expect((await send(`/threads/${thread_id}/runs`, reject, busy)).status).toBe(200);
  });

  test("a repeated reject is no conflict with itself, a repeated rollback replaces nothing", async () => {
    for (const multitask_strategy of ["reject", "rollback", "interrupt"]) {
      const [thread_id, key] = [await api.thread(), newKey()];
      const gate = new Gate(temp.dir, `self-${multitask_strategy}`);
      const body = { assistant_id: "slow", input: gate.input, multitask_strategy };
      const first = await send(`/threads/${thread_id}/runs`, body, key);
      const again = await send(`/threads/${thread_id}/runs`, body, key);
      expect([again.status, again.body]).toEqual([200, first.body]);
      gate.openAll();
      expect((await api.get(`/threads/${thread_id}/runs/${first.body.run_id}/join`)).steps).toEqual([1, 2, 3]);
    }
  });
});

test("a stream that is asked for again while its run is at it begins at its first event", async () => {
  const [thread_id, key] = [await api.thread(), newKey()];
  const gate = new Gate(temp.dir, "again");
  const request = {
    body: { assistant_id: "slow", input: gate.input, stream_mode: "updates" },
    headers: { "idempotency-key": key },
  };
  const lost = await api.open(`/threads/${thread_id}/runs/stream`, request);
  gate.open(1);
  await lost.until(({ event }) => event === "updates");
  lost.close();
  await using again = await api.open(`/threads/${thread_id}/runs/stream`, request);
  gate.openAll();
  const frames = await again.rest();
  expect(frames.map(({ event }) => event)).toEqual(["metadata", "updates", "updates", "updates"]);
  expect(json(frames[0]).attempt).toBe(1);
  expect(gate.log).toEqual(["start 1", "end 1", "start 2", "end 2", "start 3", "end 3"]);
});

test("keys survive a crash, and are forgotten after a day", async () => {
  await using server = await startServer();
  const own = new Api(server);
  const headers = { "idempotency-key": "order 1" };
  const thread_id = await own.thread();
  const create = () => own.http.post(`/threads/${thread_id}/runs`, plain, { headers });
  const { run_id } = (await create()).body;
  await server.restart("SIGKILL");
  expect((await create()).body.run_id).toBe(run_id);
  await own.get(`/threads/${thread_id}/runs/${run_id}/join`);
  const waited = await own.http.post(`/threads/${thread_id}/runs`, { ...plain, input: null }, { headers });
  expect(waited.status).toBe(409);
  await server.stop();
  await makeOlder(server.data);
  await server.start();
  const later = await create();
  expect([later.status, later.body.run_id === run_id]).toEqual([200, false]);
  await eventually(async () => (await own.get(`/threads/${thread_id}/runs`)).length === 2);
  await server.stop();
  const db = database(server.data);
  expect(await db.all("select key from idempotency_keys")).toEqual([{ key: "order 1" }]);
  db.close();
});

/** As if a day had passed. */
const makeOlder = (data: string): Promise<void> =>
  execute(data, "update idempotency_keys set created_at = created_at - 86400001");

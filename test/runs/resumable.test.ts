/** Last-Event-ID at every index gives exactly the rest: during the run, after it, and after the server was started again. */
import { beforeAll, describe, expect, test } from "vitest";
import { eventually, forgetLive, ON_POSTGRES, startServer } from "../support/server.ts";
import type { Frame } from "../support/sse.ts";
import { Api, database, Gate, ids, json, numbers, type Place, useServer, useTempDir } from "./support.ts";

const api = useServer(() => ({ env: { RESUMABLE_STREAM_TTL_SECONDS: "600" } }));
const temp = useTempDir();

const raw = (frames: readonly Frame[]): string[] => frames.map((frame) => frame.raw);
const modes = ["values", "updates", "tasks", "debug"];

/** Streams from each index, all at once; what each got. */
const fromEach = (where: Pick<Api, "frames">, path: string, count: number): Promise<Frame[][]> =>
  Promise.all(numbers(count + 1, -1).map((index) => where.frames(path, { lastEventId: String(index) })));

function expectEachTheRest(got: readonly Frame[][], whole: readonly Frame[]): void {
  for (const [start, frames] of got.entries()) expect([start, raw(frames)]).toEqual([start, raw(whole.slice(start))]);
}

/** A stateless run is found by its id alone, one on a thread by both. */
const PLACES = ["/runs", "/threads/{t}/runs"] as const;

async function begin(place: (typeof PLACES)[number], body: Record<string, unknown>): Promise<Pick<Place, "path">> {
  if (place === "/runs") return { path: `/runs/${(await api.post("/runs", body)).run_id}` };
  return api.background(body);
}

describe.each(PLACES)("%s", (place) => {
  test.each([true, false])("during the run and after it (stream_resumable %s)", async (stream_resumable) => {
    const gate = new Gate(temp.dir, `${stream_resumable}-${place.length}`);
    const body = { assistant_id: "slow", input: gate.input, stream_mode: modes, stream_resumable };
    const { path } = await begin(place, body);
    gate.open(1);
    await eventually(() => gate.log.includes("start 2"));
    const early = await Promise.all(
      numbers(6, -1).map((index) => api.open(`${path}/stream`, { lastEventId: String(index) })),
    );
    gate.open(2, 3);
    const during = await Promise.all(early.map((stream) => stream.rest()));
    const whole = during[0] ?? [];
    expect(ids(whole)).toEqual(numbers(whole.length));
    expect(whole.length).toBeGreaterThan(20);
    expectEachTheRest(during, whole);
    expectEachTheRest(await fromEach(api, `${path}/stream`, whole.length), whole);
  });

  test("a reader that drops after each event and comes back sees each event once", async () => {
    const gate = new Gate(temp.dir, `drops-${place.length}`);
    const body = { assistant_id: "slow", input: gate.input, stream_mode: modes, stream_resumable: true };
    const { path } = await begin(place, body);
    const seen: Frame[] = [];
    for (;;) {
      const last = seen.at(-1)?.id;
      const stream = await api.open(`${path}/stream`, last === undefined ? {} : { lastEventId: last });
      // The next step's gate opens only when its predecessor's start has been read: no event is waiting then.
      gate.open(...numbers(Math.min(1 + Math.floor(seen.length / 4), 3), 1));
      const frame = await stream.next();
      stream.close();
      if (frame === undefined) break;
      seen.push(frame);
    }
    expect(raw(seen)).toEqual(raw(await api.frames(`${path}/stream`)));
  });
});

describe("forms of the id", () => {
  let path = "";
  let whole: Frame[] = [];
  beforeAll(async () => {
    const place = await api.background({ assistant_id: "plain", input: { value: 1 }, stream_resumable: true });
    path = `${place.path}/stream`;
    whole = await api.frames(path);
  });

  test.each(["-1", "", "1720000000000-0", "nonsense", "-5", "1e3", "99999999999999999999"])(
    "%j is no index of the run: from the start",
    async (lastEventId) => {
      expect(raw(await api.frames(path, { lastEventId }))).toEqual(raw(whole));
    },
  );

  test("the last index, and one beyond: nothing, and the stream ends", async () => {
    for (const index of [whole.length - 1, whole.length + 5]) {
      expect(await api.frames(path, { lastEventId: String(index) })).toEqual([]);
    }
  });

  test("in the query, for those who cannot set headers", async () => {
    expect(raw(await api.frames(`${path}?last_event_id=1`))).toEqual(raw(whole.slice(2)));
  });
});

test("after a restart: ended runs whole, from every index; runs in flight go on under the same numbers", async () => {
  const resumable = { stream_mode: modes, stream_resumable: true };
  const ended = await api.background({ assistant_id: "plain", input: { value: 1 }, ...resumable });
  const whole = await api.frames(`${ended.path}/stream`);
  const stateless = await api.stream({ assistant_id: "plain", input: { value: 1 }, ...resumable });
  const gone = await api.stream({ assistant_id: "plain", input: { value: 1 }, stream_mode: modes });

  const gate = new Gate(temp.dir, "restart");
  const running = await api.background({ assistant_id: "slow", input: gate.input, ...resumable });
  gate.open(1);
  const reader = await api.open(`${running.path}/stream`);
  const before = await reader.until(({ data = "" }) => data.includes('"start"') || data.includes('"name":"two"'));
  const delayed = await api.background({ assistant_id: "plain", input: { value: 1 }, after_seconds: 2, ...resumable });

  await api.server.restart("SIGKILL");
  gate.openAll();

  expectEachTheRest(await fromEach(api, `${ended.path}/stream`, whole.length), whole);
  const statelessPath = `/runs/${json(stateless[0]).run_id}/stream`;
  expectEachTheRest(await fromEach(api, statelessPath, stateless.length), stateless);
  // Redis keeps what has just ended, for half a minute.
  expect((await api.http.get(`/runs/${json(gone[0]).run_id}/stream`)).status).toBe(ON_POSTGRES ? 200 : 404);

  const after = await api.frames(`${running.path}/stream`, { lastEventId: before.at(-1)?.id ?? "" });
  expect(ids([...before, ...after])).toEqual(numbers(before.length + after.length));
  expect(raw(await api.frames(`${running.path}/stream`))).toEqual(raw([...before, ...after]));
  expect((await api.get(`${running.path}/join`)).steps).toEqual([1, 2, 3]);

  expect((await api.frames(`${delayed.path}/stream`)).map(({ event }) => event)).toContain("metadata");
  expect((await api.get(delayed.path)).status).toBe("success");
});

test("the events of an ended run go after their time", async () => {
  await using server = await startServer({ env: { RESUMABLE_STREAM_TTL_SECONDS: "1" } });
  const own = new Api(server);
  const body = { assistant_id: "plain", input: { value: 1 }, stream_resumable: true };
  const frames = await own.stream(body);
  await eventually(async () => {
    const db = database(server.data);
    const rows = await db.all("select run_id from event_logs union all select run_id from event_chunks");
    db.close();
    return rows.length === 0;
  });
  // So does whoever has just shown it: the memory of the server, and Redis.
  await server.restart();
  await forgetLive(server.data);
  expect((await own.http.get(`/runs/${json(frames[0]).run_id}/stream`)).status).toBe(404);
});

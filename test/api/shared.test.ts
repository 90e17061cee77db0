/** Two servers on one PostgreSQL: what several processes must agree on. The barrier is a lock that both have to wait for. */
import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Api, numbers } from "../runs/support.ts";
import { freshSchema, missing, onPostgres, requirePostgres, type TestDatabase } from "../support/postgres.ts";
import { eventually, startServer, type TestServer } from "../support/server.ts";

const plain = { assistant_id: "plain", input: { value: 1 } };
let schema: TestDatabase;
let servers: TestServer[];
let apis: Api[];

beforeAll(async () => {
  if ((await missing()) !== undefined) return;
  schema = await freshSchema();
  const env = { DATABASE_URI: schema.uri, LANGGRAPH_POSTGRES_POOL_MAX_SIZE: "8", SKEIN_LEASE_SECS: "2" };
  servers = await Promise.all([startServer({ env }), startServer({ env })]);
  apis = servers.map((server) => new Api(server));
});
beforeEach(requirePostgres);
afterAll(async () => {
  for (const server of servers ?? []) await server[Symbol.asyncDispose]();
  await schema?.drop();
});

const both = (count: number): Api[] => numbers(count).map((n) => apis[n % 2] as Api);

/** Sends all requests while the thread is locked, and lets go when all of them wait for it. */
async function atOnce<T>(thread_id: string, send: () => Promise<T>[]): Promise<T[]> {
  const client = new pg.Client({ connectionString: schema.uri });
  await client.connect();
  await client.query("begin");
  await client.query("select pg_advisory_xact_lock(hashtextextended($1, 0))", [`skein thread ${thread_id}`]);
  const sent = send();
  await eventually(async () => {
    const { rows } = await client.query(`select count(*)::int as n from pg_locks join pg_stat_activity using (pid)
      where not granted and application_name like current_setting('application_name') || '%'`);
    // A check of the servers' own may wait among them.
    return rows[0].n >= sent.length;
  });
  await client.query("commit");
  await client.end();
  return Promise.all(sent);
}

describe("at the same moment on one thread", () => {
  test("of two creates under `reject` one is refused", async () => {
    for (let round = 0; round < 10; round += 1) {
      const thread_id = await (apis[0] as Api).thread();
      const slow = { assistant_id: "plain", input: { value: round }, multitask_strategy: "reject" };
      const answers = await atOnce(thread_id, () =>
        both(4).map((api) => api.http.post(`/threads/${thread_id}/runs`, { ...slow, after_seconds: 60 })),
      );
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409]);
    }
  });

  test("creates make the thread once, and its runs run one after another", async () => {
    const thread_id = crypto.randomUUID();
    const body = { ...plain, if_not_exists: "create" };
    const answers = await atOnce(thread_id, () =>
      both(6).map((api) => api.http.post(`/threads/${thread_id}/runs`, body)),
    );
    expect(answers.map(({ status }) => status)).toEqual(numbers(6).map(() => 200));
    await eventually(async () => (await (apis[1] as Api).get(`/threads/${thread_id}`)).status === "idle", {
      ms: 30_000,
    });
    const rows = await onPostgres<{ started_at: string; ended_at: string; status: string }>(
      schema.uri,
      `select status, started_at, ended_at from runs where thread_id = '${thread_id}' order by seq`,
    );
    expect(rows.map(({ status }) => status)).toEqual(numbers(6).map(() => "success"));
    rows.slice(1).forEach((run, n) => {
      expect(Number(run.started_at)).toBeGreaterThanOrEqual(Number(rows[n]?.ended_at));
    });
  });

  test("a request with one key makes one run, whichever server it comes to", async () => {
    const thread_id = await (apis[0] as Api).thread();
    const headers = { "idempotency-key": crypto.randomUUID() };
    const answers = await Promise.all(
      both(8).map((api) => api.http.post(`/threads/${thread_id}/runs`, plain, { headers })),
    );
    expect(new Set(answers.map(({ body }) => body.run_id)).size).toBe(1);
    expect(await (apis[0] as Api).get(`/threads/${thread_id}/runs`)).toHaveLength(1);
  });

  test("two resumes: each answers what waited, none is lost", async () => {
    const [one, two] = apis as [Api, Api];
    const thread_id = await one.thread();
    await one.wait({ assistant_id: "questions", input: { twice: true } }, `/threads/${thread_id}/runs`);
    const resume = (answer: string) => ({ assistant_id: "questions", command: { resume: answer } });
    const answers = await atOnce(thread_id, () =>
      [one, two].map((api, n) => api.http.post(`/threads/${thread_id}/runs`, resume(`${n}`))),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    await eventually(async () => (await one.get(`/threads/${thread_id}`)).status !== "busy", { ms: 30_000 });
    const found = await one.get(`/threads/${thread_id}/runs`);
    expect(found.every(({ status }: { status: string }) => ["success", "interrupted", "error"].includes(status))).toBe(
      true,
    );
  });

  test("versions of an assistant follow one another", async () => {
    const { assistant_id } = (await (apis[0] as Api).http.post("/assistants", { graph_id: "plain" })).body;
    await Promise.all(
      both(10).map((api, n) => api.http.patch(`/assistants/${assistant_id}`, { metadata: { [n]: n } })),
    );
    const { body } = await (apis[1] as Api).http.get(`/assistants/${assistant_id}`);
    expect([body.version, Object.keys(body.metadata).length]).toEqual([11, 10]);
  });
});

test("a cancel whose word does not come is obeyed at the next heartbeat", async () => {
  const [one, two] = apis as [Api, Api];
  const thread_id = await one.thread();
  const { run_id } = await one.post(`/threads/${thread_id}/runs`, {
    assistant_id: "slow",
    input: { gate: "/nowhere/at/all" },
  });
  await eventually(async () => (await two.get(`/threads/${thread_id}/runs/${run_id}`)).status !== "pending");
  await two.http.post(`/threads/${thread_id}/runs/${run_id}/cancel`);
  await eventually(async () => (await two.get(`/threads/${thread_id}/runs/${run_id}`)).status !== "running", {
    ms: 15_000,
  });
});

test("each tick of a cron is one run", async () => {
  const [one] = apis as [Api];
  const thread_id = await one.thread();
  const { body } = await one.http.post(`/threads/${thread_id}/runs/crons`, {
    assistant_id: "plain",
    schedule: "* * * * * *",
    input: { value: 1 },
  });
  await eventually(async () => (await one.get(`/threads/${thread_id}/runs`)).length >= 4, { ms: 30_000 });
  await one.http.delete(`/runs/crons/${body.cron_id}`);
  const rows = await onPostgres<{ second: string }>(
    schema.uri,
    `select created_at / 1000 as second from runs where thread_id = '${thread_id}'`,
  );
  expect(new Set(rows.map(({ second }) => second)).size).toBe(rows.length);
});

test("a heartbeat while a run is being written does not take it for one that is lost", async () => {
  // A heartbeat comes meanwhile, and the lease does not run out.
  await onPostgres(
    schema.uri,
    "create function slowly() returns trigger language plpgsql as 'begin perform pg_sleep(0.8); return new; end'",
    "create trigger slowly before insert on runs for each row execute function slowly()",
  );
  const [one] = apis as [Api, Api];
  const frames = await one.stream({ ...plain, stream_mode: ["updates"] });
  await onPostgres(schema.uri, "drop trigger slowly on runs");
  expect(frames.map(({ event }) => event)).toEqual(["metadata", "updates", "updates"]);
});

test("the runs of a server that dies go on at the other one", async () => {
  const [one, two] = apis as [Api, Api];
  const made = await Promise.all(
    numbers(3).map(() =>
      one.post("/runs", { assistant_id: "slow", input: { gate: "/nowhere" }, on_completion: "keep" }),
    ),
  );
  const owners = () =>
    onPostgres<{ lease_owner: string }>(
      schema.uri,
      `select lease_owner from runs where status = 'running' and run_id in (${made.map(({ run_id }) => `'${run_id}'`).join()})`,
    );
  await eventually(async () => (await owners()).length === 3);
  const dead = `:${servers[0]?.pid}:`;
  expect((await owners()).every(({ lease_owner }) => lease_owner.includes(dead))).toBe(true);
  await servers[0]?.kill("SIGKILL");
  await eventually(async () => (await owners()).filter(({ lease_owner }) => !lease_owner.includes(dead)).length === 3, {
    ms: 20_000,
  });
  for (const { thread_id, run_id } of made) {
    // Taken over, it goes through the queue: for a moment it is nobody's.
    await eventually(async () => (await two.get(`/threads/${thread_id}/runs/${run_id}`)).status === "running");
    await two.http.post(`/threads/${thread_id}/runs/${run_id}/cancel?wait=true`);
    expect(await two.get(`/threads/${thread_id}/runs/${run_id}`)).toMatchObject({ status: "interrupted" });
  }
});

/** Two and ten requests at once about one thread, at three processes: 1,000 rounds, and one winner in each. */
import { expect, test } from "vitest";
import { ok } from "../../support/http.ts";
import { type RunRow, upTo } from "../support.ts";
import { type Member, startCluster } from "./kit/cluster.ts";
import { executions, open } from "./kit/executions.ts";
import { useServices } from "./kit/services.ts";

const cluster = useServices((services) =>
  startCluster(services, { members: ["both", "both", "both"], env: { SKEIN_LEASE_SECS: "20" } }),
);

/** Rounds at once: more would wait for the same two cores. */
const AT_ONCE = 16;
const gone = new Set<string>();

/** `count` rounds: ten racers in every tenth, two in the others. */
async function rounds(count: number, round: (racers: number, n: number) => Promise<void>): Promise<void> {
  const left = upTo(count);
  const work = async (): Promise<void> => {
    for (let n = left.pop(); n !== undefined; n = left.pop()) await round(n % 10 === 0 ? 10 : 2, n);
  };
  await Promise.all(upTo(AT_ONCE).map(work));
}

/** The same request by so many clients at once, each at another process. */
const race = (racers: number, path: string, body?: object) =>
  Promise.all(upTo(racers).map((n) => (cluster().front[n % 3] as Member).http.post(path, body)));

const anyone = (n: number): Member => cluster().front[n % 3] as Member;
const inFlight = new Set(["pending", "running"]);

/** The runs of a thread, newest first, once none is in flight. */
async function endedOf(n: number, thread_id: string): Promise<RunRow[]> {
  const { get } = anyone(n).http;
  const runs = `/threads/${thread_id}/runs`;
  for (;;) {
    const all = await ok(get<RunRow[]>(`${runs}?limit=100`));
    const open = all.find(({ status }) => inFlight.has(status));
    if (open === undefined) return all;
    // Whatever it answers: it may have been rolled back meanwhile.
    await get(`${runs}/${open.run_id}/join`);
  }
}

const idsIn = (answers: readonly { readonly body: RunRow }[]): string[] => answers.map(({ body }) => body.run_id);

test("creates under `reject`, 300 rounds: one is made, the others are refused", async () => {
  await rounds(300, async (racers, n) => {
    const thread_id = await cluster().thread(anyone(n));
    const gate = cluster().file(`reject-${n}`);
    const input = { id: `reject-${n}`, log: cluster().file("reject.log"), one: { gate } };
    const body = { assistant_id: "work", input, multitask_strategy: "reject" };
    const answers = await race(racers, `/threads/${thread_id}/runs`, body);
    const won = answers.filter(({ status }) => status === 200);
    expect([n, answers.map(({ status }) => status).sort()]).toEqual([n, [200, ...upTo(racers - 1).map(() => 409)]]);
    for (const { body } of won) cluster().note(body);
    open(gate);
    expect((await endedOf(n, thread_id)).map(({ status }) => status)).toEqual(["success"]);
  });
  expect(await cluster().faults({ gone })).toEqual([]);
});

test("creates under `enqueue`, 100 rounds: all run, one after the other, in the order in which they were made", async () => {
  const log = cluster().file("enqueue.log");
  await rounds(100, async (racers, n) => {
    const thread_id = await cluster().thread(anyone(n));
    const answers = await Promise.all(
      upTo(racers).map((racer) =>
        anyone(racer).http.post(`/threads/${thread_id}/runs`, {
          assistant_id: "tick",
          input: { id: `enqueue-${n}-${racer}`, log },
        }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual(upTo(racers).map(() => 200));
    for (const { body } of answers) cluster().note(body);
    const runs = await endedOf(n, thread_id);
    expect(runs.map(({ status }) => status)).toEqual(upTo(racers).map(() => "success"));
    const { values } = await ok(anyone(n).http.get(`/threads/${thread_id}/state`));
    const names = new Map(answers.map(({ body }, racer) => [body.run_id, `enqueue-${n}-${racer} tick`]));
    expect(values.steps).toEqual(runs.map(({ run_id }) => names.get(run_id)).reverse());
  });
  expect(await cluster().faults({ gone })).toEqual([]);
});

test.each(["interrupt", "rollback"])(
  "creates under `%s`, 75 rounds: the last one lives",
  async (multitask_strategy) => {
    const log = cluster().file(`${multitask_strategy}.log`);
    await rounds(75, async (racers, n) => {
      const thread_id = await cluster().thread(anyone(n));
      const gate = cluster().file(`${multitask_strategy}-${n}`);
      const answers = await Promise.all(
        upTo(racers).map((racer) => {
          const input = { id: `${multitask_strategy}-${n}-${racer}`, log, one: { gate } };
          return anyone(racer).http.post(`/threads/${thread_id}/runs`, {
            assistant_id: "work",
            input,
            multitask_strategy,
          });
        }),
      );
      expect(answers.map(({ status }) => status)).toEqual(upTo(racers).map(() => 200));
      open(gate);
      const [newest, ...others] = await endedOf(n, thread_id);
      expect(newest?.status).toBe("success");
      cluster().note(newest as RunRow);
      if (multitask_strategy === "interrupt") {
        expect(others.map(({ status }) => status)).toEqual(upTo(racers - 1).map(() => "interrupted"));
        for (const { body } of answers) cluster().note(body);
      } else {
        expect(others).toEqual([]);
        for (const run_id of idsIn(answers)) if (run_id !== newest?.run_id) gone.add(run_id);
      }
    });
    expect(await cluster().faults({ gone })).toEqual([]);
  },
);

test("resumes of one question, 250 rounds: one answers it, the others are refused", async () => {
  const log = cluster().file("resume.log");
  await rounds(250, async (racers, n) => {
    const thread_id = await cluster().thread(anyone(n));
    const runs = `/threads/${thread_id}/runs`;
    await ok(anyone(n).http.post(`${runs}/wait`, { assistant_id: "ask", input: { id: `resume-${n}`, log } }));
    const answers = await Promise.all(
      upTo(racers).map((racer) => {
        const body = { assistant_id: "ask", command: { resume: `racer-${racer}` }, multitask_strategy: "reject" };
        return anyone(racer).http.post(runs, body);
      }),
    );
    const won = answers.flatMap(({ status }, racer) => (status === 200 ? [`racer-${racer}`] : []));
    for (const { status, body } of answers) if (status === 200) cluster().note(body);
    expect(answers.map(({ status }) => status).filter((status) => status !== 200 && status !== 409)).toEqual([]);
    await endedOf(n, thread_id);
    const { values } = await ok(anyone(n).http.get(`/threads/${thread_id}/state`));
    // A resume that comes when the first has already ended answers the next question: then both have won one.
    expect([n, values.answers]).toEqual([n, expect.arrayContaining(won)]);
    expect(values.answers).toHaveLength(won.length);
  });
  const answered = executions(log).map(({ id, node }) => `${id} ${node}`);
  expect(new Set(answered).size).toBe(answered.length);
  expect(await cluster().faults({ gone })).toEqual([]);
});

test("cancels of one run, 200 rounds: the run ends interrupted and once, whoever asked", async () => {
  const log = cluster().file("cancel.log");
  await rounds(200, async (racers, n) => {
    const id = `cancel-${n}`;
    const gate = cluster().file("never");
    const run = await cluster().run(anyone(n), { assistant_id: "work", input: { id, log, one: { gate } } });
    const path = `/threads/${run.thread_id}/runs/${run.run_id}`;
    const answers = await race(racers, `${path}/cancel?wait=1`);
    // One that comes after the end may be told so.
    expect(answers.map(({ status }) => status).filter((status) => ![200, 404, 409].includes(status))).toEqual([]);
    expect(answers.some(({ status }) => status === 200)).toBe(true);
    expect((await ok(anyone(n).http.get(path))).status).toBe("interrupted");
    expect((await ok(anyone(n).http.get(`/threads/${run.thread_id}`))).status).toBe("idle");
  });
  expect(executions(log).filter(({ node, what }) => node !== "one" || what === "end")).toEqual([]);
  expect(await cluster().faults({ gone })).toEqual([]);
});

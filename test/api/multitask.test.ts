/** Runs that meet on a thread: the strategies, and who wins when several come at once. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type Any,
  Api,
  type Body,
  database,
  Gate,
  numbers,
  type Place,
  useServer,
  useTempDir,
} from "../runs/support.ts";
import { eventually, startServer } from "../support/server.ts";

const api = useServer();
const temp = useTempDir();
const plain = { assistant_id: "plain", input: { value: 1 } };
let count = 0;

async function running(thread_id?: string, where: Pick<Api, "thread" | "post"> = api): Promise<Place & { gate: Gate }> {
  count += 1;
  const gate = new Gate(temp.dir, `multi-${count}`);
  const thread = thread_id ?? (await where.thread());
  const { run_id } = await where.post(`/threads/${thread}/runs`, { assistant_id: "slow", input: gate.input });
  await eventually(() => gate.log.includes("start 1"));
  return { gate, thread_id: thread, run_id, path: `/threads/${thread}/runs/${run_id}` };
}

const race = (thread_id: string, body: Body, times = 20): Promise<Any[]> =>
  Promise.all(numbers(times).map(() => api.http.post(`/threads/${thread_id}/runs`, body)));
const statuses = (answers: readonly Any[]): number[] => answers.map(({ status }) => status).sort();
const listed = (thread_id: string): Promise<Any[]> => api.get(`/threads/${thread_id}/runs?limit=100`);

describe("twenty creations at once on an idle thread", () => {
  test("reject: one is made, nineteen are refused", async () => {
    for (const round of numbers(3)) {
      const thread_id = await api.thread();
      const gate = new Gate(temp.dir, `reject-${round}`);
      const answers = await race(thread_id, { assistant_id: "slow", input: gate.input, multitask_strategy: "reject" });
      expect(statuses(answers)).toEqual([200, ...numbers(19).map(() => 409)]);
      const [made] = answers.filter(({ status }) => status === 200).map(({ body }) => body.run_id);
      for (const { status, body } of answers) if (status === 409) expect(body.detail).toContain(made);
      expect((await listed(thread_id)).map(({ run_id }) => run_id)).toEqual([made]);
      gate.openAll();
      await api.get(`/threads/${thread_id}/runs/${made}/join`);
    }
  });

  test("enqueue: all run, one at a time, in order", async () => {
    const thread_id = await api.thread();
    const body = { assistant_id: "plain", input: { value: 1 } };
    const answers = await race(thread_id, body);
    expect(statuses(answers)).toEqual(numbers(20).map(() => 200));
    for (const { body } of answers) await api.get(`/threads/${thread_id}/runs/${body.run_id}/join`);
    expect((await listed(thread_id)).map(({ status }) => status)).toEqual(numbers(20).map(() => "success"));
    expect((await api.get(`/threads/${thread_id}/state`)).values.steps).toHaveLength(40);
  });

  test.each(["interrupt", "rollback"])("%s: the last one lives", async (multitask_strategy) => {
    const thread_id = await api.thread();
    const gate = new Gate(temp.dir, `last-${multitask_strategy}`);
    const answers = await race(thread_id, { assistant_id: "slow", input: gate.input, multitask_strategy });
    expect(statuses(answers)).toEqual(numbers(20).map(() => 200));
    gate.openAll();
    const [newest] = await listed(thread_id);
    const output = await api.get(`/threads/${thread_id}/runs/${newest.run_id}/join`);
    const runs = await listed(thread_id);
    expect(runs[0]).toMatchObject({ run_id: newest.run_id, status: "success" });
    if (multitask_strategy === "rollback") {
      expect(runs).toHaveLength(1);
      expect(output.steps).toEqual([1, 2, 3]);
    } else {
      expect(runs).toHaveLength(20);
      expect(new Set(runs.slice(1).map(({ status }) => status))).toEqual(new Set(["interrupted"]));
    }
    expect((await api.get(`/threads/${thread_id}`)).status).toBe("idle");
  });

  test("if_not_exists create: one thread, every run on it", async () => {
    const thread_id = crypto.randomUUID();
    const answers = await race(thread_id, { ...plain, if_not_exists: "create" });
    expect(statuses(answers)).toEqual(numbers(20).map(() => 200));
    expect(await listed(thread_id)).toHaveLength(20);
    const [newest] = await listed(thread_id);
    await api.get(`/threads/${thread_id}/runs/${newest.run_id}/join`);
  });

  test("without it: 404, and no thread is made", async () => {
    for (const extra of [{}, { if_not_exists: "reject" }, { if_not_exists: null }]) {
      const thread_id = crypto.randomUUID();
      expect(statuses(await race(thread_id, { ...plain, ...extra }, 3))).toEqual([404, 404, 404]);
      expect((await api.http.get(`/threads/${thread_id}`)).status).toBe(404);
    }
  });
});

test("interrupt: all in flight end, running and waiting, and the new one runs on what they left", async () => {
  const first = await running();
  const waiting = await Promise.all(numbers(3).map(() => api.post(`/threads/${first.thread_id}/runs`, plain)));
  first.gate.open(1);
  await eventually(() => first.gate.log.includes("start 2"));
  const body = { ...plain, multitask_strategy: "interrupt" };
  const output = await api.wait(body, `/threads/${first.thread_id}/runs/wait`);
  expect(output.steps).toEqual([1, "first", "second"]);
  const runs = await listed(first.thread_id);
  expect(runs.map(({ status }) => status)).toEqual(["success", ...numbers(4).map(() => "interrupted")]);
  expect(waiting).toHaveLength(3);
});

describe("rollback leaves no trace", () => {
  test("no row, checkpoint, write or event; the thread is as it was", async () => {
    await using server = await startServer();
    const own = new Api(server);
    const thread_id = await own.thread();
    await own.wait({ assistant_id: "hitl", input: { question: "Well?" } }, `/threads/${thread_id}/runs/wait`);
    const shown = async () => {
      const { status, values, interrupts, metadata } = await own.get(`/threads/${thread_id}`);
      return { status, values, interrupts, metadata };
    };
    const before = [await shown(), await own.get(`/threads/${thread_id}/state`)];

    count += 1;
    const gate = new Gate(temp.dir, `trace-${count}`);
    const body = {
      assistant_id: "slow",
      input: gate.input,
      stream_resumable: true,
      stream_mode: ["values", "updates"],
    };
    const { run_id } = await own.post(`/threads/${thread_id}/runs`, body);
    gate.open(1);
    await eventually(() => gate.log.includes("start 2"));
    expect((await shown()).status).toBe("busy");
    await own.http.post(`/threads/${thread_id}/runs/${run_id}/cancel?action=rollback&wait=true`);
    expect([await shown(), await own.get(`/threads/${thread_id}/state`)]).toEqual(before);
    const watch = await own.open(`/threads/${thread_id}/stream?stream_modes=lifecycle`, { lastEventId: "-" });
    const replayed = await watch.until(({ data }) => data?.includes("run_done") === true);
    expect(replayed.some(({ data }) => data?.includes(run_id))).toBe(false);
    watch.close();
    await server.stop();

    const db = database(server.data);
    for (const table of [
      "runs",
      "checkpoints",
      "checkpoint_blobs",
      "checkpoint_writes",
      "event_logs",
      "event_chunks",
    ]) {
      expect([table, await db.all(`select count(*) as n from ${table} where run_id = ?`, run_id)]).toEqual([
        table,
        [{ n: 0 }],
      ]);
    }
    db.close();
  });

  test("of an answer: those given before in the same node stay, and the question waits again", async () => {
    const thread_id = await api.thread();
    const gate = join(temp.dir, "gate-held-answer");
    const path = `/threads/${thread_id}/runs`;
    const resume = (answer: string) => ({ assistant_id: "questions", command: { resume: answer } });
    const log = join(temp.dir, "held-answer.log");
    const begun = () => readFileSync(log, "utf8").trimEnd().split("\n").length;
    await api.wait({ assistant_id: "questions", input: { twice: true, gate, log } }, `${path}/wait`);
    const shown = async () => [
      (await api.get(`/threads/${thread_id}`)).interrupts,
      await api.get(`/threads/${thread_id}/state`),
    ];
    const first = await shown();
    await api.wait(resume("wrong"), `${path}/wait`);
    const [{ run_id: wrong }] = await listed(thread_id);
    expect((await api.http.delete(`${path}/${wrong}`)).status).toBe(200);
    expect(await shown()).toEqual(first);

    await api.wait(resume("a"), `${path}/wait`);
    const second = await shown();
    const { run_id } = await api.post(path, resume("b"));
    await eventually(() => begun() === 4);
    expect((await api.http.post(`${path}/${run_id}/cancel?action=rollback&wait=1`)).status).toBe(200);
    expect(await shown()).toEqual(second);
    writeFileSync(gate, "");
    await api.wait(resume("c"), `${path}/wait`);
    const { answers } = await api.wait(resume("d"), `${path}/wait`);
    expect(answers).toEqual(["1: a", "1: c", "2: d"]);
  });

  test("by the next run: it starts from what was before", async () => {
    const thread_id = await api.thread();
    await api.wait(plain, `/threads/${thread_id}/runs/wait`);
    const { path, gate } = await running(thread_id);
    gate.open(1);
    await eventually(() => gate.log.includes("start 2"));
    const body = { ...plain, multitask_strategy: "rollback" };
    const { steps } = await api.wait(body, `/threads/${thread_id}/runs/wait`);
    expect(steps).toEqual(["first", "second", "first", "second"]);
    expect((await api.http.get(path)).status).toBe(404);
    expect((await api.get(`/threads/${thread_id}`)).metadata.graph_id).toBe("plain");
  });

  test("by the next run, from a checkpoint of the one it overtakes: that fails, and does not begin with nothing", async () => {
    const thread_id = await api.thread();
    await api.wait(plain, `/threads/${thread_id}/runs/wait`);
    const before = await api.get(`/threads/${thread_id}/state`);
    const { gate } = await running(thread_id);
    gate.open(1);
    await eventually(() => gate.log.includes("start 2"));
    const mine = async () => (await api.get(`/threads/${thread_id}/state`)).checkpoint;
    await eventually(async () => (await mine()).checkpoint_id !== before.checkpoint.checkpoint_id);
    const checkpoint = await mine();
    const body = { ...plain, multitask_strategy: "rollback", checkpoint };
    const output = await api.wait(body, `/threads/${thread_id}/runs/wait`);
    expect(output.__error__.error).toBe("CheckpointGoneError");
    expect(output.__error__.message).toContain(checkpoint.checkpoint_id);
    expect(await api.get(`/threads/${thread_id}/state`)).toEqual(before);
  });
});

test("many runs behind one thread do not hold up another, and all get their turn", async () => {
  const first = await running();
  const behind = await Promise.all(numbers(60).map(() => api.post(`/threads/${first.thread_id}/runs`, plain)));
  expect((await api.wait(plain)).value).toBe(4);
  const last = behind.at(-1);
  await api.http.post("/runs/cancel", {
    thread_id: first.thread_id,
    run_ids: behind.slice(1, 30).map((r) => r.run_id),
  });
  first.gate.openAll();
  for (const { run_id } of behind) await api.get(`/threads/${first.thread_id}/runs/${run_id}/join`);
  expect((await api.get(`/threads/${first.thread_id}/runs/${last.run_id}`)).status).toBe("success");
  expect((await api.get(`/threads/${first.thread_id}`)).status).toBe("idle");
});

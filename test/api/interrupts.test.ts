/** Runs that stop for a person: static and dynamic, several at once, in subgraphs; and who may answer. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Any, type Body, numbers, payloads, useServer, useTempDir } from "../runs/support.ts";
import { eventually } from "../support/server.ts";

const api = useServer();
const temp = useTempDir();
let count = 0;

/** A new thread, and `wait` on it. */
async function conversation(): Promise<{ id: string; wait(body: Body): Promise<Any>; shown(): Promise<Any> }> {
  const id = await api.thread();
  return { id, wait: (body) => api.wait(body, `/threads/${id}/runs/wait`), shown: () => api.get(`/threads/${id}`) };
}

const resume = (value: unknown, extra: Body = {}): Body => ({
  assistant_id: "questions",
  command: { resume: value },
  ...extra,
});
const asked = (output: Any): string[] => output.__interrupt__?.map(({ value }: Any) => value) ?? [];

/** A thread that waits at the first of two questions. */
async function questioned(
  input: Body = {},
): Promise<Awaited<ReturnType<typeof conversation>> & { id1: string; nodes(): string[] }> {
  count += 1;
  const log = join(temp.dir, `nodes-${count}.log`);
  const thread = await conversation();
  const output = await thread.wait({ assistant_id: "questions", input: { log, ...input } });
  expect(asked(output)).toEqual(["question 1"]);
  const nodes = () => (existsSync(log) ? readFileSync(log, "utf8").trimEnd().split("\n") : []);
  return { ...thread, id1: output.__interrupt__[0].id, nodes };
}

describe("static", () => {
  test.each([
    ["interrupt_before", ["second"], ["first"]],
    ["interrupt_after", ["first"], ["first"]],
    ["interrupt_before", "*", []],
    ["interrupt_after", "*", ["first"]],
  ])("%s %j: it stops, shows where, and goes on with null", async (field, nodes, done) => {
    const thread = await conversation();
    const stopped = await thread.wait({ assistant_id: "plain", input: { value: 1 }, [field]: nodes });
    expect(stopped).toMatchObject({ steps: done, __interrupt__: [] });
    expect((await thread.shown()).status).toBe("interrupted");
    expect((await api.get(`/threads/${thread.id}/runs`))[0].status).toBe("interrupted");
    expect(await thread.wait({ assistant_id: "plain", input: null })).toEqual({ value: 4, steps: ["first", "second"] });
    expect((await thread.shown()).status).toBe("idle");
  });

  test("a node the graph does not have: the run says so", async () => {
    const thread = await conversation();
    const output = await thread.wait({ assistant_id: "plain", input: { value: 1 }, interrupt_before: ["nowhere"] });
    expect(output.__error__ ?? output).toBeDefined();
    expect(await api.get(`/threads/${thread.id}/runs`)).toHaveLength(1);
  });
});

describe("dynamic", () => {
  test.each([["yes"], [false], [0], [""], [["a", "b"]], [{ any: "thing" }]])("resume with %j", async (answer) => {
    const thread = await conversation();
    await thread.wait({ assistant_id: "hitl", input: {} });
    const output = await thread.wait({ assistant_id: "hitl", command: { resume: answer } });
    expect(output).toMatchObject({ answers: { person: answer }, done: "person" });
  });

  test("null is an answer like any other", async () => {
    const thread = await conversation();
    await thread.wait({ assistant_id: "hitl", input: {} });
    const output = await thread.wait({ assistant_id: "hitl", command: { resume: null } });
    expect(output).toMatchObject({ answers: { person: null }, done: "person" });
  });

  test("two at once, answered together by id", async () => {
    const thread = await conversation();
    const { __interrupt__: questions } = await thread.wait({ assistant_id: "hitl2", input: {} });
    expect(questions.map(({ value }: Any) => value.ask).sort()).toEqual(["left", "right"]);
    const ids = Object.values<Any>((await thread.shown()).interrupts).flatMap((of) => of.map(({ id }: Any) => id));
    expect(ids.sort()).toEqual(questions.map(({ id }: Any) => id).sort());
    const answers = Object.fromEntries(questions.map(({ id, value }: Any) => [id, `to the ${value.ask}`]));
    const output = await thread.wait({ assistant_id: "hitl2", command: { resume: answers } });
    expect(output).toMatchObject({ answers: { left: "to the left", right: "to the right" }, done: "left+right" });
  });

  test("two at once, answered one after the other", async () => {
    const thread = await conversation();
    const { __interrupt__: questions } = await thread.wait({ assistant_id: "hitl2", input: {} });
    const [one, two] = questions;
    const first = await thread.wait({ assistant_id: "hitl2", command: { resume: { [one.id]: 1 } } });
    expect(first.__interrupt__.map(({ id }: Any) => id)).toEqual([two.id]);
    expect((await thread.shown()).status).toBe("interrupted");
    // The same answer again: it is not asked any more.
    const again = await thread.wait({ assistant_id: "hitl2", command: { resume: { [one.id]: "again" } } });
    expect(again.__interrupt__.map(({ id }: Any) => id)).toEqual([two.id]);
    const last = await thread.wait({ assistant_id: "hitl2", command: { resume: { [two.id]: 2 } } });
    expect(last.answers).toEqual({ [one.value.ask]: 1, [two.value.ask]: 2 });
  });

  test("two at once and one bare answer: both take it, as in LangGraph.js; strictly, it must be told which", async () => {
    const thread = await conversation();
    await thread.wait({ assistant_id: "hitl2", input: {} });
    const bare = { assistant_id: "hitl2", command: { resume: "which?" } };
    const refused = await thread.wait({ ...bare, strict_resume: true });
    expect(refused.__error__).toMatchObject({ error: "UnknownInterruptError" });
    expect(refused.__error__.message).toContain("multiple pending interrupts");
    expect((await thread.shown()).status).toBe("interrupted");
    expect((await thread.wait(bare)).answers).toEqual({ left: "which?", right: "which?" });
  });

  test("in a subgraph of a subgraph", async () => {
    const thread = await conversation();
    const { __interrupt__: questions } = await thread.wait({ assistant_id: "nested", input: { ask: true } });
    expect(questions).toHaveLength(1);
    const by_id = { [questions[0].id]: "sure" };
    const output = await thread.wait({ assistant_id: "nested", command: { resume: by_id } });
    expect(output.trail).toEqual(["outer", "before", "deep", "answer: sure", "last"]);
  });

  test("two in one node, one after the other", async () => {
    const thread = await questioned({ twice: true });
    expect(asked(await thread.wait(resume("a")))).toEqual(["question 1b"]);
    expect(asked(await thread.wait(resume("b")))).toEqual(["question 2"]);
    expect((await thread.wait(resume("c"))).answers).toEqual(["1: a", "1: b", "2: c"]);
  });
});

describe("one answer wins", () => {
  test("two bare answers to one question: the second changes nothing, and answers no other question", async () => {
    const gate = join(temp.dir, "gate-two");
    const thread = await questioned({ gate });
    const path = `/threads/${thread.id}/runs`;
    const made = await Promise.all(["a", "b"].map((answer) => api.post(path, resume(answer))));
    writeFileSync(gate, "");
    const outputs = await Promise.all(made.map(({ run_id }) => api.get(`${path}/${run_id}/join`)));
    for (const output of outputs) expect(asked(output)).toEqual(["question 2"]);
    expect(outputs[0].answers).toHaveLength(1);
    expect(outputs[1]).toEqual(outputs[0]);
    expect(thread.nodes()).toEqual(["node 1", "node 1", "node 2"]);
    expect((await thread.shown()).status).toBe("interrupted");
    const [{ answers }] = [await thread.wait(resume("c"))];
    expect(answers).toEqual([expect.stringMatching(/^1: [ab]$/), "2: c"]);
  });

  test("twenty of them, by id and bare, streamed and waited for", async () => {
    const gate = join(temp.dir, "gate-answers");
    const thread = await questioned({ gate });
    const path = `/threads/${thread.id}/runs`;
    const outputs = numbers(20).map(async (index) => {
      const body = resume(index % 2 === 0 ? "bare" : { [thread.id1]: "by id" });
      if (index % 3 !== 0) return api.wait(body, `${path}/wait`);
      const values = payloads(await api.stream({ ...body, stream_mode: "values" }, `${path}/stream`), "values");
      return { ...values.findLast((value) => value.answers), ...values.at(-1) };
    });
    // The first has taken the question and is held; all others come while it is at it.
    await eventually(async () => (await api.get(`${path}?limit=100`)).length === 21);
    writeFileSync(gate, "");
    for (const { answers } of await Promise.all(outputs)) expect(answers).toHaveLength(1);
    expect(thread.nodes()).toEqual(["node 1", "node 1", "node 2"]);
    expect(await api.get(`/threads/${thread.id}/state`)).toMatchObject({ next: ["second"] });
  });

  test("a late answer by id does nothing: not to the next question, nor to a thread that is done", async () => {
    const thread = await questioned();
    const next = await thread.wait(resume({ [thread.id1]: "a" }));
    const before = await api.get(`/threads/${thread.id}/state`);
    expect(await thread.wait(resume({ [thread.id1]: "late" }))).toEqual(next);
    expect(thread.nodes()).toEqual(["node 1", "node 1", "node 2"]);
    expect(await api.get(`/threads/${thread.id}/state`)).toEqual(before);
    const done = await thread.wait(resume("b"));
    expect(await thread.wait(resume({ [thread.id1]: "late" }))).toEqual(done);
    expect((await thread.shown()).status).toBe("idle");
    expect((await api.get(`/threads/${thread.id}/runs?limit=1`))[0].status).toBe("success");
  });

  test("strict_resume: it fails, and the thread stays as it was", async () => {
    const thread = await questioned();
    await thread.wait(resume({ [thread.id1]: "a" }));
    const before = [await api.get(`/threads/${thread.id}/state`), (await thread.shown()).interrupts];
    const refused = await thread.wait(resume({ [thread.id1]: "late" }, { strict_resume: true }));
    expect(refused.__error__).toMatchObject({ error: "UnknownInterruptError" });
    expect((await api.get(`/threads/${thread.id}/runs?limit=1`))[0].status).toBe("error");
    expect([await api.get(`/threads/${thread.id}/state`), (await thread.shown()).interrupts]).toEqual(before);
    expect((await thread.shown()).status).toBe("interrupted");
    expect((await thread.wait(resume("b", { strict_resume: true }))).answers).toEqual(["1: a", "2: b"]);
    expect((await api.http.post(`/threads/${thread.id}/runs`, resume("x", { strict_resume: "yes" }))).status).toBe(422);
  });

  test("the first answer is rolled back by the second: the second counts", async () => {
    const thread = await questioned();
    const path = `/threads/${thread.id}/runs`;
    const [, second] = await Promise.all([
      api.post(path, resume("a")),
      api.wait(resume("b", { multitask_strategy: "rollback" }), `${path}/wait`),
    ]);
    expect(asked(second)).toEqual(["question 2"]);
    expect((await thread.wait(resume("c"))).answers).toHaveLength(2);
  });

  test("an answer that is sent while the question is still on its way takes it", async () => {
    const thread = await conversation();
    const path = `/threads/${thread.id}/runs`;
    await api.post(path, { assistant_id: "hitl", input: {}, after_seconds: 0 });
    const output = await thread.wait({ assistant_id: "hitl", command: { resume: "early" } });
    expect(output.answers).toEqual({ person: "early" });
  });
});

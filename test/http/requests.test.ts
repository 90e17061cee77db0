/** What goes in: parameters, queries, bodies; and how each mistake is named. */
import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Harness, RUN_ID, start, THREAD_ID, UNKNOWN_ID } from "./fake-services.ts";

let server: Harness;
beforeAll(async () => {
  server = await start();
});
afterAll(() => server[Symbol.asyncDispose]());

const runs = `/threads/${THREAD_ID}/runs`;
const run = `${runs}/${RUN_ID}`;
const detail = async (response: Response): Promise<string> => ((await response.json()) as { detail: string }).detail;
const nested = (depth: number, open = "[", close = "]") =>
  `{"assistant_id":"a","input":${open.repeat(depth)}1${close.repeat(depth)}}`;

describe("a wrong request is 422 and says where", () => {
  const cases: [string, string, unknown, string | RegExp][] = [
    ["no assistant", runs, { input: {} }, "assistant_id: field required (a string)"],
    ["wrong type", runs, { assistant_id: 1 }, "assistant_id: expected a string, got 1"],
    [
      "nested field",
      runs,
      { assistant_id: "a", config: { recursion_limit: 1.5 } },
      /^config\.recursion_limit: expected an integer, got 1\.5$/,
    ],
    [
      "unknown mode",
      runs,
      { assistant_id: "a", stream_mode: "nope" },
      /^stream_mode: expected one of values, messages, .*, tools or an array, got "nope"$/,
    ],
    [
      "unknown mode in a list",
      runs,
      { assistant_id: "a", stream_mode: ["values", "nope"] },
      /^stream_mode\.1: expected one of values, .* got "nope"$/,
    ],
    [
      "breakpoints",
      runs,
      { assistant_id: "a", interrupt_before: 5 },
      `interrupt_before: expected "*" or an array, got 5`,
    ],
    [
      "goto",
      runs,
      { assistant_id: "a", command: { goto: [{ node: 1, input: 2 }] } },
      "command.goto.0.node: expected a string, got 1",
    ],
    ["strategy", runs, { assistant_id: "a", multitask_strategy: "x" }, /^multitask_strategy: expected one of reject, /],
    ["not an object", runs, [1], "body: expected an object, got an array"],
    ["null", runs, "null", "body: expected an object, got null"],
    [
      "huge number",
      runs,
      `{"assistant_id":"a","after_seconds":1e999}`,
      "after_seconds: expected a number, got a number out of range",
    ],
    ["malformed", runs, "{not json", /^body: malformed JSON/],
    ["cut off", runs, `{"assistant_id":"a`, /^body: malformed JSON/],
    ["empty", runs, "", "body: a JSON body is required"],
    ["deep arrays", runs, nested(5000), "body: nested deeper than 200 levels"],
    ["deep objects", runs, nested(200, `{"a":`, "}"), "body: nested deeper than 200 levels"],
    ["very deep", runs, `${'{"a":'.repeat(10_000)}1`, "body: nested deeper than 200 levels"],
    [
      "__proto__",
      runs,
      `{"assistant_id":"a","input":{"x":[{"__proto__":{"a":1}}]}}`,
      "input.x.0.__proto__: this key is not allowed",
    ],
    ["escaped __proto__", runs, `{"assistant_id":"a","\\u005f_proto__":1}`, "__proto__: this key is not allowed"],
    ["empty batch", "/runs/batch", [], /^body: /],
    ["batch item", "/runs/batch", [{ assistant_id: "a" }, {}], "1.assistant_id: field required (a string)"],
    ["thread id", "/threads", { thread_id: "x" }, `thread_id: expected a UUID, got "x"`],
    ["thread in path", "/threads/nope/runs", { assistant_id: "a" }, `thread_id: expected a UUID, got "nope"`],
    ["run in path", `${runs}/nope/cancel`, undefined, `run_id: expected a UUID, got "nope"`],
    ["action", `${run}/cancel?action=x`, undefined, `action: expected one of interrupt, rollback, got "x"`],
    ["wait", `${run}/cancel?wait=maybe`, undefined, `wait: expected a boolean, got "maybe"`],
    ["limit", "/assistants/search", { limit: 1001 }, /^limit: /],
    ["select", "/assistants/search", { select: ["nope"] }, /^select\.0: expected one of assistant_id, /],
    ["no checkpoint", `/threads/${THREAD_ID}/state/checkpoint`, {}, "checkpoint: field required (an object)"],
  ];
  it.each(cases)("%s", async (_, path, body, expected) => {
    const response = await server.post(path, body);
    expect(response.status).toBe(422);
    expect(response.headers.get("content-type")).toContain("application/json");
    expect(await detail(response)).toEqual(typeof expected === "string" ? expected : expect.stringMatching(expected));
  });

  const gets: [string, string | RegExp][] = [
    [`${runs}?limit=x`, `limit: expected a number, got "x"`],
    [`${runs}?offset=-1`, /^offset: /],
    [`${runs}?status=nope`, /^status: expected one of pending, /],
    [`${run}/stream?stream_mode=nope`, /^stream_mode: expected one of values, /],
    [`${run}/stream?stream_mode=values,nope`, /^stream_mode\.1: expected one of values, /],
    ["/metrics?format=xml", /^format: expected one of prometheus, json/],
    ["/ok?check_db=5", /^check_db: /],
    ["/assistants/a/graph?xray=x", /^xray: expected a boolean or a number/],
  ];
  it.each(gets)("GET %s", async (path, expected) => {
    const response = await server.fetch(path);
    expect(response.status).toBe(422);
    expect(await detail(response)).toEqual(typeof expected === "string" ? expected : expect.stringMatching(expected));
  });
});

describe("bodies", () => {
  it("takes 200 levels, and brackets inside strings do not count", async () => {
    expect((await server.post(runs, nested(199))).status).toBe(200);
    const text = `\\"${"[{".repeat(500)}\\\\`;
    expect((await server.post(runs, `{"assistant_id":"a","input":"${text}"}`)).status).toBe(200);
    expect(server.last("runs.create")[1]).toMatchObject({ input: `"${"[{".repeat(500)}\\` });
  });

  it("repairs NUL and lone surrogates in strings and keys", async () => {
    const input = `{"k\\u0000":["x\\u0000y","\\ud800","\\ud83d\\ude00"]}`;
    const body = `{"assistant_id":"a","input":${input},"metadata":{"raw":"\0"}}`;
    expect((await server.post(runs, body)).status).toBe(200);
    expect(server.last("runs.create")[1]).toMatchObject({
      input: { "k\uFFFD": ["x\uFFFDy", "\uFFFD", "😀"] },
      metadata: { raw: "\uFFFD" },
    });
  });

  it("reads JSON under any content type, or none", async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", ""]) {
      expect((await server.post(runs, `{"assistant_id":"a"}`, { "content-type": type })).status).toBe(200);
    }
  });

  it("may be empty where everything is optional", async () => {
    for (const path of ["/threads", "/assistants/search", "/assistants/count"]) {
      expect((await server.post(path, undefined, {})).status).toBe(200);
      expect((await server.post(path, "")).status).toBe(200);
    }
    expect(server.last("threads.create")[0]).toEqual({});
  });

  it("drops unknown fields and keeps nulls", async () => {
    await server.post(runs, {
      assistant_id: "a",
      input: null,
      nope: 1,
      command: { lg_name: "Command", resume: null, goto: [] },
    });
    expect(server.last("runs.create")[1]).toEqual({
      assistant_id: "a",
      input: null,
      command: { resume: null, goto: [] },
    });
  });

  it("is limited by its declared length and by its counted length", async () => {
    const big = JSON.stringify({ assistant_id: "a", input: "x".repeat(200_000) });
    const declared = await server.post(runs, big);
    expect(declared.status).toBe(413);
    expect(await detail(declared)).toBe("The request body is larger than 100000 bytes");
    expect(await chunked(big)).toMatchObject({
      status: 413,
      body: `{"detail":"The request body is larger than 100000 bytes"}`,
    });
    expect(await chunked(`{"assistant_id":"chunked"}`)).toMatchObject({ status: 200 });
  });

  function chunked(body: string): Promise<{ status: number | undefined; body: string }> {
    return new Promise((resolve, reject) => {
      const req = request({ port: server.port, path: runs, method: "POST" }, async (res) => {
        let text = "";
        for await (const chunk of res) text += String(chunk);
        resolve({ status: res.statusCode, body: text });
      });
      req.on("error", reject);
      for (let i = 0; i < body.length; i += 10_000) req.write(body.slice(i, i + 10_000));
      req.end();
    });
  }
});

describe("batch", () => {
  it("takes the JS SDK's camelCase keys, at the top only", async () => {
    const item = {
      assistantId: "x",
      assistant_id: "a",
      streamMode: "values",
      onCompletion: "keep",
      input: { onCompletion: 1 },
      metadata: { aB: 1 },
    };
    expect((await server.post("/runs/batch", [item])).status).toBe(200);
    expect(server.last("runs.createBatch")[0]).toEqual([
      {
        assistant_id: "a",
        stream_mode: "values",
        on_completion: "keep",
        input: { onCompletion: 1 },
        metadata: { aB: 1 },
      },
    ]);
  });
});

describe("queries are read leniently", () => {
  const modes: [string, unknown][] = [
    ["", null],
    ["stream_mode=", null],
    ["stream_mode=values", ["values"]],
    ["stream_mode=values&stream_mode=updates", ["values", "updates"]],
    ["stream_mode=%5B%22values%22%2C%22tools%22%5D", ["values", "tools"]],
    ["stream_mode=values,messages-tuple", ["values", "messages-tuple"]],
    ["__proto__=1&constructor=2", null],
  ];
  it.each(modes)("modes: %s", async (query, expected) => {
    await (await server.fetch(`${run}/stream?${query}`)).text();
    expect(server.last("runs.follow")[2]).toMatchObject({ modes: expected });
  });

  const ids: [string | null, string, number][] = [
    [null, "", -1],
    ["-1", "", -1],
    ["7", "", 7],
    ["1720000000000-0", "", -1],
    ["garbage", "", -1],
    ["99999999999999999999", "", -1],
    [null, "?last_event_id=3", 3],
  ];
  it.each(ids)("Last-Event-ID %s%s", async (id, query, after) => {
    const headers = id === null ? {} : { "Last-Event-ID": id };
    await (await server.fetch(`${run}/stream${query}`, { headers })).text();
    expect(server.last("runs.follow")[2]).toMatchObject({ after });
  });

  it("cancel", async () => {
    const cancelled = async (query: string) => {
      const response = await server.post(`${run}/cancel${query}`, undefined, {});
      expect([response.status, await response.text()]).toEqual([200, "{}"]);
      return server.last("runs.cancel").slice(2);
    };
    expect(await cancelled("")).toEqual(["interrupt", false]);
    expect(await cancelled("?wait=0&action=rollback&reason=taken")).toEqual(["rollback", false]);
    expect(await cancelled("?wait=true&action=")).toEqual(["interrupt", true]);
    expect(await cancelled("?wait=1")).toEqual(["interrupt", true]);
  });

  it("xray is a boolean or a depth", async () => {
    const xray = async (query: string) => {
      await server.fetch(`/assistants/a/graph${query}`);
      return server.last("assistants.graph")[1];
    };
    expect([await xray(""), await xray("?xray=true"), await xray("?xray=false"), await xray("?xray=2")]).toEqual([
      false,
      true,
      false,
      2,
    ]);
  });

  it("list of runs", async () => {
    await server.fetch(runs);
    expect(server.last("runs.list")[1]).toEqual({ limit: 10, offset: 0, status: null, select: null });
    await server.fetch(`${runs}?limit=5&offset=2&status=running`);
    expect(server.last("runs.list")[1]).toEqual({ limit: 5, offset: 2, status: "running", select: null });
  });
});

describe("paths", () => {
  it("decodes segments, and takes them bare", async () => {
    await server.fetch("/assistants/my%20agent/subgraphs/middle%7Cinner?recurse=1");
    expect(server.last("assistants.subgraphs")).toEqual(["my agent", "middle|inner", true]);
    await server.fetch("/assistants/agent/subgraphs/middle|inner");
    expect(server.last("assistants.subgraphs")).toEqual(["agent", "middle|inner", false]);
    await server.fetch("/assistants/%C3%A9%00/schemas");
    expect(server.last("assistants.schemas")).toEqual(["é\uFFFD"]);
  });

  it("brings ids to one form", async () => {
    await server.fetch(`/threads/${RUN_ID.toUpperCase()}`);
    expect(server.last("threads.get")).toEqual([RUN_ID, []]);
  });

  it("state: latest, by id, by object", async () => {
    const state = `/threads/${THREAD_ID}/state`;
    await server.fetch(`${state}?subgraphs=true&checkpoint_id=c1`);
    expect(server.last("threads.state")).toEqual([THREAD_ID, { checkpoint_id: "c1" }, true]);
    await server.fetch(`${state}/c2`);
    expect(server.last("threads.state")).toEqual([THREAD_ID, { checkpoint_id: "c2" }, false]);
    await server.post(`${state}/checkpoint`, {
      checkpoint: { thread_id: THREAD_ID, checkpoint_map: null },
      subgraphs: true,
    });
    expect(server.last("threads.state")).toEqual([THREAD_ID, { thread_id: THREAD_ID, checkpoint_map: null }, true]);
  });

  it("unknown run is 404 on every follow path", async () => {
    for (const path of [
      `${runs}/${UNKNOWN_ID}`,
      `${runs}/${UNKNOWN_ID}/join`,
      `${runs}/${UNKNOWN_ID}/stream`,
      `/runs/${UNKNOWN_ID}/stream`,
      `/runs/${UNKNOWN_ID}/join`,
    ]) {
      const response = await server.fetch(path);
      expect([path, response.status, await detail(response)]).toEqual([path, 404, `Run ${UNKNOWN_ID} not found`]);
    }
  });
});

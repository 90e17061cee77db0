/** What `skein start` and `skein dev` promise on the command line. Every refusal says which setting, and exits 1. */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ConfigError, type Flags, loadProject, readSettings } from "../../src/config.ts";
import { ExecutorThread, GraphLoadError } from "../../src/engine/executor-thread.ts";
import { spec } from "../executor/support.ts";
import { http, ok } from "../support/http.ts";
import { newestBuild } from "../support/project.ts";
import {
  eventually,
  FIXTURES,
  project,
  put,
  startServer,
  type TempDir,
  type TestServer,
  tempDir,
} from "../support/server.ts";
import { openSse } from "../support/sse.ts";
import { cli, type Listener, linesOf, listenOn, newThread, openGate, startRun } from "./support.ts";

const says = (word: string): string => `
  import { Annotation, START, StateGraph } from "@langchain/langgraph";
  const State = Annotation.Root({ said: Annotation() });
  export const graph = new StateGraph(State).addNode("say", () => ({ said: ${JSON.stringify(word)} })).addEdge(START, "say").compile();`;

/** What `skein start` makes of its flags and of the environment, or throws. */
const settings = (flags: Flags, env: Record<string, string>) =>
  readSettings("start", flags, loadProject(FIXTURES, env));

const lastLine = (output: string): string => output.trim().split("\n").at(-1) ?? "";

test("start refuses a port that is taken, and says who asked for it", async () => {
  await using other = await listenOn(() => {});
  await using data = await tempDir();
  const { code, output } = await cli(["start", "--config", FIXTURES, "--data", data.dir, "--port", `${other.port}`]);
  expect(code).toBe(1);
  expect(lastLine(output)).toMatch(new RegExp(`\\b${other.port}\\b.*in use.*--port`));
  expect(settings({}, { LANGGRAPH_SERVER_PORT: "2999" })).toMatchObject({
    portSource: "LANGGRAPH_SERVER_PORT",
    port: 2999,
  });
});

describe("a graph that does not load", () => {
  test.each([
    ["throws", 'throw new TypeError("broken on purpose");', /TypeError: broken on purpose/],
    ["exits", "process.exit(0);", /exit/],
  ])("that %s is named with its file and the cause", async (_, source, cause) => {
    await using broken = await project({ "fine.mjs": says("fine"), "broken.mjs": source });
    const { code, output } = await cli(["start", "--config", broken.dir, "--port", "0"]);
    expect(code).toBe(1);
    expect(output).toMatch(cause);
    expect(output).toContain('"broken"');
    expect(output).toContain(join(broken.dir, "broken.mjs"));
    expect(output).not.toContain("listening");
  });

  // In an executor thread as the server starts it: the rest of the way to the command line is the same.
  test.each([
    ["does not parse", "export const graph = (;", /SyntaxError/],
    ["imports what is not there", 'import "nowhere-to-be-found";', /nowhere-to-be-found/],
    ["exports something else", "export const graph = 7;", /graph/],
    ["exports another name", "export const other = 7;", /graph/],
  ])("that %s is told apart", async (_, source, cause) => {
    await using broken = await project({ "broken.mjs": source });
    const file = join(broken.dir, "broken.mjs");
    const thread = new ExecutorThread({
      entry: pathToFileURL(join(newestBuild(), "executor", "main.js")),
      settings: {
        graphs: [{ ...spec("broken", "broken.mjs", "graph"), file }],
        project_dir: broken.dir,
        server_url: "",
      },
      env: process.env,
      heapMb: 512,
      execArgv: [],
      onStorage: () => Promise.reject(new Error("nothing is stored here")),
      onExit: () => undefined,
    });
    const error = await thread.ready.then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(error).toBeInstanceOf(GraphLoadError);
    const { message, stack } = error as GraphLoadError;
    expect(`${message}\n${stack}`).toMatch(cause);
    expect(message).toContain('"broken"');
    expect(message).toContain(file);
  });
});

describe("refuses", () => {
  const start = (...args: string[]) => cli(["start", "--port", "0", ...args]);

  test("a missing langgraph.json, file or folder", async () => {
    await using empty = await tempDir();
    for (const path of [empty.dir, join(empty.dir, "langgraph.json"), join(empty.dir, "nowhere")]) {
      expect(() => loadProject(path, {})).toThrow(ConfigError);
      expect(() => loadProject(path, {})).toThrow(new RegExp(`${path}.* does not exist`));
    }
    const { code, output } = await start("--config", empty.dir);
    expect(code).toBe(1);
    expect(lastLine(output)).toContain(empty.dir);
    expect(lastLine(output)).toContain("does not exist");
  });

  test("a langgraph.json that is not one", async () => {
    for (const [text, why] of [
      ["{ graphs", /langgraph\.json.*not JSON/],
      ["{}", /langgraph\.json.*graphs/],
      ['{"graphs":{"a":"./nowhere.mjs:graph"}}', /"a".*nowhere\.mjs does not exist/],
      ['{"graphs":{"a":7}}', /langgraph\.json.*graphs\.a/],
    ] as const) {
      await using own = await project({ "langgraph.json": text });
      expect(() => loadProject(own.dir, {})).toThrow(ConfigError);
      expect(() => loadProject(own.dir, {})).toThrow(why);
    }
  });

  test("unknown flags and commands", async () => {
    expect(await start("--config", FIXTURES, "--wrokers", "2")).toMatchObject({
      code: 1,
      output: expect.stringContaining("--wrokers"),
    });
    expect(await cli(["serve"])).toMatchObject({ code: 1, output: expect.stringContaining("serve") });
  });

  test.each([
    [["--port", "eighty"], {}, "--port"],
    [["--port", "70000"], {}, "--port"],
    [["--jobs", "0"], {}, "--jobs"],
    [["--jobs", "1.5"], {}, "--jobs"],
    [["--threads", "-1"], {}, "--threads"],
    [[], { LANGGRAPH_SERVER_PORT: "x" }, "LANGGRAPH_SERVER_PORT"],
    [[], { N_JOBS_PER_WORKER: "many" }, "N_JOBS_PER_WORKER"],
    [[], { BG_JOB_MAX_RETRIES: "0" }, "BG_JOB_MAX_RETRIES"],
    [[], { BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: "soon" }, "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"],
    [[], { RESUMABLE_STREAM_TTL_SECONDS: "-5" }, "RESUMABLE_STREAM_TTL_SECONDS"],
    [[], { SKEIN_EXECUTOR_HEAP_MB: "1" }, "SKEIN_EXECUTOR_HEAP_MB"],
    [[], { HTTP_MAX_REQUEST_BODY_BYTES: "10MB" }, "HTTP_MAX_REQUEST_BODY_BYTES"],
    [[], { LOG_LEVEL: "loud" }, "LOG_LEVEL"],
  ])("a bad value: %j %j", (args, env, setting) => {
    const [flag, value] = args as string[];
    const flags: Flags = flag === undefined ? {} : { [flag.slice(2)]: value };
    expect(() => settings(flags, env as Record<string, string>)).toThrow(ConfigError);
    expect(() => settings(flags, env as Record<string, string>)).toThrow(setting);
  });

  test.each([
    [["--jobs", "0"], {}, "--jobs"],
    [[], { LOG_LEVEL: "loud" }, "LOG_LEVEL"],
  ])("in one line, and exits 1: %j %j", async (args, env, setting) => {
    const { code, output } = await cli(["start", "--config", FIXTURES, ...args], { env });
    expect(code).toBe(1);
    expect(output.trim().split("\n")).toHaveLength(1);
    expect(output).toContain(setting);
  });
});

test("start says as JSON where it listens and what it serves; another server on its data folder is refused", async () => {
  await using server = await startServer({ args: ["--threads", "2", "--jobs", "3"] });
  expect(server.logs().find(({ msg }) => msg === "listening")).toMatchObject({
    url: server.url,
    graphs: expect.arrayContaining(["plain", "agent"]),
    data: join(server.data, "skein.db"),
    threads: 2,
    jobs: 3,
  });
  const { code, output } = await cli(["start", "--port", "0", "--config", FIXTURES, "--data", server.data]);
  expect(code).toBe(1);
  expect(lastLine(output)).toMatch(/[Aa]nother Skein process/);
  expect(lastLine(output)).toContain(server.data);
  expect((await http(server.url).get("/ok?check_db=1")).status).toBe(200);
});

describe("dev", () => {
  const say = async (url: string, assistant_id = "say"): Promise<string> =>
    (await ok(http(url).post<{ said: string }>("/runs/wait", { assistant_id, input: {} }))).said;

  test("auth and http.app are loaded anew with what they import; what does not load leaves both as they were", async () => {
    const auth = `import { Auth, HTTPException } from "@langchain/langgraph-sdk/auth";
      import { word } from "./word";
      export const auth = new Auth().authenticate((request: Request) => {
        if (request.headers.get("x-word") !== word) throw new HTTPException(401);
        return "me";
      });`;
    const app = `import { Hono } from "hono";
      import { word } from "./word";
      export const app = new Hono().get("/word", (c) => c.text(word as string));
      export const lifespan = { start: () => console.log("starts", word), stop: () => console.log("stops", word) };`;
    const files = {
      "say.mjs": says("hi"),
      "lib/auth.ts": auth,
      "lib/app.ts": app,
      "lib/word.ts": 'export const word = "one";',
    };
    await using own = await project(files, { auth: { path: "./lib/auth.ts:auth" }, http: { app: "./lib/app.ts:app" } });
    await using server = await startServer({ project: own, command: "dev" });
    const { get, post } = http(server.url);
    const knows = async (word: string) => (await post("/threads/count", {}, { headers: { "x-word": word } })).status;
    const word = join(own.dir, "lib", "word.ts");
    expect([(await get("/word")).text, await knows("one")]).toEqual(["one", 200]);
    await put(word, 'export const word = "two";');
    await eventually(() => /stops one.*starts two.*reloaded say, auth, http\.app/s.test(server.output));
    expect([(await get("/word")).text, await knows("one"), await knows("two")]).toEqual(["two", 401, 200]);
    await put(word, "export const word = ;");
    await eventually(() => /not reloaded.*does not load/s.test(server.output));
    expect([(await get("/word")).text, await knows("two")]).toEqual(["two", 200]);
  });

  describe("of a project that changes", () => {
    const gated = (word: string): string => `
      import { existsSync, appendFileSync } from "node:fs";
      import { setTimeout as delay } from "node:timers/promises";
      import { Annotation, START, StateGraph } from "@langchain/langgraph";
      const State = Annotation.Root({ gate: Annotation(), log: Annotation(), said: Annotation() });
      async function say({ gate, log }) {
        if (log) appendFileSync(log, "start\\n");
        while (gate && !existsSync(gate)) await delay(10);
        return { said: "${word}" };
      }
      export const graph = new StateGraph(State).addNode("say", say).addEdge(START, "say").compile();`;
    let other: Listener;
    let own: TempDir;
    let server: TestServer;
    beforeAll(async () => {
      const source = says("")
        .replace('""', "word")
        .replace("import", 'import { word } from "./lib/word.mjs";\n  import');
      const files = { "say.mjs": source, "lib/word.mjs": 'export const word = "one";', "gated.mjs": gated("old") };
      other = await listenOn(() => {});
      own = await project(files);
      server = await startServer({ project: own, command: "dev", args: ["--port", `${other.port}`, "--threads", "1"] });
    });
    afterAll(async () => {
      await server?.[Symbol.asyncDispose]();
      await own?.[Symbol.asyncDispose]();
      await other?.[Symbol.asyncDispose]();
    });

    test("takes the next free port and says so, and says for people what it serves", async () => {
      expect(Number(new URL(server.url).port)).toBeGreaterThan(other.port);
      expect(server.output).toMatch(new RegExp(`port ${other.port} is taken, using ${new URL(server.url).port}`));
      expect((await http(server.url).get("/ok")).status).toBe(200);
      await eventually(() => server.output.includes("Threads"));
      for (const fact of [server.url, "say", join(server.data, "skein.db"), "1 executor thread,"]) {
        expect(server.output).toContain(fact);
      }
    });

    test("a run in flight ends with the code it began with", async () => {
      const [gate, log] = [join(server.data, "gate.1"), join(server.data, "log")];
      const input = { gate, log };
      const run = await startRun(server, await newThread(server), { assistant_id: "gated", input });
      await using stream = await openSse(`${server.url}/threads/${run.thread_id}/runs/${run.run_id}/stream`);
      await eventually(() => linesOf(log).length === 1);
      await put(join(own.dir, "gated.mjs"), gated("new"));
      await eventually(async () => (await say(server.url, "gated")) === "new");
      openGate(join(server.data, "gate"), 1);
      expect((await stream.rest()).at(-1)?.data).toContain('"said":"old"');
      expect(linesOf(log)).toHaveLength(1);
    });

    test("reloads when a file that a graph imports changes, and keeps the old code when the new one is broken", async () => {
      const word = join(own.dir, "lib", "word.mjs");
      expect(await say(server.url)).toBe("one");
      await put(word, 'export const word = "two";');
      await eventually(async () => (await say(server.url)) === "two");

      await put(word, 'export let word; throw new Error("half written");');
      await eventually(() => /not reloaded.*half written/s.test(server.output));
      expect(await say(server.url)).toBe("two");

      await put(word, 'export const word = "three";');
      await eventually(async () => (await say(server.url)) === "three");

      await put(join(own.dir, "langgraph.json"), "{ not json");
      await eventually(() => /not reloaded.*langgraph\.json/s.test(server.output));
      expect(await say(server.url)).toBe("three");

      await put(join(own.dir, "shout.mjs"), says("LOUD"));
      const graphs = { say: "./say.mjs:graph", shout: "./shout.mjs:graph" };
      await put(join(own.dir, "langgraph.json"), JSON.stringify({ graphs }));
      const shout = { assistant_id: "shout", input: {} };
      await eventually(async () => (await http(server.url).post("/runs/wait", shout)).body?.said === "LOUD");
      expect(await server.stop()).toEqual({ code: 0, signal: null });
    });
  });
});

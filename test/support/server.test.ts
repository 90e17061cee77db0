/** The harness itself, and with it the whole road: built server, real process, real HTTP. */
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { http, ok } from "./http.ts";
import { project, startServer } from "./server.ts";
import { openSse } from "./sse.ts";

test("a server streams, survives a crash with its data, stops, and leaves nothing behind", async () => {
  let data: string;
  {
    await using server = await startServer();
    data = server.data;
    const input = { assistant_id: "plain", input: { value: 1 }, stream_mode: ["values", "custom"] };
    await using stream = await openSse(`${server.url}/runs/stream`, { body: input });
    expect(stream.status).toBe(200);
    const frames = await stream.rest();
    expect(frames[0]?.event).toBe("metadata");
    expect(frames.filter(({ event }) => event === "custom").map(({ data }) => JSON.parse(data ?? ""))).toEqual([
      { progress: 1 },
      { progress: 2 },
    ]);
    expect(stream.complete).toBe(true);

    const { thread_id } = await ok(http(server.url).post("/threads", {}));
    const [url, pid] = [server.url, server.pid];
    await server.restart("SIGKILL");
    expect(server.url).toBe(url);
    expect(server.pid).not.toBe(pid);
    expect((await http(server.url).get(`/threads/${thread_id}`)).status).toBe(200);
    expect(server.logs().filter(({ msg }) => msg === "listening")).toHaveLength(2);
    expect(await server.stop()).toEqual({ code: 0, signal: null });
  }
  expect(existsSync(data)).toBe(false);
});

test("a project of the test's own", async () => {
  const source = `
    import { Annotation, START, StateGraph } from "@langchain/langgraph";
    const State = Annotation.Root({ hello: Annotation<string>() });
    export const graph = new StateGraph(State).addNode("greet", () => ({ hello: "world" })).addEdge(START, "greet").compile();`;
  await using own = await project({ "greet.ts": source });
  await using server = await startServer({ project: own, command: "dev" });
  expect(await ok(http(server.url).post("/runs/wait", { assistant_id: "greet", input: {} }))).toEqual({
    hello: "world",
  });
});

test("a server that cannot start says why", async () => {
  await using broken = await project({ "broken.mjs": 'throw new Error("broken on purpose");' });
  await expect(startServer({ project: broken })).rejects.toThrow(/broken on purpose/);
});

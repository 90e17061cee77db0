/** What an attempt that was cut off has begun is ended for it. */
import { expect, test } from "vitest";
import { dataOf, paramsText, protocolName } from "../../../src/schemas/protocol-events.ts";
import { endsOfUnfinished } from "../../../src/streaming/protocol/unfinished.ts";

type Said = [method: "messages" | "tools" | "lifecycle" | "values", namespace: string[], data: object];

const ends = async (...said: Said[]): Promise<unknown[]> => {
  const events = said.map(([method, namespace, data], id) => ({
    id,
    event: protocolName(method, namespace),
    data: paramsText(namespace, 1, "node", JSON.stringify(data)),
  }));
  // One at a time, as from storage.
  const read = (after: number) => Promise.resolve(events.slice(after + 1, after + 2));
  return (await endsOfUnfinished({ read }, 7)).map(({ event, data }) => {
    expect(JSON.parse(data)).toMatchObject({ timestamp: 7, node: "node" });
    return [event, JSON.parse(dataOf(data))];
  });
};

const start = (id: string): object => ({ event: "message-start", id, run_id: `run of ${id}` });
const delta = (id: string): object => ({ event: "content-block-delta", index: 0, id, run_id: `run of ${id}` });
const error = { event: "error", message: expect.any(String) };

test("messages, tools and graphs, the last that began first; not what has ended, not the root", async () => {
  const [outer, inner] = [["a:1"], ["a:1", "b:2"]];
  expect(
    await ends(
      ["lifecycle", [], { event: "running", graph_name: "root" }],
      ["lifecycle", outer, { event: "started", graph_name: "a" }],
      ["lifecycle", ["c:3"], { event: "started", graph_name: "c" }],
      ["lifecycle", inner, { event: "started", graph_name: "b" }],
      ["tools", inner, { event: "tool-started", tool_call_id: "t1" }],
      ["tools", inner, { event: "tool-started", tool_call_id: "t2" }],
      ["tools", inner, { event: "tool-finished", tool_call_id: "t1" }],
      ["messages", inner, start("one")],
      ["messages", inner, start("two")],
      ["messages", inner, delta("one")],
      ["messages", inner, { event: "message-finish", id: "two", run_id: "run of two" }],
      ["values", inner, { event: "started" }],
      ["lifecycle", ["c:3"], { event: "completed", graph_name: "c" }],
    ),
  ).toEqual([
    ["@messages|a:1|b:2", { ...error, id: "one", run_id: "run of one" }],
    ["@tools|a:1|b:2", { event: "tool-error", tool_call_id: "t2", message: expect.any(String) }],
    ["@lifecycle|a:1|b:2", { event: "interrupted", graph_name: "b" }],
    ["@lifecycle|a:1", { event: "interrupted", graph_name: "a" }],
  ]);
});

test("once: what has been ended for it is over", async () => {
  const said: Said[] = [["messages", [], start("one")]];
  const [[, end]] = (await ends(...said)) as [[string, object]];
  expect(await ends(...said, ["messages", [], end])).toEqual([]);
});

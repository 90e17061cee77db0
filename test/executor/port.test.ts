/** What leaves an executor thread, and when. */
import { expect, it } from "vitest";
import { createPort } from "../../src/executor/port.ts";
import type { FromExecutor } from "../../src/executor/protocol.ts";

const RUN = { run_id: "run", fence: 1 };

const idsOf = (batches: readonly (readonly FromExecutor[])[]): string[] =>
  batches.flat().flatMap((message) => (message.type === "events" ? message.events.map(({ data }) => data) : []));

it("events leave while a graph gives one after the other and the event loop never turns", async () => {
  const batches: (readonly FromExecutor[])[] = [];
  const port = createPort((batch) => batches.push(batch));
  let count = 0;
  // Nothing but microtasks, until something has left.
  while (batches.length < 3) {
    port.event(RUN, { event: "custom", data: String(count) });
    count += 1;
    await Promise.resolve();
  }
  expect(idsOf(batches)).toHaveLength(count);
  port.event(RUN, { event: "custom", data: String(count) });
  port.post({ type: "finished", ...RUN, outcome: { kind: "drained" } });
  while (batches.at(-1)?.at(-1)?.type !== "finished") await new Promise((resolve) => setImmediate(resolve));
  expect(idsOf(batches)).toEqual(Array.from({ length: count + 1 }, (_, id) => String(id)));
});

it("events that come together leave together", async () => {
  const batches: (readonly FromExecutor[])[] = [];
  const port = createPort((batch) => batches.push(batch));
  for (const data of ["0", "1", "2"]) port.event(RUN, { event: "custom", data });
  while (batches.length === 0) await new Promise((resolve) => setImmediate(resolve));
  expect(batches).toHaveLength(1);
  expect(idsOf(batches)).toEqual(["0", "1", "2"]);
});

it("what is last leaves in the same tick, behind all that has gathered", () => {
  const batches: (readonly FromExecutor[])[] = [];
  const port = createPort((batch) => batches.push(batch));
  port.event(RUN, { event: "custom", data: "0" });
  port.postLast({ type: "finished", ...RUN, outcome: { kind: "drained" } });
  expect(batches).toHaveLength(1);
  expect(batches[0]?.map(({ type }) => type)).toEqual(["events", "finished"]);
});

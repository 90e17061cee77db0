import { expect, it } from "vitest";
import { createFlow } from "../../src/executor/flow.ts";

it("has room until too much is outstanding, and again once enough was taken", async () => {
  const flow = createFlow(10);
  flow.sent(10);
  expect(flow.room()).toBeUndefined();
  flow.sent(1);
  const room = flow.room();
  expect(room).toBeInstanceOf(Promise);
  expect(flow.room()).toBe(room);
  flow.taken(1);
  await room;
  expect(flow.room()).toBeUndefined();
});

import { once } from "node:events";
import { syncBuiltinESMExports } from "node:module";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, expect, it } from "vitest";
import { keepVariablesAtHand } from "../../src/executor/environment.ts";

const native = process.env;
const NAME = "SKEIN_TEST_AT_HAND";

beforeAll(() => {
  native[NAME] = "before";
  keepVariablesAtHand();
});
afterAll(() => {
  process.env = native;
  syncBuiltinESMExports();
  delete native[NAME];
});

/** What a worker that is started without an environment of its own finds. */
async function inherited(): Promise<unknown> {
  const worker = new Worker(`require("worker_threads").parentPort.postMessage(process.env.${NAME} ?? null)`, {
    eval: true,
  });
  const [value] = (await once(worker, "message")) as [unknown];
  await worker.terminate();
  return value;
}

it("has what there was, and is another object", () => {
  expect(process.env).not.toBe(native);
  expect({ ...process.env }).toEqual({ ...native });
  expect(process.env[NAME]).toBe("before");
});

it("turns values into text, as Node does", () => {
  (process.env as Record<string, unknown>)[NAME] = 3000;
  expect(process.env[NAME]).toBe("3000");
  (process.env as Record<string, unknown>)[NAME] = undefined;
  expect(process.env[NAME]).toBe("undefined");
  expect(() => Reflect.set(process.env, Symbol("no"), "x")).toThrow(TypeError);
});

it("lets what is started from here inherit a change, a definition and a removal", async () => {
  process.env[NAME] = "changed";
  expect(await inherited()).toBe("changed");
  Object.defineProperty(process.env, NAME, { value: "defined", configurable: true, writable: true, enumerable: true });
  expect(process.env[NAME]).toBe("defined");
  expect(await inherited()).toBe("defined");
  delete process.env[NAME];
  expect(NAME in process.env).toBe(false);
  expect(await inherited()).toBeNull();
});

it("refuses a definition that Node refuses", () => {
  expect(() => Object.defineProperty(process.env, NAME, { value: "x", writable: false })).toThrow(TypeError);
  expect(NAME in process.env).toBe(false);
});

it("is what the module node:process exports", async () => {
  const { env } = await import("node:process");
  expect(env).toBe(process.env);
});

import { afterAll, beforeAll, expect, it } from "vitest";
import { poolRandomValues } from "../src/pooled-random.ts";

beforeAll(poolRandomValues);
afterAll(() => {
  // The own property hides the prototype's method.
  delete (crypto as { getRandomValues?: unknown }).getRandomValues;
});

it("never hands out the same bytes twice, over many refills", () => {
  const draws = Array.from({ length: 5000 }, () =>
    Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("hex"),
  );
  expect(new Set(draws).size).toBe(draws.length);
});

it("fills the very array it was given, a view included", () => {
  const whole = new Uint8Array(32);
  const view = whole.subarray(8, 24);
  expect(crypto.getRandomValues(view)).toBe(view);
  expect([...whole.subarray(0, 8), ...whole.subarray(24)]).toEqual(new Array(16).fill(0));
  expect(view.some((byte) => byte !== 0)).toBe(true);
});

it("leaves everything else to the generator", () => {
  expect(crypto.getRandomValues(new Uint32Array(64)).some((word) => word !== 0)).toBe(true);
  expect(() => crypto.getRandomValues(new Uint8Array(65_537))).toThrow();
  expect(() => crypto.getRandomValues(new Float64Array(1) as never)).toThrow();
});

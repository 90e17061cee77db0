/**
 * Tests that need something of the machine (PostgreSQL, Redis, a browser). Where it is missing a developer's
 * run skips them and says so; in CI nothing may be skipped unseen, so there the test fails.
 */
import { type TestContext, test } from "vitest";

/** Says what is missing, or nothing when the requirement is met. */
export type Check = () => Promise<string | undefined> | string | undefined;

const answers = new Map<string, Promise<string | undefined>>();

/**
 * Inside a test or hook: goes on when `check` finds nothing missing, otherwise skips (fails under CI).
 *
 *     test("…", async (context) => { await requireOrSkip("PostgreSQL", reachable(uri), context); … });
 */
export async function requireOrSkip(name: string, check: Check, context: Pick<TestContext, "skip">): Promise<void> {
  const missing = await missingOf(name, check);
  if (missing !== undefined) context.skip(missing);
}

/** For a test that does part of its work without: whether the rest can be done. Under CI, throws where it cannot. */
export async function isThere(name: string, check: Check): Promise<boolean> {
  return (await missingOf(name, check)) === undefined;
}

/** What is missing, in a sentence; throws it under CI. */
async function missingOf(name: string, check: Check): Promise<string | undefined> {
  const missing = await answer(name, check);
  if (missing === undefined) return undefined;
  const message = `${name} is missing: ${missing}`;
  if (isCi()) throw new Error(`${message}. CI must run every test.`);
  return message;
}

/** A `test` that asks first: `const pgTest = testWith("PostgreSQL", check)`. */
export function testWith(name: string, check: Check) {
  return (title: string, body: (context: TestContext) => Promise<void> | void): void => {
    test(title, async (context) => {
      await requireOrSkip(name, check, context);
      await body(context);
    });
  };
}

/** Each requirement is checked once per test file, and its absence is said once, loudly. */
function answer(name: string, check: Check): Promise<string | undefined> {
  const known = answers.get(name);
  if (known !== undefined) return known;
  const asked = Promise.resolve(check()).then((missing) => {
    if (missing !== undefined && !isCi()) console.warn(`\n*** SKIPPED: tests that need ${name} (${missing}) ***\n`);
    return missing;
  });
  answers.set(name, asked);
  return asked;
}

/** Nothing may be skipped. */
export function isCi(): boolean {
  return !["", "0", "false"].includes(process.env.CI ?? "");
}

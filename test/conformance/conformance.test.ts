/** All behaviours against one server. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BEHAVIOURS } from "./behaviours.ts";
import { GAPS } from "./gaps.ts";
import { Api, type Tested, tests } from "./kit.ts";
import { type Difference, differences } from "./operations.ts";
import { OURS } from "./ours.ts";
import "./suite/assistants.ts";
import "./suite/crons.ts";
import "./suite/http.ts";
import "./suite/runs.ts";
import "./suite/semantics.ts";
import "./suite/state.ts";
import "./suite/store.ts";
import "./suite/streaming.ts";
import "./suite/streams.ts";
import "./suite/system.ts";
import "./suite/threads.ts";
import "./suite/webhooks.ts";
import { startTarget, type Target } from "./target.ts";

let target: Target;
beforeAll(async () => {
  target = await startTarget();
});
afterAll(() => target?.[Symbol.asyncDispose]());

const SENTENCES = new Map(BEHAVIOURS.map(({ id, says }) => [id, says]));

async function check({ id, test }: Tested): Promise<void> {
  const run = () => test({ api: new Api(target.url) });
  const gap = target.own ? GAPS[id] : undefined;
  if (gap === undefined) return run();
  const passed = await run().then(
    () => true,
    () => false,
  );
  if (passed) throw new Error(`"${id}" is in gaps.ts ("${gap}"), and passes: take it out`);
}

const title = ({ id }: Tested): string => `${id}: ${SENTENCES.get(id) ?? "?"}`;

describe("behaviours", () => {
  for (const one of tests().filter(({ alone }) => !alone)) test.concurrent(title(one), () => check(one));
});

describe("behaviours that want the server for themselves", () => {
  for (const one of tests().filter(({ alone }) => alone)) test(title(one), () => check(one));
});

const sentence = ({ operation, place, says }: Difference): string => `${operation} ${place}: ${says}`;

describe("the served document", () => {
  test("takes and answers all that the list says", () => {
    const short = differences(target.url).filter(({ kind }) => kind !== "extra");
    expect(short.map(sentence).join("\n")).toBe("");
  });

  test("takes no more than the list and what is ours", () => {
    if (!target.own) return;
    const found = differences(target.url).filter(({ kind }) => kind === "extra");
    const unlisted = found.filter(({ operation, place }) => !OURS.some((ours) => ours.covers(operation, place)));
    expect(unlisted.map(sentence).join("\n")).toBe("");
    const unused = OURS.filter((ours) => !found.some(({ operation, place }) => ours.covers(operation, place)));
    expect(unused.map(({ why }) => `not served any more: ${why}`).join("\n")).toBe("");
  });
});

describe("the lists", () => {
  const cited = tests().map(({ id }) => id);

  test("every behaviour has one test", () => {
    expect(BEHAVIOURS.map(({ id }) => id).filter((id) => !cited.includes(id))).toEqual([]);
    expect(cited.filter((id, index) => cited.indexOf(id) !== index)).toEqual([]);
  });

  test("every test cites a behaviour, and every gap is one", () => {
    expect([...cited, ...Object.keys(GAPS)].filter((id) => !SENTENCES.has(id))).toEqual([]);
  });
});

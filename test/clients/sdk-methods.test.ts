/** Every method of every sub-client of the SDK, in the generations that are in use. A method without a case fails. */
import { Client } from "@langchain/langgraph-sdk";
import { Client as Client19 } from "sdk-1.9";
import { Client as Client20 } from "sdk-2.0";
import { describe, expect, test } from "vitest";
import { type Any, Gate, useServer, useTempDir } from "../runs/support.ts";
import { assistants } from "./methods/assistants.ts";
import { crons } from "./methods/crons.ts";
import { runs } from "./methods/runs.ts";
import { store } from "./methods/store.ts";
import type { Cases } from "./methods/support.ts";
import { threads } from "./methods/threads.ts";

const SDKS: [string, Any][] = [
  ["1.15", Client],
  ["1.9.31", Client19],
  ["2.0.0", Client20],
];
const CASES: Readonly<Record<string, Cases>> = { assistants, threads, runs, crons, store };

/** Methods whose operations the server does not have, and why. Each is tried: when it begins to work it needs a case. */
const MISSING: Readonly<Record<string, string>> = {
  "threads.patchState": "PATCH /threads/{id}/state: the API has no such operation, only its clients",
  "~ui.getComponent": "the graphs here have no components (`ui.test.ts` has some)",
};

const api = useServer();
const temp = useTempDir();

/** The methods a sub-client has of its own, without those of the class they all share. */
const methodsOf = (part: object): string[] =>
  Object.getOwnPropertyNames(Object.getPrototypeOf(part)).filter((name) => name !== "constructor");

function listMethods(Sdk: Any): (readonly [part: string, method: string])[] {
  const parts = Object.entries(new Sdk({ apiUrl: "http://localhost" })).filter(([, part]) => typeof part === "object");
  return parts.flatMap(([name, part]) => methodsOf(part as object).map((method) => [name, method] as const));
}

/** The client, and what was called on it. */
function recorded(sdk: Any, part: string): { sdk: Any; calls: Set<string> } {
  const calls = new Set<string>();
  const watched = new Proxy(sdk[part], {
    get(target, name) {
      calls.add(String(name));
      return typeof target[name] === "function" ? target[name].bind(target) : target[name];
    },
  });
  return { sdk: new Proxy(sdk, { get: (target, name) => (name === part ? watched : target[name]) }), calls };
}

describe.each(SDKS)("SDK %s", (version, Sdk) => {
  const methods = listMethods(Sdk);
  const here = methods.filter(([part, method]) => MISSING[`${part}.${method}`] === undefined);

  test.each(here)("%s.%s", async (part, method) => {
    const run = CASES[part]?.[method];
    if (run === undefined) throw new Error(`${part}.${method} has no case in test/clients/methods`);
    const { sdk, calls } = recorded(new Sdk({ apiUrl: api.url }), part);
    const mine = { owner: crypto.randomUUID() };
    const gate = (name: string): Gate => new Gate(temp.dir, `${version}-${name}`);
    await run({ sdk, api, mine, gate, newest: version === "1.15", oldest: version === "2.0.0" });
    expect(calls).toContain(method);
  });
});

test("every case is a method of some generation", () => {
  const known = new Set(SDKS.flatMap(([, Sdk]) => listMethods(Sdk).map((name) => name.join("."))));
  const cases = Object.entries(CASES).flatMap(([part, names]) => Object.keys(names).map((name) => `${part}.${name}`));
  for (const name of [...cases, ...Object.keys(MISSING)]) expect(known).toContain(name);
});

describe("what is missing is refused in words", () => {
  const attempts: Readonly<Record<keyof typeof MISSING, (sdk: Client, thread: string) => Promise<unknown>>> = {
    "threads.patchState": (sdk, thread) => sdk.threads.patchState(thread, { a: 1 }),
    "~ui.getComponent": (sdk) => sdk["~ui"].getComponent("plain", "name"),
  };

  test.each(Object.keys(MISSING))("%s", async (name) => {
    const sdk = new Client({ apiUrl: api.url });
    await expect(attempts[name]?.(sdk, await api.thread())).rejects.toThrow(/40[45].*detail/);
  });
});

/** Which events a subscription gets, against the SDK: what we leave out must be what it would not have delivered. */
import { matchesSubscription } from "@langchain/langgraph-sdk/client";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { WireEvent } from "../../../src/executor/protocol.ts";
import { createProtocolSink } from "../../../src/executor/protocol-events.ts";
import { CHANNELS } from "../../../src/schemas/protocol.ts";
import { PROTOCOL_METHODS, paramsText, protocolName } from "../../../src/schemas/protocol-events.ts";
import { type FilterRequest, filterOf, wantsName } from "../../../src/streaming/protocol/filter.ts";

/** Names that meet each other, and those that may be taken for something else. */
const label = fc.oneof(
  fc.constantFrom("a", "b", "", "a|b", "a:b", "%7C", "values", "é 🦊"),
  fc.string({ maxLength: 4 }),
);
const segment = fc
  .tuple(fc.constantFrom("a", "b", "tools"), fc.constantFrom("", ":1", ":2", ":"))
  .map((parts) => parts.join(""));
const namespace = fc.array(segment, { maxLength: 3 });
const filter: fc.Arbitrary<FilterRequest> = fc.record(
  {
    channels: fc.array(
      fc.oneof(
        fc.constantFrom(...CHANNELS),
        label.map((name) => `custom:${name}`),
      ),
      { minLength: 1 },
    ),
    namespaces: fc.array(namespace, { maxLength: 3 }),
    depth: fc.nat({ max: 3 }),
  },
  { requiredKeys: ["channels"] },
);

type Definition = Parameters<typeof matchesSubscription>;

/** What the SDK says of an event as it is on the wire. */
const bySdk = ({ event, data }: WireEvent, asked: FilterRequest): boolean => {
  const method = event.slice(1).split(/[|:]/, 1)[0];
  return matchesSubscription({ method, params: JSON.parse(data) } as Definition[0], asked as Definition[1]);
};
const byUs = ({ event }: WireEvent, asked: FilterRequest): boolean => wantsName(filterOf(asked))(event);

test("events of all methods and namespaces", () => {
  const event = fc.tuple(fc.constantFrom(...PROTOCOL_METHODS), namespace).map(([method, at]) => ({
    event: protocolName(method, at),
    data: paramsText(at, 1, undefined, "{}"),
  }));
  fc.assert(
    fc.property(event, filter, (told, asked) => {
      expect(byUs(told, asked)).toBe(bySdk(told, asked));
    }),
    { numRuns: 2000 },
  );
});

test("custom events of any payload", () => {
  const named = fc.record({ name: fc.oneof(label, fc.jsonValue()), payload: fc.jsonValue() }, { requiredKeys: [] });
  const payload = fc.oneof(named, fc.jsonValue(), fc.constant(undefined));
  fc.assert(
    fc.property(payload, namespace, filter, (given, at, asked) => {
      const told: WireEvent[] = [];
      const sink = createProtocolSink({ emit: (event) => told.push(event), now: () => 1, messages: "v3" });
      sink.chunk(at, "custom", given);
      for (const event of told) {
        if (event.event.startsWith("@custom")) expect(byUs(event, asked)).toBe(bySdk(event, asked));
      }
      expect(told.length).toBeGreaterThan(0);
    }),
    { numRuns: 2000 },
  );
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  dataOf,
  isProtocolEvent,
  PROTOCOL_METHODS,
  paramsText,
  parseProtocolName,
  protocolName,
} from "../../src/schemas/protocol-events.ts";

const segment = fc.stringMatching(/^[\w -]{1,12}:[0-9a-f-]{1,12}$/);
const namespaces = fc.array(segment, { maxLength: 4 });

describe("names of protocol events", () => {
  it("come back as they were given", () => {
    fc.assert(
      fc.property(fc.constantFrom(...PROTOCOL_METHODS), namespaces, (method, namespace) => {
        const name = protocolName(method, namespace);
        expect(isProtocolEvent(name)).toBe(true);
        expect(parseProtocolName(name)).toMatchObject({ method, namespace });
      }),
    );
  });

  it("keep any label of a custom event", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", minLength: 1 }), namespaces, (label, namespace) => {
        const name = protocolName(`custom:${label}`, namespace);
        expect(parseProtocolName(name)).toEqual({ method: "custom", channel: `custom:${label}`, namespace });
      }),
    );
  });

  it.each(["values", "@nothing", "@", ""])("%j is none", (name) => {
    expect(() => parseProtocolName(name)).toThrow(/no name of a protocol event/);
  });

  it("say the channel of both sides of an interrupt", () => {
    expect(parseProtocolName("@input.requested").channel).toBe("input");
    expect(parseProtocolName("@input.answered|a:1").channel).toBe("input");
  });
});

describe("params", () => {
  it("are JSON with the data last, which is found again", () => {
    fc.assert(
      fc.property(namespaces, fc.option(fc.string(), { nil: undefined }), fc.json(), (namespace, node, data) => {
        const text = paramsText(namespace, 1_795_326_053_129, node, data);
        expect(JSON.parse(text)).toEqual({
          namespace,
          timestamp: 1_795_326_053_129,
          ...(node === undefined ? {} : { node }),
          data: JSON.parse(data),
        });
        expect(dataOf(text)).toBe(data);
      }),
    );
  });
});

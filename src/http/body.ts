/** Reads a request's body: once, bounded, as JSON whatever its content type says (SDKs vary). */
import { invalid, SkeinError } from "../errors.ts";
import { parseJson } from "../schemas/json-text.ts";
import type { HttpContext } from "./types.ts";

/** Whether an operation can do without a body, and then takes `{}`. */
export type BodyRule = "required" | "optional";

/** The parsed body. Empty: `{}` when optional, else `invalid`. */
export async function readBody(c: HttpContext, rule: BodyRule, maxBytes: number): Promise<unknown> {
  const text = await readText(c, maxBytes);
  if (text.trim() !== "") return parseJson(text);
  if (rule === "optional") return {};
  throw invalid("body", "a JSON body is required");
}

/** A declared length is kept by Node's parser, so checking it bounds the read; without one, or without Node's parser, we count. */
async function readText(c: HttpContext, maxBytes: number): Promise<string> {
  const declared = c.req.header("content-length");
  if (declared !== undefined && Number(declared) > maxBytes) throw tooLarge(maxBytes);
  try {
    return declared === undefined || c.env.incoming === undefined
      ? await countedText(c.req.raw.body, maxBytes)
      : await c.req.text();
  } catch (error) {
    if (error instanceof SkeinError) throw error;
    throw invalid("body", "the request ended before its body did");
  }
}

async function countedText(body: ReadableStream<Uint8Array> | null, maxBytes: number): Promise<string> {
  if (body === null) return "";
  const chunks: Uint8Array[] = [];
  let size = 0;
  // Not `for await`: leaving that loop cancels the stream, and with it the socket the 413 has to go through.
  const reader = body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    size += next.value.byteLength;
    if (size > maxBytes) throw tooLarge(maxBytes);
    chunks.push(next.value);
  }
  return new TextDecoder().decode(Buffer.concat(chunks, size));
}

const tooLarge = (maxBytes: number): SkeinError =>
  new SkeinError("too_large", `The request body is larger than ${maxBytes} bytes`);

/** What user code throws, as it crosses to the main thread. */
import type { ErrorBody } from "../errors.ts";
import { toJson } from "./serialize.ts";

/** Anything thrown, as clients see it: its own name and message. */
export function thrownBody(thrown: unknown): ErrorBody {
  if (typeof thrown === "object" && thrown !== null && "message" in thrown && typeof thrown.message === "string") {
    const name = "name" in thrown && typeof thrown.name === "string" && thrown.name !== "" ? thrown.name : "Error";
    return { error: name, message: thrown.message };
  }
  return { error: "Error", message: typeof thrown === "object" && thrown !== null ? toJson(thrown) : String(thrown) };
}

/** What handlers of the project throw, as a refusal. */
import { Denied } from "../errors.ts";

/** As the SDK's `HTTPException` has it, whichever copy of it made this one; others' errors of that shape serve as well. */
interface HttpError extends Error {
  readonly status: number;
  readonly headers?: unknown;
}

export function isHttpError(thrown: unknown): thrown is HttpError {
  if (!(thrown instanceof Error) || !("status" in thrown)) return false;
  const { status } = thrown;
  return typeof status === "number" && Number.isInteger(status) && status >= 400 && status <= 599;
}

/** The refusal with the handler's own status, words and headers. */
export function denied(error: HttpError): Denied {
  return new Denied(error.status, error.message || "Refused", headersOf(error.headers), { cause: error });
}

function headersOf(headers: unknown): Record<string, string> {
  if (typeof headers !== "object" || headers === null) return {};
  return Object.fromEntries(new Headers(headers as Record<string, string>));
}

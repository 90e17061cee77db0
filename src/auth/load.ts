/** The project's `Auth`, of its own copy of `@langchain/langgraph-sdk/auth`. It runs in the main thread: each request asks it. */
import { type ExportPlace, isRecord, loadExport } from "../load-module.ts";
import { type Handlers, isKey } from "./handlers.ts";

/** `auth.path` names nothing that can be asked. */
export class AuthLoadError extends Error {
  override readonly name = "AuthLoadError";
}

/** Where the SDK's class keeps what it was given. */
const HANDLERS = "~handlerCache";

/** Rejects with AuthLoadError. `edition`: as `loadExport` has it. */
export async function loadAuth(place: ExportPlace, project_dir: string, edition = 0): Promise<Handlers> {
  const exported = await exportAt(place, project_dir, edition);
  const where = `auth.path: export "${place.export_name}" of ${place.file}`;
  const kept = isRecord(exported) ? exported[HANDLERS] : undefined;
  if (!isRecord(kept)) {
    throw new AuthLoadError(`${where} is no Auth: make it with \`new Auth()\` of "@langchain/langgraph-sdk/auth"`);
  }
  const { authenticate, callbacks = {} } = kept;
  if (typeof authenticate !== "function") {
    throw new AuthLoadError(`${where} authenticates nobody: give it a handler with \`.authenticate(…)\``);
  }
  return { authenticate: authenticate as Handlers["authenticate"], callbacks: checked(callbacks, where) };
}

async function exportAt(place: ExportPlace, project_dir: string, edition: number): Promise<unknown> {
  try {
    return (await loadExport(place, project_dir, edition)).exported;
  } catch (error) {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    throw new AuthLoadError(`auth.path: ${place.file} does not load: ${stack}`, { cause: error });
  }
}

function checked(callbacks: unknown, where: string): Handlers["callbacks"] {
  const entries = Object.entries(isRecord(callbacks) ? callbacks : {});
  for (const [key, callback] of entries) {
    if (!isKey(key)) throw new AuthLoadError(`${where} has a handler on "${key}", which is nothing that ever happens`);
    if (typeof callback !== "function") throw new AuthLoadError(`${where}: what it has on "${key}" is no function`);
  }
  return new Map(entries) as Handlers["callbacks"];
}

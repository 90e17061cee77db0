/** Modules of the project that `langgraph.json` names. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { ConfigError } from "./error.ts";

/** An export of a module of the project. */
export interface ModuleExport {
  readonly file: string;
  readonly export_name: string;
}

/** `./file.ts:name` → an export of a module of the project, `default` when none is named. */
export function exportAt(dir: string, path: string, setting: string): ModuleExport {
  const colon = path.lastIndexOf(":");
  // A Windows drive letter is no export name.
  const hasExport = colon > 1;
  const file = resolve(dir, hasExport ? path.slice(0, colon) : path);
  if (!existsSync(file)) throw new ConfigError(`${setting}: ${file} does not exist`);
  return { file, export_name: hasExport ? path.slice(colon + 1) : "default" };
}

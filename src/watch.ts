/** Tells when the project's code changes (`skein dev`). */
import { relative } from "node:path";
import { watch } from "chokidar";

const CODE = /\.(?:[cm]?[jt]sx?|json|env|css)$/;
const IGNORED = /(?:^|\/)(?:node_modules|\.git|\.skein|\.langgraph_api|dist|build|coverage|\.next)(?:\/|$)/;
/** Editors write several files, or one file several times; one reload is enough. */
const SETTLE_MS = 150;

/** Calls `onChange` after changes to code under `dir` have settled; from when it resolves, none is missed. Resolves to a function that stops. */
export async function watchProject(
  dir: string,
  onChange: (files: readonly string[]) => void,
): Promise<() => Promise<void>> {
  const changed = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  const watcher = watch(dir, { ignored: (path) => IGNORED.test(relative(dir, path)), ignoreInitial: true });
  watcher.on("all", (_event, path) => {
    if (!CODE.test(path) && !path.includes(".env")) return;
    changed.add(relative(dir, path));
    clearTimeout(timer);
    timer = setTimeout(() => {
      onChange([...changed]);
      changed.clear();
    }, SETTLE_MS);
  });
  await new Promise<void>((resolve) => watcher.once("ready", () => resolve()));
  return async () => {
    clearTimeout(timer);
    await watcher.close();
  };
}

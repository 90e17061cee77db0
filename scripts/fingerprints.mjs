/** What `prepare` and `build` compare: content hashes of the lock file and the sources, kept as small stamp files. */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
export const INSTALL_STAMP = join(ROOT, "node_modules", ".skein-install");
export const BUILD_STAMP = join(ROOT, "dist", ".skein-build");

/** The install depends on the lock file and on the Node version native packages were chosen for. */
export function installHash() {
  return hashFiles(["package-lock.json"], process.version);
}

/** Contents, not times: git checkouts and copies change times without changing anything. */
export function sourcesHash() {
  const sources = readdirSync(join(ROOT, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".test.ts"))
    .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length + 1));
  const settings = ["tsconfig.json", "scripts/build.mjs", "scripts/builds.mjs", "package-lock.json"];
  return hashFiles([...settings, ...sources.sort()]);
}

export function readStamp(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}

export function writeStamp(file, hash) {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, hash);
}

function hashFiles(files, salt = "") {
  const hash = createHash("sha256").update(salt);
  for (const file of files) hash.update(`\0${file}\0`).update(readFileSync(join(ROOT, file)));
  return hash.digest("hex");
}

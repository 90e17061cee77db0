/**
 * Where builds lie: each whole in a folder of its own, `dist/<build>/`, and in `dist` itself files that lead to the newest. A running
 * server reads on from the build it was started from: what it imports late, executor threads it starts again, assets.
 */
import { readdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Builds kept, the newest among them: so many rebuilds a running server outlives. */
const KEPT = 8;
const BUILD = /^[0-9a-f]{12}$/;

/** Puts the folder `fresh` into `dist` as the build of this hash, which from now on is what starts. */
export function place(fresh, dist, hash) {
  const build = hash.slice(0, 12);
  const folder = join(dist, build);
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
  const now = new Date();
  utimesSync(folder, now, now);
  const doors = {
    "cli.js": `#!/usr/bin/env node\nimport "./${build}/cli.js";\n`,
    "index.js": `export * from "./${build}/index.js";\n`,
    "index.d.ts": `export * from "./${build}/index.js";\n`,
    // Of a package that is packed here.
    ".npmignore": `/*/\n!/${build}/\n`,
  };
  for (const [name, text] of Object.entries(doors)) write(dist, name, text);
  const others = readdirSync(dist).filter((name) => !(name in doors || name.startsWith(".")));
  const builds = others
    .filter((name) => BUILD.test(name))
    .sort((a, b) => statSync(join(dist, b)).mtimeMs - statSync(join(dist, a)).mtimeMs)
    .slice(0, KEPT);
  for (const name of others) if (!builds.includes(name)) rmSync(join(dist, name), { recursive: true, force: true });
}

/** At once: somebody may start just now. */
function write(dist, name, text) {
  const aside = join(dist, `.${name}-${process.pid}`);
  writeFileSync(aside, text, { mode: name === "cli.js" ? 0o755 : 0o644 });
  renameSync(aside, join(dist, name));
}

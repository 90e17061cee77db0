/**
 * Runs before `start`, `test` and `bench`: makes the checkout ready, and does nothing when it is.
 * Installs when node_modules does not match package-lock.json, builds when dist does not match src.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { BUILD_STAMP, INSTALL_STAMP, installHash, ROOT, readStamp, sourcesHash, writeStamp } from "./fingerprints.mjs";

if (!existsSync(join(ROOT, "node_modules")) || readStamp(INSTALL_STAMP) !== installHash()) install();
if (readStamp(BUILD_STAMP) !== sourcesHash()) build();

function install() {
  console.log("prepare: installing dependencies (npm ci)");
  run(process.platform === "win32" ? "npm.cmd" : "npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
  writeStamp(INSTALL_STAMP, installHash());
}

function build() {
  console.log("prepare: building dist");
  run(process.execPath, [join(ROOT, "scripts", "build.mjs")]);
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: "inherit" });
  if (status === 0) return;
  console.error(
    `prepare: \`${[command, ...args].join(" ")}\` failed${error ? `: ${error.message}` : ` (exit ${status})`}`,
  );
  process.exit(1);
}

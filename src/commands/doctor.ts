/** `skein doctor`: what is wrong in a database; with `--fix`, mended. */
import type { Flags, Project, Settings } from "../config.ts";
import { ConfigError, loadProject, readSettings } from "../config.ts";
import type { Check, Facts } from "../engine/checks.ts";
import { checksOf, examine, mend } from "../engine/reconciler.ts";
import { sealingOf } from "../server.ts";
import { factsOf } from "../services/facts.ts";
import { type AsItIs, openAsItIs } from "../storage/as-it-is.ts";
import { openStorage } from "../storage/open.ts";
import type { Storage } from "../storage/storage.ts";
import type { Found } from "../storage/tables/upkeep.ts";
import { table } from "../text-table.ts";

export interface DoctorFlags extends Flags {
  readonly fix?: boolean;
  readonly json?: boolean;
  /** Seconds that a run may wait. */
  readonly waiting?: string;
}

/** One thing that is wrong. */
export interface Finding {
  readonly check: string;
  readonly says: string;
  /** The row, or the owner of the rows. */
  readonly id: string | number;
  readonly run_id?: string;
  readonly thread_id?: string;
  readonly total?: number;
  /** Epoch milliseconds. */
  readonly since?: number | null;
  /** What was done about it; null when nothing was. */
  readonly mended: string | null;
  /** What helps, where nothing can be mended in the database. */
  readonly remedy?: string;
}

export interface Report {
  readonly database: string;
  readonly served: boolean;
  readonly findings: readonly Finding[];
  /** Nothing is wrong, or nothing is any more. */
  readonly ok: boolean;
}

/** Prints what it finds, and returns the exit code: 1 when something is wrong and was not mended. */
export async function doctor(flags: DoctorFlags, print: (text: string) => void): Promise<number> {
  const project = loadProject(flags.config ?? ".", process.env);
  const report = await diagnose(project, readSettings("start", flags, project), flags);
  print(flags.json === true ? JSON.stringify(report, null, 2) : inWords(report, flags.fix === true));
  return report.ok ? 0 : 1;
}

/** What is wrong in the database of these settings; with `fix`, mended. */
export async function diagnose(
  project: Project,
  settings: Settings,
  { fix = false, waiting }: DoctorFlags,
): Promise<Report> {
  const options = { database: settings.database, dataDir: settings.dataDir, sealing: sealingOf(settings) };
  const seen = await openAsItIs(options);
  const { location: database, isServed: served, schema, dialect } = seen;
  const waits = waitingMs(waiting);
  const facts = (now: number): Facts =>
    factsOf(project, settings, { now, isServed: served || dialect === "postgres", ...waits });
  const schemas = aboutSchema(seen, fix && !isNewer(seen));
  try {
    if (fix && served && dialect === "sqlite") throw new ConfigError(inUse(database));
    // Tables that are not as this version knows them cannot be asked.
    if ((schema.missing.length > 0 && !fix) || isNewer(seen)) return reportOf(database, served, schemas);
    if (!fix) return reportOf(database, served, [...schemas, ...(await ask(seen, dialect, facts))]);
  } finally {
    await seen.close();
  }
  const storage = await openStorage(options);
  try {
    return reportOf(database, served, [...schemas, ...(await ask(storage, dialect, facts, storage))]);
  } finally {
    await storage.close();
  }
}

const inUse = (file: string): string =>
  `a server works on ${file}, and mends by itself what it can. Stop it before you use --fix, or leave --fix out to look.`;

function waitingMs(seconds: string | undefined): { waitingMs?: number } {
  if (seconds === undefined) return {};
  const value = Number(seconds);
  if (Number.isFinite(value) && value >= 0 && seconds.trim() !== "") return { waitingMs: value * 1000 };
  throw new ConfigError(`--waiting must be a number of seconds, not "${seconds}"`);
}

/** SQLite files of a newer version are refused by servers; on PostgreSQL, migrations only add. */
const isNewer = ({ dialect, schema }: AsItIs): boolean => dialect === "sqlite" && schema.unknown.length > 0;

function aboutSchema({ schema: { missing, unknown } }: AsItIs, fixes: boolean): Finding[] {
  const older = {
    check: "schema-older",
    says: "the schema is older than this version of Skein",
    id: missing.join(", "),
  };
  const newer = {
    check: "schema-newer",
    says: "the schema is newer than this version of Skein",
    id: unknown.join(", "),
  };
  return [
    ...(missing.length === 0 ? [] : [{ ...older, mended: fixes ? "migrated" : null, remedy: "skein migrate" }]),
    ...(unknown.length === 0 ? [] : [{ ...newer, mended: null, remedy: "use the version of Skein that serves it" }]),
  ];
}

async function ask(
  from: Pick<Storage, "read" | "now">,
  dialect: Storage["dialect"],
  facts: (now: number) => Facts,
  mending?: Storage,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const check of checksOf(dialect)) {
    const now = facts(from.now());
    for await (const found of examine((work) => from.read(work), check, now)) {
      for (const each of found) {
        const mended = mending === undefined ? undefined : await mend(mending, check, each, now);
        // What somebody else has mended meanwhile is no longer wrong.
        if (mending !== undefined && check.mend !== undefined && mended === undefined) continue;
        findings.push(findingOf(check, each, mended ?? null));
      }
    }
  }
  return findings;
}

function findingOf({ name, says, remedy }: Check, { key, ...rest }: Found, mended: string | null): Finding {
  return { check: name, says, id: key, ...rest, mended, ...(remedy === undefined ? {} : { remedy }) };
}

const reportOf = (database: string, served: boolean, findings: readonly Finding[]): Report => ({
  database,
  served,
  findings,
  ok: findings.every(({ mended }) => mended !== null),
});

/* ---------------------------------------------------------------------------------- report */

const SHOWN = 20;

function inWords({ database, served, findings, ok }: Report, fixed: boolean): string {
  const head = `${database}${served ? " (in use)" : ""}`;
  if (findings.length === 0) return `${head}\n\nNothing is wrong.`;
  const checks = [...new Set(findings.map(({ check }) => check))];
  const parts = checks.map((name) =>
    section(
      name,
      findings.filter(({ check }) => check === name),
    ),
  );
  const left = findings.filter(({ mended }) => mended === null);
  const repairs =
    left.some(({ remedy }) => remedy === undefined) && !fixed ? " `skein doctor --fix` mends what can be mended." : "";
  const verdict = ok ? `All ${findings.length} mended.` : `${left.length} of ${findings.length} are wrong.${repairs}`;
  return [head, ...parts, verdict].join("\n\n");
}

function section(check: string, found: readonly Finding[]): string {
  const [first] = found;
  const rows = found
    .slice(0, SHOWN)
    .map(({ id, run_id, thread_id, total, since, mended }) => [
      `  ${subject(id, run_id, thread_id)}`,
      total === undefined || total === 1 ? "" : `${total} rows`,
      since == null ? "" : `since ${new Date(since).toISOString()}`,
      mended === null ? "" : `→ ${mended}`,
    ]);
  const more = found.length > SHOWN ? [`  … and ${found.length - SHOWN} more`] : [];
  const remedy =
    first?.remedy !== undefined && found.some(({ mended }) => mended === null) ? [`  ${first.remedy}`] : [];
  return [`${check}: ${first?.says}`, ...table(rows), ...more, ...remedy].join("\n");
}

function subject(id: string | number, run_id?: string, thread_id?: string): string {
  if (run_id !== undefined) return `run ${run_id}`;
  return thread_id === undefined ? String(id) : `thread ${thread_id}`;
}

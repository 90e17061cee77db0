/** `skein doctor`: rows are broken one way at a time; it names each, `--fix` mends it, and a second look finds nothing. */
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { diagnose, type Report } from "../../src/commands/doctor.ts";
import { loadProject, readSettings } from "../../src/config.ts";
import { http, ok } from "../support/http.ts";
import { requirePostgres } from "../support/postgres.ts";
import type { TempDir } from "../support/project.ts";
import { eventually } from "../support/server.ts";
import { makeProject, Place, type Populated, populate } from "./support.ts";

const GHOST = "01900000-0000-7000-8000-000000000000";
const RUN = "01900000-0000-7000-8000-0000000000aa";
const PAST = Date.now() - 7 * 3_600_000;

interface Break {
  readonly check: string;
  readonly by: (made: Populated, place: Place) => readonly string[];
  /** What `doctor` names; not compared where it is not given. */
  readonly id?: (made: Populated) => string | number;
  readonly only?: Place["dialect"];
  /** No statement can mend it. */
  readonly stays?: true;
  readonly flags?: { readonly waiting: string };
  /** Takes away what cannot be mended. */
  readonly undo?: (made: Populated) => readonly string[];
  /** What must be so after it is mended: statements that count 1. */
  readonly after?: (made: Populated) => string;
}

/** A run on the thread, as an insert writes it. */
const runOn = (thread_id: string, change: Record<string, unknown> = {}): string => {
  const kwargs = `'{"input":null,"command":null,"config":{"configurable":{}},"context":null,"stream_mode":["values"],"subgraphs":false,"resumable":false,"durability":"async","interrupt_before":null,"interrupt_after":null,"webhook":null,"feedback_keys":null,"temporary":false}'`;
  const row: Record<string, unknown> = {
    run_id: `'${RUN}'`,
    thread_id: `'${thread_id}'`,
    assistant_id: `(select assistant_id from assistants where graph_id = 'plain' limit 1)`,
    graph_id: `'plain'`,
    status: `'pending'`,
    multitask_strategy: `'enqueue'`,
    not_before: PAST,
    attempt: 0,
    fence: 0,
    created_at: PAST,
    updated_at: PAST,
    metadata: `'{}'`,
    kwargs,
    ...change,
  };
  return `insert into runs (${Object.keys(row).join(", ")}) values (${Object.values(row).join(", ")})`;
};
const busy = (thread_id: string): string => `update threads set status = 'busy' where thread_id = '${thread_id}'`;
const bytes = (place: Place): string => (place.dialect === "sqlite" ? "x'7b7d'" : "'\\x7b7d'");
const withThread = (table: string, thread_id: string, more: Record<string, string>): string =>
  `insert into ${table} (thread_id, ${Object.keys(more).join(", ")}) values ('${thread_id}', ${Object.values(more).join(", ")})`;
const write = (place: Place) => ({
  checkpoint_ns: "''",
  checkpoint_id: `'${GHOST}'`,
  task_id: "'t'",
  idx: "0",
  task_path: "''",
  channel: "'c'",
  type: "'json'",
  value: bytes(place),
});
const blob = (place: Place) => ({
  checkpoint_ns: "''",
  channel: "'messages'",
  version: "'99@x'",
  '"first"': "7",
  type: "'json'",
  value: bytes(place),
});
const leased = {
  status: "'running'",
  attempt: 1,
  fence: 1,
  lease_owner: "'dead'",
  lease_expires_at: PAST,
  started_at: PAST,
};
const noRun = () => `select count(*) = 0 as holds from runs where run_id = '${RUN}'`;
const atRest = (status: string) => (made: Populated) =>
  `select count(*) = 1 as holds from threads where thread_id = '${made.waiting}' and status = '${status}'`;

const BREAKS: readonly Break[] = [
  {
    check: "run-lost",
    by: ({ chat }) => [runOn(chat, leased), busy(chat)],
    id: () => RUN,
    after: () =>
      `select count(*) = 1 as holds from runs where run_id = '${RUN}' and status = 'pending' and fence = 2 and lease_owner is null`,
    undo: ({ chat }) => [
      `delete from runs where run_id = '${RUN}'`,
      `update threads set status = 'idle' where thread_id = '${chat}'`,
    ],
  },
  {
    check: "run-lost",
    by: ({ waiting }) => [runOn(waiting, { ...leased, cancel_action: "'rollback'" }), busy(waiting)],
    id: () => RUN,
    after: () => `${noRun()}`,
  },
  {
    check: "run-lost",
    by: ({ waiting }) => [runOn(waiting, { ...leased, attempt: 3 }), busy(waiting)],
    after: () => `select count(*) = 1 as holds from runs join threads on threads.thread_id = runs.thread_id
      where run_id = '${RUN}' and runs.status = 'error' and threads.status = 'error' and ended_at is not null`,
    undo: ({ waiting }) => [
      `delete from runs where run_id = '${RUN}'`,
      `update threads set status = 'interrupted', rest_status = 'interrupted' where thread_id = '${waiting}'`,
    ],
  },
  {
    check: "run-behind-nobody",
    by: ({ chat }) => [runOn(chat, { behind: 1, updated_at: Date.now() }), busy(chat)],
    after: () => `select count(*) = 1 as holds from runs where run_id = '${RUN}' and behind = 0`,
    undo: ({ chat }) => [
      `delete from runs where run_id = '${RUN}'`,
      `update threads set status = 'idle' where thread_id = '${chat}'`,
    ],
  },
  {
    check: "run-not-taken",
    by: ({ chat }) => [runOn(chat), busy(chat)],
    // Other runs of the thread have ended just now.
    flags: { waiting: "0" },
    id: () => RUN,
    stays: true,
    undo: ({ chat }) => [
      `delete from runs where run_id = '${RUN}'`,
      `update threads set status = 'idle' where thread_id = '${chat}'`,
    ],
  },
  {
    check: "run-without-thread",
    by: () => [
      runOn(GHOST, { status: "'success'", ended_at: PAST }),
      `insert into event_logs (run_id, thread_id, ended_at) values ('${RUN}', '${GHOST}', ${Date.now()})`,
    ],
    id: () => GHOST,
    after: () =>
      `select (select count(*) from event_logs where run_id = '${RUN}') + (select count(*) from runs where run_id = '${RUN}') = 0 as holds`,
  },
  {
    check: "thread-busy-at-rest",
    by: ({ waiting }) => [busy(waiting)],
    id: ({ waiting }) => waiting,
    after: atRest("interrupted"),
  },
  {
    check: "thread-not-busy",
    by: ({ delayed }) => [`update threads set status = 'idle' where thread_id = '${delayed.thread_id}'`],
    id: ({ delayed }) => delayed.thread_id,
    after: ({ delayed }) =>
      `select count(*) = 1 as holds from threads where thread_id = '${delayed.thread_id}' and status = 'busy'`,
  },
  {
    check: "thread-outlived-run",
    by: () => [
      `insert into threads (thread_id, status, temporary, metadata, config, interrupts, created_at, updated_at, state_updated_at)
        values ('${GHOST}', 'busy', 1, '{}', '{}', '{}', ${PAST}, ${PAST}, ${PAST})`,
    ],
    id: () => GHOST,
    after: () => `select count(*) = 0 as holds from threads where thread_id = '${GHOST}'`,
  },
  {
    check: "checkpoints-without-thread",
    by: (_, place) => [
      withThread("checkpoints", GHOST, {
        checkpoint_ns: "''",
        checkpoint_id: `'${GHOST}'`,
        type: "'json'",
        blob_versions: "'{}'",
        metadata: "'{}'",
        checkpoint: bytes(place),
      }),
    ],
    id: () => GHOST,
    after: () => `select count(*) = 0 as holds from checkpoints where thread_id = '${GHOST}'`,
  },
  {
    check: "checkpoint-blobs-without-thread",
    by: (_, place) => [withThread("checkpoint_blobs", GHOST, blob(place))],
    id: () => GHOST,
  },
  {
    check: "checkpoint-writes-without-thread",
    by: (_, place) => [withThread("checkpoint_writes", GHOST, write(place))],
    id: () => GHOST,
  },
  {
    check: "replaced-writes-without-thread",
    by: (_, place) => [withThread("replaced_writes", GHOST, { ...write(place), replaced_by: "'r'" })],
    id: () => GHOST,
  },
  {
    check: "checkpoint-writes-without-checkpoint",
    by: ({ chat }, place) => [withThread("checkpoint_writes", chat, write(place))],
    id: ({ chat }) => chat,
  },
  {
    check: "replaced-writes-without-checkpoint",
    by: ({ chat }, place) => [withThread("replaced_writes", chat, { ...write(place), replaced_by: "'r'" })],
    id: ({ chat }) => chat,
  },
  {
    check: "values-without-checkpoint",
    by: ({ chat }, place) => [withThread("checkpoint_blobs", chat, blob(place))],
    id: ({ chat }) => chat,
    after: ({ chat }) => `select sum(case when version = '99@x' then 1 else 0 end) = 0 and count(*) > 3 as holds
      from checkpoint_blobs where thread_id = '${chat}'`,
  },
  {
    check: "checkpoint-without-values",
    by: ({ chat }, place) => [
      withThread("checkpoints", chat, {
        checkpoint_ns: "''",
        checkpoint_id: `'${GHOST}'`,
        type: "'json'",
        blob_versions: `'{"ghost":["9@x",1]}'`,
        metadata: "'{}'",
        checkpoint: bytes(place),
      }),
    ],
    id: ({ chat }) => chat,
    stays: true,
    undo: () => [`delete from checkpoints where checkpoint_id = '${GHOST}'`],
  },
  {
    check: "thread-values-without-thread",
    by: () => [`insert into thread_values (seq, "values") values (987654, '{}')`],
    id: () => 987_654,
  },
  {
    check: "thread-lists-without-values",
    by: ({ chat }) => [
      `insert into thread_lists (seq, member, "first", items)
        values ((select seq from threads where thread_id = '${chat}'), 'ghost', 0, '1')`,
    ],
    after: () => `select count(*) = 0 as holds from thread_lists where member = 'ghost'`,
  },
  {
    check: "thread-values-without-lists",
    by: ({ long }) => [
      `update thread_values set lists = '{"ghost":["9@x",1],' || substr(lists, 2)
        where seq = (select seq from threads where thread_id = '${long}')`,
    ],
    stays: true,
    undo: ({ long }) => [
      `update thread_values set lists = '{' || substr(lists, length('{"ghost":["9@x",1],') + 1)
        where seq = (select seq from threads where thread_id = '${long}')`,
    ],
  },
  {
    check: "events-without-log",
    by: () => [`insert into event_chunks (run_id, "first", "last", events) values ('${RUN}', 0, 0, '[]')`],
    id: () => RUN,
  },
  {
    check: "log-not-ended",
    by: () => [`insert into event_logs (run_id, thread_id) values ('${RUN}', '${GHOST}')`],
    id: () => RUN,
    after: () => `select count(*) = 0 as holds from event_logs where run_id = '${RUN}'`,
  },
  {
    check: "log-not-ended",
    by: ({ resumable }) => [
      `update runs set run_id = '${RUN}' where run_id = '${resumable.run_id}'`,
      `update event_logs set run_id = '${RUN}', ended_at = null where run_id = '${resumable.run_id}'`,
      `update event_chunks set run_id = '${RUN}' where run_id = '${resumable.run_id}'`,
    ],
    id: () => RUN,
    after: () => `select count(*) = 1 as holds from event_logs where run_id = '${RUN}' and ended_at is not null`,
    undo: ({ resumable }) =>
      ["runs", "event_logs", "event_chunks"].map(
        (table) => `update ${table} set run_id = '${resumable.run_id}' where run_id = '${RUN}'`,
      ),
  },
  {
    check: "vectors-without-item",
    by: (_, { dialect }) => [
      `insert into store_vectors (namespace, key, path, embedder, embedding)
        values ('["users"]', 'gone', '$', 'e', ${dialect === "sqlite" ? "x'0000803f'" : "'{1}'"})`,
    ],
    id: () => '["users"]',
  },
  {
    check: "versions-without-assistant",
    by: () => [
      `insert into assistant_versions (assistant_id, version, graph_id, name, config, context, metadata, created_at)
        values ('${GHOST}', 1, 'chat', 'n', '{}', '{}', '{}', ${PAST})`,
    ],
    id: () => GHOST,
  },
  {
    check: "cron-without-assistant",
    by: ({ cron_id }) => [`update crons set assistant_id = '${GHOST}' where cron_id = '${cron_id}'`],
    id: ({ cron_id }) => cron_id,
    after: ({ cron_id }) =>
      `select count(*) = 1 as holds from crons where cron_id = '${cron_id}' and enabled = 0 and next_run_date is null`,
  },
  {
    check: "pairs-miscounted",
    only: "sqlite",
    by: () => [`update metadata_pairs set threads = threads + 5 where pair_id = 0`],
    id: () => 0,
  },
  {
    check: "pairs-without-owner",
    only: "sqlite",
    by: () => [
      `insert into thread_pairs (pair_id, seq) values (1, 987654)`,
      `update metadata_pairs set threads = threads + 1 where pair_id = 1`,
    ],
    id: () => 1,
  },
  {
    check: "pairs-without-owner",
    only: "sqlite",
    by: () => [`delete from metadata_pairs where key = 'owner'`],
    after: ({ chat }) => `select count(*) = 1 as holds from thread_pairs join metadata_pairs as pair using (pair_id)
      join threads using (seq) where pair.key = 'owner' and thread_id = '${chat}'`,
  },
  {
    check: "thread-expired",
    by: () => [
      `insert into threads (thread_id, status, temporary, metadata, config, interrupts, created_at, updated_at, state_updated_at,
        ttl_strategy, ttl_minutes, expires_at) values ('${GHOST}', 'idle', 0, '{}', '{}', '{}', ${PAST}, ${PAST}, ${PAST}, 'delete', 1, ${PAST})`,
    ],
    id: () => GHOST,
    after: () => `select count(*) = 0 as holds from threads where thread_id = '${GHOST}'`,
  },
  {
    check: "items-expired",
    by: () => [`update store_items set expires_at = ${PAST} where key = 'lived'`],
    id: () => "store_items",
  },
  {
    check: "logs-expired",
    by: () => [`insert into event_logs (run_id, thread_id, ended_at) values ('${GHOST}', '${GHOST}', ${PAST})`],
    id: () => "event_logs",
  },
  {
    check: "keys-expired",
    by: () => [
      `insert into idempotency_keys (key, fingerprint, created_at, runs) values ('old', 'f', ${Date.now() - 40 * 3_600_000}, '[]')`,
    ],
    id: () => "idempotency_keys",
  },
  {
    check: "deliveries-expired",
    by: () => [
      `insert into webhook_deliveries (webhook_id, attempt, run_id, target, started_at, duration_ms, outcome)
        values ('w', 1, 'r', 't', ${Date.now() - 10 * 86_400_000}, 1, 'delivered')`,
    ],
    id: () => "webhook_deliveries",
  },
  {
    check: "webhook-overdue",
    by: () => [
      `insert into webhooks (webhook_id, run_id, url, attempts, next_attempt_at, created_at, payload) values ('w', 'r', 'u', 0, ${PAST}, ${PAST}, '{}')`,
    ],
    stays: true,
    undo: () => [`delete from webhooks`],
  },
  {
    check: "cron-overdue",
    by: ({ chat }) => [`update crons set next_run_date = next_run_date - 100000000000 where thread_id = '${chat}'`],
    stays: true,
    undo: ({ chat }) => [`update crons set next_run_date = next_run_date + 100000000000 where thread_id = '${chat}'`],
  },
];

/** As the command does it. */
function diagnosed(graphs: TempDir, { env, data }: Place, flags: { readonly fix: boolean }): Promise<Report> {
  const project = loadProject(graphs.dir, env);
  return diagnose(project, readSettings("start", { data }, project), flags);
}

describe.each(["sqlite", "postgres"] as const)("on %s", (dialect) => {
  let graphs: TempDir;
  let place: Place;
  let made: Populated;

  let ready: Promise<void> | undefined;

  async function makeAll(): Promise<void> {
    graphs = await makeProject();
    place = await Place.make(dialect);
    await using server = await place.start(graphs);
    made = await populate(server);
    await server.stop();
  }

  beforeEach(async (context) => {
    if (dialect === "postgres") await requirePostgres(context);
    ready ??= makeAll();
    await ready;
  });
  afterAll(async () => {
    await place?.[Symbol.asyncDispose]();
    await graphs?.[Symbol.asyncDispose]();
  });

  test("nothing is wrong with what a server has left", async () => {
    expect(await place.doctor(graphs)).toMatchObject({ ok: true, served: false, findings: [] });
    const { code, out } = await place.skein("doctor", graphs);
    expect(out).toContain("Nothing is wrong.");
    expect(code).toBe(0);
  });

  const own = BREAKS.filter(({ only }) => only === undefined || only === dialect);
  test.each(own.map((each, index) => [each.check, index, each] as const))("%s (%i)", async (check, _index, each) => {
    await place.sql(...each.by(made, place));
    const look = (fix: boolean) => diagnosed(graphs, place, { fix, ...each.flags });
    const found = await look(false);
    expect(found.findings.map((finding) => finding.check)).toEqual([check]);
    if (each.id !== undefined) expect(found.findings[0]?.id).toBe(each.id(made));
    expect(found.findings[0]?.mended).toBeNull();

    const mended = await look(true);
    expect(mended.findings.map((finding) => finding.check)).toEqual([check]);
    expect(mended.ok).toBe(each.stays !== true);
    if (each.stays !== true) expect(mended.findings[0]?.mended).toMatch(/\w/);
    if (each.after !== undefined) {
      const [row] = await place.sql<{ holds: boolean | number }>(each.after(made));
      expect(row?.holds).toBeOneOf([true, 1]);
    }
    if (each.undo !== undefined) await place.sql(...each.undo(made));
    expect((await look(false)).findings).toEqual([]);
  });

  test.skipIf(dialect === "postgres")("says it in words, with an exit code", async () => {
    await place.sql(busy(made.waiting));
    const seen = await place.skein("doctor", graphs);
    expect(seen.code).toBe(1);
    expect(seen.out).toContain("thread-busy-at-rest: a thread is busy, and no run is in flight on it");
    expect(seen.out).toContain(`thread ${made.waiting}`);
    expect(seen.out).toContain("1 of 1 are wrong. `skein doctor --fix` mends what can be mended.");
    const fixed = await place.skein("doctor", graphs, "--fix");
    expect(fixed.code).toBe(0);
    expect(fixed.out).toContain("→ has the status that its last run left");
    expect(fixed.out).toContain("All 1 mended.");
  });

  test("an older schema is named, and brought up to date", async () => {
    await using empty = await Place.make(dialect);
    if (dialect === "sqlite") {
      await empty.skein("migrate", graphs);
      await empty.sql("delete from kysely_migration where name >= '0009'");
    }
    const found = await empty.doctor(graphs);
    expect(found.findings).toMatchObject([{ check: "schema-older", mended: null }]);
    if (dialect === "sqlite") return;
    expect(await empty.doctor(graphs, "--fix")).toMatchObject({ ok: true, findings: [{ mended: "migrated" }] });
    expect((await empty.doctor(graphs)).findings).toEqual([]);
  });

  test("a newer schema is named", async () => {
    await using newer = await Place.make(dialect);
    await newer.skein("migrate", graphs);
    await newer.sql("insert into kysely_migration (name, timestamp) values ('9999_tomorrow', 'then')");
    for (const args of [[], ["--fix"]]) {
      const { findings, ok } = await newer.doctor(graphs, ...args);
      expect(findings).toMatchObject([{ check: "schema-newer", id: "9999_tomorrow", mended: null }]);
      expect(ok).toBe(false);
    }
  });

  test("while a server runs: looking is harmless, and the server mends by itself", async () => {
    // A database of its own: SQLite in this process has had the other one open, which a server must not share.
    await using served = await Place.make(dialect);
    await using server = await served.start(graphs, { SKEIN_RECONCILE_SECS: "0.1" });
    const own = await populate(server);
    const before = await served.doctor(graphs);
    expect(before).toMatchObject({ ok: true, served: dialect === "sqlite", findings: [] });
    if (dialect === "sqlite") {
      const refused = await served.skein("doctor", graphs, "--fix");
      expect(refused.code).toBe(1);
      expect(refused.err).toContain("a server works on");
    } else {
      await served.sql(busy(own.waiting));
      await served.doctor(graphs, "--fix");
      expect((await served.doctor(graphs)).findings).toEqual([]);
    }
    await served.sql(busy(own.waiting), runOn(own.chat, { behind: 1 }), busy(own.chat));
    const status = async (thread_id: string) => (await ok(http(server.url).get(`/threads/${thread_id}`))).status;
    await eventually(async () => (await status(own.waiting)) === "interrupted");
    // Promoted, claimed, and run to its end.
    await eventually(
      async () => (await ok(http(server.url).get(`/threads/${own.chat}/runs/${RUN}`))).status === "success",
    );
    const said = server.logs().filter(({ check }) => check !== undefined);
    expect(said.map(({ check }) => check)).toContain("run-behind-nobody");
    expect(said.every(({ done }) => typeof done === "string")).toBe(true);
    await server.stop();
    expect((await served.doctor(graphs)).findings).toEqual([]);
  });
});

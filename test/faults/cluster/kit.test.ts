/** The kit itself: services that break as told, wires that lose what they should, an audit that sees what is wrong. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { openPostgres } from "../../../src/storage/postgres.ts";
import { listenOn } from "../support.ts";
import { audit } from "./kit/audit.ts";
import { redisReplies } from "./kit/resp.ts";
import { useServices } from "./kit/services.ts";
import { startWire } from "./kit/wire.ts";

const services = useServices(async (all) => ({ ...all, [Symbol.asyncDispose]: async () => undefined }));

test("a PostgreSQL that crashes keeps what it had committed", async () => {
  const { postgres } = services();
  const database = await postgres.createDatabase();
  await postgres.query("create table kept (n int)", database);
  await postgres.query("insert into kept values (1)", database);
  await postgres.stop("SIGQUIT");
  await expect(postgres.query("select 1", database)).rejects.toThrow();
  await postgres.start();
  expect(await postgres.query("select n from kept", database)).toEqual([{ n: 1 }]);
});

test("a Redis that is killed comes back empty, on its port", async () => {
  const { redis } = services();
  await redis.ask((client) => client.set("key", "value"));
  await redis.kill();
  await expect(redis.ask((client) => client.ping())).rejects.toThrow();
  await redis.start();
  expect(await redis.ask((client) => client.get("key"))).toBeNull();
});

test("a wire passes, refuses, drops, waits and cuts", async () => {
  await using echo = await listenOn((_, response) => response.end("hello"));
  await using wire = await startWire(echo.port);
  const ask = (): Promise<string> => get(wire.port);
  expect(await ask()).toBe("hello");

  await wire.set("refuse");
  await expect(ask()).rejects.toThrow("ECONNREFUSED");
  await wire.set("drop");
  const lost = get(wire.port);
  expect(await Promise.race([lost, delay(100, "silence")])).toBe("silence");
  await wire.set("pass");
  await expect(lost).rejects.toThrow(/ECONNRESET|ended/);

  await wire.set("pause");
  const waiting = get(wire.port);
  expect(await Promise.race([waiting, delay(100, "silence")])).toBe("silence");
  await wire.set("pass");
  expect(await waiting).toBe("hello");

  const socket = connect(wire.port, "127.0.0.1");
  await once(socket, "connect");
  while (wire.connections === 0) await delay(1);
  const broken = new Promise((resolve) => socket.once("error", resolve));
  expect(wire.cut()).toBe(1);
  expect(await broken).toMatchObject({ code: "ECONNRESET" });
});

test("a deaf wire to Redis carries commands and no published message", async () => {
  const { redis } = services();
  await using wire = await startWire(redis.port, redisReplies);
  const subscriber = connect(wire.port, "127.0.0.1");
  const heard = reader(subscriber);
  subscriber.write("SUBSCRIBE news\r\n");
  await heard.until("subscribe");
  await redis.ask((client) => client.publish("news", "first"));
  await heard.until("first");
  await wire.set("deaf");
  await redis.ask((client) => client.publish("news", "second"));
  subscriber.write("PING\r\n");
  await heard.until("pong");
  expect(heard.text()).not.toContain("second");
  await wire.set("pass");
  await redis.ask((client) => client.publish("news", "third"));
  await heard.until("third");
  subscriber.destroy();
});

test("replies of Redis pass the filter whole, however they are cut, and published messages do not", () => {
  const message = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhe\r\no\r\n";
  const replies = [
    "+OK\r\n",
    ":42\r\n",
    "$-1\r\n",
    "*-1\r\n",
    "$3\r\na\r\n\r\n",
    "*2\r\n:1\r\n*1\r\n$1\r\nx\r\n",
    "%1\r\n+a\r\n:1\r\n",
  ];
  const reply = fc.constantFrom(...replies, message);
  fc.assert(
    fc.property(fc.array(reply), fc.array(fc.nat({ max: 30 })), fc.boolean(), (parts, cuts, deaf) => {
      const bytes = Buffer.from(parts.join(""));
      const filter = redisReplies();
      const out: Buffer[] = [];
      let from = 0;
      for (const length of cuts) {
        out.push(filter(bytes.subarray(from, from + length), deaf));
        from += length;
      }
      out.push(filter(bytes.subarray(from), deaf));
      expect(Buffer.concat(out).toString()).toBe(parts.filter((part) => !deaf || part !== message).join(""));
    }),
  );
});

test("the audit finds each thing that must not be, and nothing in a sound database", async () => {
  const { postgres } = services();
  const database = await postgres.createDatabase();
  await (await openPostgres({ uri: postgres.uri(database) })).close();
  const query = (sql: string) => postgres.query(sql, database);
  const promised = new Map([["sound", "t1"]]);
  const found = (gone: readonly string[] = []) => audit(query, promised, { gone: new Set(gone) });
  await query(thread("t1", "idle", { steps: ["a", "b"] }));
  await query(run("sound", "t1", { status: "success", ended_at: 2 }));
  await query(checkpoint("t1", "c0", null, 0));
  await query(checkpoint("t1", "c1", "c0", 1));
  await query("insert into event_logs values ('sound', 't1', 2, 0)");
  await query("insert into event_chunks values ('sound', 0, 3, ''), ('sound', 4, 4, '')");
  await query(thread("t2", "busy"));
  await query(run("waits", "t2", { status: "pending" }));
  expect((await found()).map(nameOf)).toEqual(["stuck"]);
  await query("delete from runs where run_id = 'waits'; delete from threads where thread_id = 't2'");
  expect(await found()).toEqual([]);

  const planted: readonly (readonly [string, string, string])[] = [
    ["ended and still leased", run("x", "t3", { status: "success", ended_at: 2, lease_owner: "'me'" }), "runs"],
    ["ended without a time", run("x", "t3", { status: "error" }), "runs"],
    ["busy without a live lease", thread("x", "busy"), "threads"],
    ["a step counted twice", thread("x", "idle", { steps: ["a", "b", "a"] }), "threads"],
    ["two checkpoints of one step", checkpoint("t1", "x", "c0", 1), "checkpoints"],
    ["a checkpoint whose parent is gone", checkpoint("x", "x", "c1", 1), "checkpoints"],
    ["events with a gap or a repeat", "insert into event_chunks values ('x', 1, 3, '')", "event_chunks"],
    ["events with a gap or a repeat", "insert into event_chunks values ('sound', 3, 3, '')", "event_chunks"],
    ["a stream without an end", "insert into event_logs values ('x', 't1', null, 0)", "event_logs"],
    ["tried too often", run("x", "t3", { status: "error", ended_at: 2, attempt: 4 }), "runs"],
    ["lost", "delete from runs where run_id = 'sound'", "runs"],
  ];
  for (const [name, statement, table] of planted) {
    await query(`create table kept as select * from ${table}`);
    await query(statement);
    expect((await found()).map(nameOf)).toEqual([name]);
    await query(`delete from ${table}; insert into ${table} select * from kept; drop table kept`);
    expect([name, await found()]).toEqual([name, []]);
  }
  await query(
    `${thread("x", "idle")}; ${run("x", "x", { status: "running", lease_owner: "'me'", lease_expires_at: 1 })}`,
  );
  expect((await found()).map(nameOf)).toEqual(["stuck", "not busy with a run in flight"]);
  await query("update threads set status = 'busy' where thread_id = 'x'");
  expect((await found()).map(nameOf)).toEqual(["stuck", "busy without a live lease"]);
  expect((await found(["sound"])).map(nameOf)).toEqual(["stuck", "busy without a live lease", "not gone"]);
});

const nameOf = (sentence: string): string => sentence.slice(0, sentence.indexOf(":"));

const thread = (id: string, status: string, values: object = {}): string => `with made as (
  insert into threads (thread_id, status, temporary, created_at, updated_at, state_updated_at, metadata, config, interrupts)
  values ('${id}', '${status}', 0, 1, 1, 1, '{}', '{}', '{}') returning seq)
  insert into thread_values select seq, '${JSON.stringify(values)}' from made`;

function run(id: string, thread_id: string, columns: Readonly<Record<string, string | number>>): string {
  const row = { not_before: 1, attempt: 1, fence: 1, created_at: 1, updated_at: 1, ...columns };
  const all = { ...row, status: `'${columns.status}'`, run_id: `'${id}'`, thread_id: `'${thread_id}'` };
  const texts = ["assistant_id", "graph_id", "multitask_strategy", "metadata", "kwargs"];
  return `insert into runs (${[...Object.keys(all), ...texts].join()})
    values (${[...Object.values(all), ...texts.map(() => "'{}'")].join()})`;
}

const checkpoint = (thread_id: string, id: string, parent: string | null, step: number): string =>
  `insert into checkpoints values ('${thread_id}', '', '${id}', ${parent === null ? "null" : `'${parent}'`}, 'sound',
    'json', '{}', '{"step":${step}}', '')`;

/** The body of `GET /`, over a connection of its own. */
async function get(port: number): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    socket.end("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let text = "";
    for await (const chunk of socket) text += chunk;
    if (text === "") throw new Error("the connection ended without an answer");
    return text.slice(text.indexOf("\r\n\r\n") + 4).replace(/^\w+\r\n|\r\n0\r\n\r\n$/g, "");
  } finally {
    socket.destroy();
  }
}

function reader(socket: Socket) {
  let text = "";
  let wake = (): void => undefined;
  socket.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
    wake();
  });
  return {
    text: () => text,
    async until(word: string): Promise<void> {
      while (!text.includes(word)) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

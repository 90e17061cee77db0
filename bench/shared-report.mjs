/** The tables of the section `shared`. Markdown, so that they can be pasted into docs/benchmarks.md and docs/scaling.md. */
import { median } from "./loads.mjs";
import { sum } from "./meters.mjs";
import { markdown, number, ROWS } from "./report.mjs";

const SHAPES = [
  ["one", "one process"],
  ["split", "API + 2 workers"],
];
const LOAD_UNITS = {
  latency: "stream, one by one: run",
  throughput: "wait, 32 clients: run",
  tokens: "2,000 tokens: token",
  held: "500 held streams: run",
  steps: "supersteps: superstep",
};

export function sharedTablesOf({ rounds, costs, counts }) {
  return [ratiosOf(rounds), cpuOf(rounds), costsOf(costs), idleOf(costs), countsOf(counts)].join("\n\n");
}

/** Median over the rounds, of each number and of each ratio, as in the other tables. */
function ratiosOf(rounds) {
  const rows = ROWS.filter(({ section, label }) => section in rounds[0] && !label.includes("CPU"));
  const body = rows.map(({ section, label, unit, of, worst }) => {
    const summary = worst ? (values) => Math.max(...values) : median;
    const valueIn = (round, side) => of(round[section][side].numbers);
    const value = (side) => summary(rounds.map((round) => valueIn(round, side)));
    const ratio = (side, base) =>
      worst ? "" : `${median(rounds.map((round) => valueIn(round, side) / valueIn(round, base))).toFixed(2)}x`;
    const ratios = (side) => [ratio(side, "inProcess"), ratio(side, "embedded")];
    const shapes = SHAPES.map(([side]) => number(value(side)));
    return [
      `${label}${unit && ` (${unit})`}`,
      number(value("inProcess")),
      number(value("embedded")),
      ...shapes,
      ...SHAPES.flatMap(([side]) => ratios(side)),
    ];
  });
  const head = ["", "in-process", "embedded", ...SHAPES.map(([, label]) => label)];
  const compared = SHAPES.flatMap(([, label]) => [`${label} / in-process`, `/ embedded`]);
  return table([...head, ...compared], body);
}

function cpuOf(rounds) {
  const body = Object.entries(LOAD_UNITS).flatMap(([load, label]) =>
    [["embedded", "embedded"], ...SHAPES].map(([side, name]) => [
      `${label}, ${name}`,
      ...parts(rounds.map((round) => round[load][side].cpu)),
    ]),
  );
  return table(["CPU (ms) per", ...PART_TITLES], body);
}

const PARTS = ["server", "workers", "postgres", "redis"];
const PART_TITLES = ["server", "workers", "PostgreSQL", "Redis", "sum", "per core and second", "client"];

/** CPU of each part, and how often one core that did nothing else would do it in a second. */
function parts(readings) {
  const of = (part) => median(readings.map((reading) => reading[part]));
  const values = PARTS.map(of);
  const total = sum(values);
  return [...values.map(small), small(total), number(1_000 / total), small(of("client"))];
}

const small = (value) =>
  Number.isNaN(value) ? "n/a" : value === 0 ? "" : value < 0.1 ? value.toFixed(4) : value.toFixed(2);

function costsOf(costs) {
  const timed = [
    ["starts", "request sent until the first node runs"],
    ["eventDelays", "event written until a client has it"],
  ];
  const rates = [
    ["createThread", "POST /threads, 32 clients"],
    ["readState", "GET /threads/{id}/state, 32 clients"],
  ];
  const all = (shape, key) => costs.map((round) => round[shape][key]);
  const of = (shape, key, name) => number(median(all(shape, key).map(({ numbers }) => numbers[name])));
  const cpu = (shape, key) => parts(all(shape, key).map((reading) => reading.cpu));
  const body = SHAPES.flatMap(([shape, name]) => [
    ...timed.map(([key, label]) => [
      `${label}, ${name}`,
      `${of(shape, key, "p50")} / ${of(shape, key, "p95")} ms`,
      ...cpu(shape, key),
    ]),
    ...rates.map(([key, label]) => [`${label}, ${name}`, `${of(shape, key, "rate")}/s`, ...cpu(shape, key)]),
  ]);
  return table(
    ["", "p50 / p95, or rate", ...PART_TITLES.map((title) => `${title}${PARTS_IN_MS.has(title) ? " (CPU ms)" : ""}`)],
    body,
  );
}

const PARTS_IN_MS = new Set(["server", "workers", "PostgreSQL", "Redis", "sum", "client"]);

function idleOf(costs) {
  const of = (shape, pick) => median(costs.map((round) => pick(round[shape])));
  const body = SHAPES.flatMap(([shape, name]) => [
    [
      `RSS at the start (MB), ${name}`,
      ...PARTS.map((part) => number(of(shape, ({ idleMb }) => idleMb[part] ?? Number.NaN))),
    ],
    [
      `held per idle stream (KB), ${name}`,
      ...PARTS.map((part) => number(of(shape, ({ idle }) => idle.kb[part] ?? Number.NaN))),
    ],
    [
      `CPU (ms per s) with nothing to do, ${name}`,
      ...PARTS.map((part) => number(of(shape, ({ idle }) => idle.quiet[part]))),
    ],
    [
      `CPU (ms per s) per 1,000 idle streams, ${name}`,
      ...PARTS.map((part) => number(of(shape, ({ idle }) => idle.cpuPerThousand[part]))),
    ],
  ]);
  return table(["", "server", "workers", "PostgreSQL", "Redis"], body);
}

function countsOf(counts) {
  const body = SHAPES.flatMap(([shape, name]) =>
    Object.entries(counts[shape].results).map(([what, { postgres, redis, redisInside }]) => [
      `${what}, ${name}`,
      ...[postgres.calls, postgres.roundTrips, postgres.bytes + postgres.bytesBack].map(number),
      ...[redis.calls, redis.roundTrips, redis.bytes + redis.bytesBack, sum(Object.values(redisInside))].map(number),
    ]),
  );
  const connections = SHAPES.map(([shape, name]) => {
    const { postgres, redis } = counts[shape].connections;
    return `${name}: ${postgres} to PostgreSQL, ${redis} to Redis`;
  });
  const head = ["per", "statements", "round trips", "bytes", "Redis commands", "round trips", "bytes", "inside Redis"];
  return `${table(head, body)}\n\nConnections: ${connections.join("; ")}`;
}

const table = (head, body) =>
  markdown(
    head,
    body,
    head.slice(1).map((_, index) => index + 1),
  );

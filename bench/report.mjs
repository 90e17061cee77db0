/** What is measured, what is promised, and the table of both. */
import { median } from "./loads.mjs";

const atMost = (most) => ({ text: `<= ${most}`, met: (value) => value <= most });
const atLeast = (least) => ({ text: `>= ${least}`, met: (value) => value >= least });

/**
 * One row each: `of` picks the number from what a section measured, on either side. `ratio` and `server` are the targets of
 * the ratio and of the server's own number.
 */
export const ROWS = [
  { id: "latency_p50", section: "latency", label: "stream, p50", unit: "ms", of: (m) => m.p50, ratio: atMost(1.8) },
  { id: "latency_p95", section: "latency", label: "stream, p95", unit: "ms", of: (m) => m.p95 },
  { id: "first_byte_p50", section: "latency", label: "stream, first byte p50", unit: "ms", of: (m) => m.first },
  { id: "cpu_stream", section: "latency", label: "stream, CPU per run", unit: "ms", of: (m) => m.cpu },
  {
    id: "runs_per_s",
    section: "throughput",
    label: "wait, 32 clients",
    unit: "runs/s",
    of: (m) => m.rate,
    ratio: atLeast(0.7),
  },
  { id: "cpu_wait", section: "throughput", label: "wait, CPU per run", unit: "ms", of: (m) => m.cpu },
  {
    id: "tokens_per_s",
    section: "tokens",
    label: "2,000 tokens",
    unit: "tokens/s",
    of: (m) => m.rate,
    ratio: atLeast(0.7),
  },
  { id: "held_ms", section: "held", label: "500 held streams of 1 s", unit: "ms", of: (m) => m.ms, ratio: atMost(1.3) },
  {
    id: "held_failures",
    section: "held",
    label: "  of them failed",
    unit: "",
    of: (m) => m.failures,
    worst: true,
    server: atMost(0),
  },
  { id: "cpu_held", section: "held", label: "held stream, CPU per run", unit: "ms", of: (m) => m.cpu },
  {
    id: "step_async",
    section: "steps",
    label: "superstep, durability async",
    unit: "ms",
    of: (m) => m.async,
    ratio: atMost(1.5),
  },
  { id: "step_sync", section: "steps", label: "superstep, durability sync", unit: "ms", of: (m) => m.sync },
  { id: "rss_idle", section: "memory", label: "RSS, idle", unit: "MB", of: (m) => m.idle, server: atMost(250) },
  { id: "rss_loaded", section: "memory", label: "RSS, after the load", unit: "MB", of: (m) => m.loaded },
  { id: "start", section: "start", label: "start", unit: "ms", of: (m) => m.ms, server: atMost(2_500) },
];

/** `rounds`: per round, section → its turns, each `{ server, inProcess }`. */
export function rowsOf(rounds) {
  return ROWS.filter(({ section }) => section in rounds[0]).map((row) => rowOf(row, rounds));
}

function rowOf({ id, section, label, unit, of, ratio: ratioTarget, server: serverTarget, worst }, rounds) {
  // A failure is not noise: no median hides it.
  const summary = worst ? (values) => Math.max(...values) : median;
  const perRound = (pick) => rounds.map((round) => summary(round[section].map(pick)));
  const server = perRound((turn) => of(turn.server));
  const inProcess = perRound((turn) => of(turn.inProcess));
  // Of one turn, whose sides are measured right after each other: what the host does meanwhile meets both.
  const ratios = perRound((turn) => of(turn.server) / of(turn.inProcess));
  const ratio = worst ? null : median(ratios);
  return {
    id,
    label,
    unit,
    server: { value: summary(server), rounds: server },
    inProcess: { value: summary(inProcess), rounds: inProcess },
    ratio: worst ? null : { value: ratio, rounds: ratios },
    target: ratioTarget ? `ratio ${ratioTarget.text}` : (serverTarget?.text ?? null),
    ok: Number.isNaN(summary(server))
      ? null
      : ratioTarget
        ? ratioTarget.met(ratio)
        : (serverTarget?.met(summary(server)) ?? null),
  };
}

/** Markdown, so that it can be pasted into docs/benchmarks.md as it is. */
export function tableOf(rows) {
  const head = ["", "server", "in-process", "ratio", "ratio per round", "target", ""];
  const body = rows.map(({ label, unit, server, inProcess, ratio, target, ok }) => [
    `${label}${unit && ` (${unit})`}`,
    number(server.value),
    number(inProcess.value),
    ratio ? `${ratio.value.toFixed(2)}x` : "",
    ratio ? ratio.rounds.map((value) => value.toFixed(2)).join(" ") : "",
    target ?? "",
    ok === null ? "" : ok ? "ok" : "MISS",
  ]);
  return markdown(head, body, [1, 2, 3]);
}

/** Of the large file: the server's own numbers and their targets. */
export function scaleTableOf(rows) {
  const body = rows.map(({ label, unit, value, target, ok }) => [
    `${label} (${unit})`,
    number(value),
    target ?? "",
    ok === null ? "" : ok ? "ok" : "MISS",
  ]);
  return markdown(["", "server", "target", ""], body, [1]);
}

/** Numbers without another side. */
export function plainTableOf(rows) {
  const body = rows.map(({ label, unit, value }) => [`${label} (${unit})`, number(value)]);
  return markdown(["", "server"], body, [1]);
}

export function markdown(head, body, rightColumns) {
  const widths = head.map((title, column) => Math.max(3, title.length, ...body.map((cells) => cells[column].length)));
  const right = new Set(rightColumns);
  const line = (cells) =>
    `| ${cells.map((cell, column) => (right.has(column) ? cell.padStart(widths[column]) : cell.padEnd(widths[column]))).join(" | ")} |`;
  const rule = `|${widths.map((width, column) => `${"-".repeat(width + 1)}${right.has(column) ? ":" : "-"}`).join("|")}|`;
  return [line(head), rule, ...body.map(line)].join("\n");
}

export function number(value) {
  if (Number.isNaN(value)) return "n/a";
  return value >= 100 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toFixed(2)));
}

/** What the page about metrics lists is what there is; what OTLP sends is what Prometheus reads. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Metrics } from "../../src/observability/metrics.ts";
import { Api } from "../runs/support.ts";
import { Collector, type SeenMetric } from "../support/collector.ts";
import { ROOT } from "../support/project.ts";
import { eventually, startServer } from "../support/server.ts";

test("the page lists each metric with its type and labels, and no others", () => {
  const { registry } = new Metrics({
    runsByStatus: async () => ({}),
    executors: () => ({ threads: 0, running: 0 }),
    broker: () => "connected",
    eventStreams: () => ({ sse: 0, websocket: 0 }),
  });
  const page = readFileSync(join(ROOT, "docs/observability.md"), "utf8");
  const listed = page.split("\n").flatMap((line) => {
    const [, names = "", type = ""] = line.split("|").map((cell) => cell.trim());
    return [...names.matchAll(/`(skein_\w+)`/g)].map(([, name]) => `${name} ${type.replaceAll(/[`,]/g, "")}`);
  });
  const known = registry.getMetricsAsArray().map((metric) => {
    const { name, type, labelNames = [] } = metric as typeof metric & { labelNames?: string[] };
    return [name, type, ...labelNames].join(" ");
  });
  expect(listed.sort()).toEqual(known.sort());
});

test("all of them are sent by OTLP, with the same numbers", async () => {
  await using collector = await Collector.open();
  await using server = await startServer({ env: collector.env({ OTEL_TRACES_EXPORTER: "none" }) });
  const api = new Api(server);
  for (const assistant_id of ["plain", "plain", "error"]) await api.wait({ assistant_id, input: { value: 1 } });
  const sent = await eventually(() =>
    labelled(named(collector, "skein_runs_ended_total"), "error") === 1 ? collector.metrics : undefined,
  );
  expect(collector.spans).toEqual([]);
  const { metrics } = await api.get<{ metrics: { name: string; values: unknown[] }[] }>("/metrics?format=json");
  // Those that have no value yet are not sent; what keeps the process alive changes all the time.
  const valued = metrics.filter(({ values }) => values.length > 0).map(({ name }) => name);
  const isSteady = (name: string): boolean => !name.startsWith("skein_nodejs_active_");
  const names = sent.map(({ name }) => name);
  expect(names.filter(isSteady).sort()).toEqual(valued.filter(isSteady).sort());
  expect(named(collector, "skein_runs_created_total")).toMatchObject({
    sum: { isMonotonic: true, dataPoints: [{ asDouble: 3 }] },
  });
  expect(labelled(named(collector, "skein_runs_ended_total"), "success")).toBe(2);
  expect(named(collector, "skein_executor_threads")?.gauge?.dataPoints[0]?.asDouble).toBeGreaterThan(0);
  const duration = named(collector, "skein_run_duration_seconds");
  const [point] = duration?.histogram?.dataPoints ?? [];
  expect(duration).toMatchObject({ unit: "s" });
  expect(point).toMatchObject({ count: 3, explicitBounds: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600] });
  expect(point?.bucketCounts).toHaveLength(12);
  expect(point?.bucketCounts?.reduce((sum, count) => sum + count)).toBe(3);
  expect(named(collector, "skein_run_wait_seconds")?.histogram?.dataPoints[0]).toMatchObject({ count: 3 });
});

const named = ({ metrics }: Collector, name: string): SeenMetric | undefined =>
  metrics.find((metric) => metric.name === name);

const labelled = (metric: SeenMetric | undefined, label: string): number | undefined =>
  metric?.sum?.dataPoints.find(({ attributes }) => attributes.some(({ value }) => value.stringValue === label))
    ?.asDouble;

/** The metrics of `/metrics`, as OTLP sends them: read off the same registry when they are sent, so that nothing is counted twice. */
import type { Attributes, HrTime } from "@opentelemetry/api";
import type { ExportResult } from "@opentelemetry/core";
import type { Resource } from "@opentelemetry/resources";
import type { DataPoint, Histogram, MeterProvider, MetricData, PushMetricExporter } from "@opentelemetry/sdk-metrics";
import type { MetricObjectWithValues, MetricValueWithName, Registry } from "prom-client";
import type { OtlpProtocol, TelemetrySettings } from "../config.ts";
import { VERSION } from "../version.ts";

type Sdk = typeof import("@opentelemetry/sdk-metrics");
type Metric = MetricObjectWithValues<MetricValueWithName<string>>;

/** Hears what went wrong with sending. */
export type Complain = (error: unknown) => void;

interface Exporter<T> {
  export(items: T, done: (result: ExportResult) => void): void;
}

/** The exporter, which tells of each time that it fails. */
export function heard<T, E extends Exporter<T>>(exporter: E & Exporter<T>, complain: Complain): E {
  const send = exporter.export.bind(exporter);
  exporter.export = (items, done) =>
    send(items, (result) => {
      if (result.error !== undefined) complain(result.error);
      done(result);
    });
  return exporter;
}

interface MetersOptions {
  readonly metrics: NonNullable<TelemetrySettings["metrics"]>;
  readonly registry: Registry;
  readonly resource: Resource;
  readonly complain: Complain;
}

export async function metersOf({ metrics, registry, resource, complain }: MetersOptions): Promise<MeterProvider> {
  const { protocol, intervalMs, timeoutMs } = metrics;
  const [sdk, exporter] = await Promise.all([import("@opentelemetry/sdk-metrics"), exporterOf(protocol)]);
  const since = hrTime(Date.now());
  const collect = async () => {
    const found: readonly Metric[] = await registry.getMetricsAsJSON();
    const times = { startTime: since, endTime: hrTime(Date.now()) };
    const scope = { name: "skein", version: VERSION };
    const known = found.map((metric) => dataOf(sdk, metric, times)).filter(({ dataPoints }) => dataPoints.length > 0);
    const scopeMetrics = [{ scope, metrics: known }];
    return { resourceMetrics: { resource, scopeMetrics }, errors: [] };
  };
  const reader = new sdk.PeriodicExportingMetricReader({
    exporter: heard(exporter, complain),
    exportIntervalMillis: intervalMs,
    exportTimeoutMillis: timeoutMs,
    metricProducers: [{ collect }],
  });
  return new sdk.MeterProvider({ resource, readers: [reader] });
}

async function exporterOf(protocol: OtlpProtocol): Promise<PushMetricExporter> {
  switch (protocol) {
    case "grpc":
      return new (await import("@opentelemetry/exporter-metrics-otlp-grpc")).OTLPMetricExporter();
    case "http/json":
      return new (await import("@opentelemetry/exporter-metrics-otlp-http")).OTLPMetricExporter();
    case "http/protobuf":
      return new (await import("@opentelemetry/exporter-metrics-otlp-proto")).OTLPMetricExporter();
    default:
      return protocol satisfies never;
  }
}

const hrTime = (ms: number): HrTime => [Math.floor(ms / 1000), (ms % 1000) * 1_000_000];

type Times = Pick<DataPoint<number>, "startTime" | "endTime">;

function dataOf(sdk: Sdk, metric: Metric, times: Times): MetricData {
  const { name, help, type } = metric;
  const common = {
    descriptor: { name, description: help, unit: unitOf(name), valueType: 1 },
    aggregationTemporality: sdk.AggregationTemporality.CUMULATIVE,
  };
  const { DataPointType } = sdk;
  const points = (): DataPoint<number>[] =>
    metric.values.map(({ labels, value }) => ({ ...times, attributes: labels, value }));
  // prom-client says the type as a word, though its types say a number.
  switch (String(type)) {
    case "counter":
      return { ...common, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints: points() };
    case "histogram":
      return { ...common, dataPointType: DataPointType.HISTOGRAM, dataPoints: histograms(metric, times) };
    default:
      return { ...common, dataPointType: DataPointType.GAUGE, dataPoints: points() };
  }
}

/** By the names' endings, which are Prometheus's. */
const UNITS: readonly (readonly [ending: RegExp, unit: string])[] = [
  [/_seconds(_total)?$/, "s"],
  [/_ms$/, "ms"],
  [/_bytes$/, "By"],
];
const unitOf = (name: string): string => UNITS.find(([ending]) => ending.test(name))?.[1] ?? "";

/** One point for each set of labels. Prometheus counts what is below a bound, OTLP what is between two. */
function histograms(metric: Metric, times: Times): DataPoint<Histogram>[] {
  const series = new Map<string, Metric["values"]>();
  for (const value of metric.values) {
    const key = JSON.stringify(attributesOf(value));
    series.set(key, [...(series.get(key) ?? []), value]);
  }
  return [...series.values()].map((values) => ({
    ...times,
    attributes: attributesOf(values[0]),
    value: histogramOf(metric.name, values),
  }));
}

function attributesOf(value: Metric["values"][number] | undefined): Attributes {
  const { le: _, ...labels } = value?.labels ?? {};
  return labels;
}

function histogramOf(name: string, values: Metric["values"]): Histogram {
  const one = (suffix: string): number => values.find(({ metricName }) => metricName === name + suffix)?.value ?? 0;
  const below = values.filter(({ metricName }) => metricName === `${name}_bucket`);
  const counts = below.map(({ value }, index) => value - (below[index - 1]?.value ?? 0));
  const boundaries = below.map(({ labels }) => Number(labels.le)).filter(Number.isFinite);
  return { buckets: { boundaries, counts }, sum: one("_sum"), count: one("_count") };
}

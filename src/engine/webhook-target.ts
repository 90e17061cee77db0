/**
 * Which URLs a webhook may call. Checked when the run is created (what the text says) and again when the
 * call connects (what the name resolves to), so that a name cannot be re-pointed in between.
 */
import { lookup } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import ipaddr from "ipaddr.js";
import type { Agent } from "undici";
import type { WebhookSettings } from "../config.ts";
import { invalid } from "../errors.ts";
import { SIGNATURE_HEADER, signature } from "./webhook-signature.ts";
import { WebhookRefused } from "./webhooks.ts";

/** Which targets the configuration permits. */
export type WebhookPolicy = Pick<
  WebhookSettings,
  "allowLoopback" | "allowPrivate" | "requireHttps" | "allowedDomains" | "allowedPorts" | "maxUrlLength"
>;

const TIMEOUT_MS = 10_000;
const LOCAL_NAMES = new Set(["localhost", "host.docker.internal"]);

/** Why the URL may not be called, or null. `base` is the server's own URL: relative webhooks call it. */
export function refusal(url: string, base: string, policy: WebhookPolicy): string | null {
  if (url.length > policy.maxUrlLength) return `is longer than ${policy.maxUrlLength} characters`;
  const target = targetOf(url, base);
  if (target === null) return "is not a URL";
  if (target.protocol !== "https:" && target.protocol !== "http:") return "must be an http or https URL";
  if (policy.requireHttps && target.protocol !== "https:") return "must use https";
  const host = target.hostname
    .replace(/^\[|\]$/g, "")
    .replace(/\.$/, "")
    .toLowerCase();
  const local = LOCAL_NAMES.has(host) || host.endsWith(".localhost");
  if (local && !policy.allowLoopback) return "targets this machine (webhooks.url.disable_loopback forbids it)";
  const address = isIP(host) === 0 ? null : addressRefusal(host, policy);
  if (address !== null) return address;
  if (policy.allowedDomains !== null && !policy.allowedDomains.some((pattern) => matches(host, pattern))) {
    return `targets ${host}, which is not in webhooks.url.allowed_domains`;
  }
  return portRefusal(target, local || (isIP(host) !== 0 && rangeOf(host) === "loopback"), policy);
}

/** A path is one of the server's, below whatever prefix it has. */
function targetOf(url: string, base: string): URL | null {
  const whole = /^\/(?!\/)/.test(url) ? `${base}${url}` : url;
  return URL.canParse(whole, base) ? new URL(whole, base) : null;
}

/** Refuses a run's webhook at creation, naming the field that has it. */
export function checkWebhook(url: string, base: string, policy: WebhookPolicy, field = "webhook"): void {
  const reason = refusal(url, base, policy);
  if (reason !== null) throw invalid(field, reason);
}

/**
 * A function that posts JSON to a webhook, refusing targets that resolve to forbidden addresses. Redirects are not
 * followed: they would lead anywhere.
 */
export function poster(
  base: () => string,
  settings: WebhookSettings,
  resolve: typeof lookup = lookup,
): (url: string, payload: string, id: string, headers?: Readonly<Record<string, string>>) => Promise<number> {
  let dispatcher: Agent | undefined;
  const { headers: configured, signingSecrets } = settings;
  return async (url, payload, id, headers = {}) => {
    const reason = refusal(url, base(), settings);
    const target = targetOf(url, base());
    if (reason !== null || target === null) throw new WebhookRefused(reason ?? "is not a URL");
    // Loaded by the first call: a third of what a start would load, and many servers call nobody. By its default: it is CommonJS.
    const { Agent, request } = (await import("undici")).default;
    dispatcher ??= new Agent({ connect: { lookup: guardedLookup(settings, resolve), timeout: TIMEOUT_MS } });
    const response = await request(target, {
      method: "POST",
      dispatcher,
      body: payload,
      headers: {
        "user-agent": "skein",
        ...configured,
        "content-type": "application/json",
        ...headers,
        "x-skein-webhook-id": id,
        ...(signingSecrets.length === 0 ? {} : { [SIGNATURE_HEADER]: signature(payload, signingSecrets, Date.now()) }),
      },
      headersTimeout: TIMEOUT_MS,
      bodyTimeout: TIMEOUT_MS,
    });
    await response.body.dump();
    return response.statusCode;
  };
}

/** What the socket is given are the addresses that were checked: nobody looks the name up again. */
function guardedLookup(policy: WebhookPolicy, resolve: typeof lookup): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, "", 0);
      const bad = addresses.map(({ address }) => addressRefusal(address, policy)).find((reason) => reason !== null);
      if (bad !== undefined && bad !== null) return callback(new WebhookRefused(`${hostname} ${bad}`), "", 0);
      const [first] = addresses;
      if (options.all === true) return callback(null, addresses);
      return callback(null, first?.address ?? "", first?.family ?? 0);
    });
  };
}

function addressRefusal(address: string, policy: WebhookPolicy): string | null {
  const range = rangeOf(address);
  if (range === "loopback") {
    return policy.allowLoopback ? null : "targets this machine (webhooks.url.disable_loopback forbids it)";
  }
  if (range === "unicast" || policy.allowPrivate) return null;
  return `targets a ${range} address (webhooks.url.allow_private permits it)`;
}

/** `loopback`, `private`, `linkLocal`, `uniqueLocal`, `unspecified` …; `unicast` is the public internet. */
function rangeOf(address: string): string {
  const parsed = ipaddr.process(address);
  // The old IPv4-compatible form `::127.0.0.1` has no public use.
  const isCompatible = parsed.kind() === "ipv6" && parsed.toNormalizedString().startsWith("0:0:0:0:0:0:");
  const range = isCompatible ? "loopback" : parsed.range();
  return range === "unspecified" ? "loopback" : range;
}

function matches(host: string, pattern: string): boolean {
  const lower = pattern.toLowerCase();
  return lower.startsWith("*.") ? host.endsWith(lower.slice(1)) : host === lower;
}

function portRefusal(target: URL, isLoopback: boolean, policy: WebhookPolicy): string | null {
  const port = target.port === "" ? (target.protocol === "https:" ? 443 : 80) : Number(target.port);
  const allowed = policy.allowedPorts ?? (isLoopback ? null : [443, 80]);
  if (allowed === null || allowed.includes(port)) return null;
  return `targets port ${port}, which is not in webhooks.url.allowed_ports`;
}

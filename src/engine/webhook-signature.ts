/** Proof that a webhook comes from this server: an HMAC of its time and body under a secret that the receiver knows. */
import { createHmac } from "node:crypto";

export const SIGNATURE_HEADER = "x-skein-signature";

/** `t=<unix seconds>,v1=<hex>`; one `v1` per secret, so that a receiver can change its secret without missing a call. */
export function signature(body: string, secrets: readonly string[], now: number): string {
  const time = Math.floor(now / 1000);
  const proofs = secrets.map((secret) => `v1=${createHmac("sha256", secret).update(`${time}.${body}`).digest("hex")}`);
  return [`t=${time}`, ...proofs].join(",");
}

import { expect, test } from "vitest";
import { redisPlace } from "../src/redis-uri.ts";

test.each([
  ["redis://redis", { host: "redis", port: 6379, db: 0 }],
  ["redis://u:p%40ss@[::1]:7000/3", { host: "::1", port: 7000, db: 3, username: "u", password: "p@ss" }],
  ["rediss://r:1", { host: "r", port: 1, db: 0, tls: {} }],
  ["rediss://r?ssl_cert_reqs=none", { host: "r", port: 6379, db: 0, tls: { rejectUnauthorized: false } }],
  ["rediss://r/0?ssl_cert_reqs=required&ssl_check_hostname=true", { tls: { rejectUnauthorized: true } }],
])("%s", (uri, place) => {
  expect(redisPlace(uri)).toMatchObject(place);
});

test("a host that is another than its certificate says, and files", () => {
  const { tls } = redisPlace(`rediss://r?ssl_check_hostname=False&ssl_ca_certs=${import.meta.filename}`);
  expect(tls?.checkServerIdentity?.("r", {} as never)).toBeUndefined();
  expect(String(tls?.ca)).toContain("and files");
});

test.each([
  ["http://r", "must be a Redis URI (redis://user:password@host:6379/0, or rediss:// for TLS)"],
  ["redis://r/zero", 'has the path "/zero", which is no number of a database'],
  ["redis://r?ssl_cert_reqs=none", 'has the parameter "ssl_cert_reqs", which needs rediss://'],
  ["rediss://r?ssl_cert_reqs=optional", 'has a ssl_cert_reqs that must be none or required, not "optional"'],
  ["redis://r?enableOfflineQueue=true", 'has the parameter "enableOfflineQueue", which is not known'],
  ["rediss://r?ssl_ca_certs=/there/is/none", "ENOENT"],
])("%s is refused", (uri, message) => {
  expect(() => redisPlace(uri)).toThrow(message);
});

/** What a Redis URI says: `redis://user:password@host:6379/0`, or `rediss://` for TLS. */
import { readFileSync } from "node:fs";
import type { ConnectionOptions } from "node:tls";

export interface RedisPlace {
  readonly host: string;
  readonly port: number;
  /** Number of the database. */
  readonly db: number;
  readonly username?: string;
  readonly password?: string;
  readonly tls?: ConnectionOptions;
}

const DEFAULT_PORT = 6379;

/** Parameters of `rediss://`, as redis-py has them, and what they mean to Node's TLS. Files are PEM. */
const TLS_PARAMETERS: Readonly<Record<string, (value: string, name: string) => ConnectionOptions>> = {
  ssl_ca_certs: (file) => ({ ca: readFileSync(file) }),
  ssl_certfile: (file) => ({ cert: readFileSync(file) }),
  ssl_keyfile: (file) => ({ key: readFileSync(file) }),
  ssl_cert_reqs: (value, name) => ({ rejectUnauthorized: oneOf(value, name, { none: false, required: true }) }),
  ssl_check_hostname: (value, name) =>
    oneOf(value.toLowerCase(), name, { true: true, false: false }) ? {} : { checkServerIdentity: () => undefined },
};

/** Throws an Error that says what is wrong with it, to be put behind its name; never the URI, which may hold a password. Reads the files it names. */
export function redisPlace(uri: string): RedisPlace {
  if (!/^rediss?:\/\//.test(uri) || !URL.canParse(uri)) {
    throw new Error("must be a Redis URI (redis://user:password@host:6379/0, or rediss:// for TLS)");
  }
  const { protocol, hostname, port, pathname, username, password, searchParams } = new URL(uri);
  if (!/^\/?\d*$/.test(pathname)) throw new Error(`has the path "${pathname}", which is no number of a database`);
  const tls = tlsOptions(protocol === "rediss:", searchParams);
  return {
    host: hostname.replace(/^\[|\]$/g, ""),
    port: Number(port) || DEFAULT_PORT,
    db: Number(pathname.slice(1)),
    ...(username === "" ? {} : { username: decodeURIComponent(username) }),
    ...(password === "" ? {} : { password: decodeURIComponent(password) }),
    ...(tls === undefined ? {} : { tls }),
  };
}

/** For logs and messages. */
export const withoutSecrets = ({ host, port }: RedisPlace): string => `${host}:${port}`;

function tlsOptions(isTls: boolean, parameters: URLSearchParams): ConnectionOptions | undefined {
  const options: ConnectionOptions = {};
  for (const [name, value] of parameters) {
    const meaning = TLS_PARAMETERS[name];
    if (meaning === undefined) throw new Error(`has the parameter "${name}", which is not known`);
    if (!isTls) throw new Error(`has the parameter "${name}", which needs rediss://`);
    Object.assign(options, meaning(value, name));
  }
  return isTls ? options : undefined;
}

function oneOf<T>(value: string, name: string, choices: Readonly<Record<string, T>>): T {
  const choice = choices[value];
  if (choice === undefined)
    throw new Error(`has a ${name} that must be ${Object.keys(choices).join(" or ")}, not "${value}"`);
  return choice;
}

import { createRequire } from "node:module";

const { version } = createRequire(import.meta.url)("skein/package.json") as { version: string };

/** Version of this server, from its package.json. */
export const VERSION = version;

/** What may be told of an error to callers of other servers: its words, without where our parts live. */

const HIDDEN = "[address]";

/** Each shows a place: a URL, an address with or without a port, a socket error's target, a member of a connection string. */
const PLACES: readonly (readonly [RegExp, string])[] = [
  [/\b[a-z][a-z0-9+.-]*:\/\/[^\s"'<>]+/gi, HIDDEN],
  [
    /\b(ECONN\w+|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ETIMEDOUT|getaddrinfo)((?:\s+(?:ENOTFOUND|EAI_AGAIN))?)\s+[^\s"',]+/g,
    `$1$2 ${HIDDEN}`,
  ],
  [/\b(host|hostaddr|server|user|username|password|pwd|dbname|database)=[^\s;"']+/gi, `$1=${HIDDEN}`],
  [/\[[0-9a-f:]*:[0-9a-f:.]*\](?::\d+)?/gi, HIDDEN],
  [/\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b/g, HIDDEN],
  [/\b(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+):\d{2,5}\b/gi, HIDDEN],
  [/\blocalhost\b/gi, HIDDEN],
];

/** The text without URLs, hosts, addresses and members of connection strings. Source: A2A errors of the original. */
export const publicText = (text: string): string =>
  PLACES.reduce((left, [place, shown]) => left.replace(place, shown), text);

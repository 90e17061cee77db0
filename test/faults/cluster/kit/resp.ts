/** As much of the protocol of Redis as it takes to lose its published messages. */

const CR = 13;
const MESSAGE = /^[*>]\d+\r\n\$\d+\r\n[ps]?message\r\n/;

/** What becomes of bytes on their way from the service to a client. */
export type Filter = (chunk: Buffer, deaf: boolean) => Buffer;

/** Whole replies pass, and published messages do not while `deaf`. Bytes of a reply that is not there in full wait. */
export function redisReplies(): Filter {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk, deaf) => {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const kept: Buffer[] = [];
    let from = 0;
    for (let to = endOfReply(bytes, from); to > from; to = endOfReply(bytes, from)) {
      const reply = bytes.subarray(from, to);
      if (!deaf || !MESSAGE.test(reply.toString("latin1", 0, 64))) kept.push(reply);
      from = to;
    }
    rest = bytes.subarray(from);
    return Buffer.concat(kept);
  };
}

/** Where the reply that begins at `from` ends; `from` itself when it is not there in full. */
function endOfReply(bytes: Buffer, from: number): number {
  const cr = bytes.indexOf(CR, from);
  if (cr < 0 || cr + 1 >= bytes.length) return from;
  const type = String.fromCharCode(bytes[from] ?? 0);
  const line = cr + 2;
  const count = Number(bytes.toString("latin1", from + 1, cr));
  if ("+-:_,#(".includes(type)) return line;
  if ("$=!".includes(type)) {
    const end = count < 0 ? line : line + count + 2;
    return end <= bytes.length ? end : from;
  }
  if (!"*>~%|".includes(type)) throw new Error(`no reply of a Redis begins with ${JSON.stringify(type)}`);
  let at = line;
  for (let left = type === "%" || type === "|" ? 2 * count : count; left > 0; left--) {
    const next = endOfReply(bytes, at);
    if (next === at) return from;
    at = next;
  }
  return at;
}

/**
 * AES-GCM for values of the database. What is sealed begins with a mark that names its key, so that keys can be
 * changed; nobody outside knows a key's id, so no client can write text that passes for sealed.
 *
 *   text    mark · base64(nonce · tag · ciphertext)
 *   bytes   mark · `t` or `b` (what it was) · nonce · tag · ciphertext
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes } from "node:crypto";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const TEXT = "t";
const BYTES = "b";

/** A sealed value that does not open: it was changed outside, or the disk failed. */
export class SealBroken extends Error {
  override readonly name = "SealBroken";
}

export interface CipherKeys {
  /** 16, 24 or 32 bytes; seals and opens. */
  readonly key: Uint8Array;
  /** Keys of before: they only open. */
  readonly old: readonly Uint8Array[];
}

interface Key {
  readonly id: string;
  readonly secret: Uint8Array;
  /** What everything sealed under this key begins with. */
  readonly mark: string;
  readonly markBytes: Buffer;
}

export class Cipher {
  readonly #current: Key;
  readonly #keys: readonly Key[];

  constructor({ key, old }: CipherKeys) {
    this.#current = keyOf(key);
    this.#keys = [this.#current, ...old.map(keyOf)];
  }

  /** Id of the key that seals. */
  get keyId(): string {
    return this.#current.id;
  }

  /** Whether values sealed under this key can be opened. */
  knows(key_id: string): boolean {
    return this.#keys.some(({ id }) => id === key_id);
  }

  /** For columns of text. */
  sealText(text: string): string {
    const { mark } = this.#current;
    return mark + Buffer.concat(encrypt(this.#current, TEXT, Buffer.from(text))).toString("base64");
  }

  /** For columns of bytes. Text given comes back as text. */
  sealBytes(value: string | Uint8Array): Uint8Array {
    const kind = typeof value === "string" ? TEXT : BYTES;
    const plain = typeof value === "string" ? Buffer.from(value) : value;
    return Buffer.concat([this.#current.markBytes, Buffer.from(kind), ...encrypt(this.#current, kind, plain)]);
  }

  /** The text that was sealed; undefined when this is not sealed. */
  openText(value: string): string | undefined {
    const key = this.#keys.find(({ mark }) => value.startsWith(mark));
    if (key === undefined) return undefined;
    return decrypt(key, TEXT, Buffer.from(value.slice(key.mark.length), "base64")).toString();
  }

  /** What was sealed; undefined when this is not sealed. */
  openBytes(value: Uint8Array): string | Uint8Array | undefined {
    const buffer = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    const key = this.#keys.find(({ markBytes }) => buffer.subarray(0, markBytes.length).equals(markBytes));
    if (key === undefined) return undefined;
    const at = key.markBytes.length;
    const kind = buffer.toString("latin1", at, at + 1);
    const plain = decrypt(key, kind, buffer.subarray(at + 1));
    return kind === TEXT ? plain.toString() : plain;
  }

  /** Whether sealed text is somewhere inside. */
  marks(text: string): boolean {
    return this.#keys.some(({ mark }) => text.includes(mark));
  }
}

function keyOf(secret: Uint8Array): Key {
  const id = createHmac("sha256", secret).update("skein key id").digest("hex").slice(0, 16);
  const mark = `skein-aes:${id}:`;
  return { id, secret, mark, markBytes: Buffer.from(mark) };
}

const algorithm = ({ secret }: Key): "aes-128-gcm" => `aes-${secret.length * 8}-gcm` as "aes-128-gcm";

function encrypt(key: Key, kind: string, plain: Uint8Array): Buffer[] {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(algorithm(key), key.secret, nonce).setAAD(Buffer.from(kind));
  const sealed = [cipher.update(plain), cipher.final()];
  return [nonce, cipher.getAuthTag(), ...sealed];
}

function decrypt(key: Key, kind: string, sealed: Buffer): Buffer {
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const tag = sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
  try {
    const options = { authTagLength: TAG_BYTES };
    const decipher = createDecipheriv(algorithm(key), key.secret, nonce, options).setAAD(Buffer.from(kind));
    decipher.setAuthTag(tag);
    return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
  } catch (error) {
    throw new SealBroken(`a value sealed under the key ${key.id} does not open: it was changed or is damaged`, {
      cause: error,
    });
  }
}

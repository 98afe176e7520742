import { StatespaceError } from '../../errors.js';
import { lazyCrypto } from '../../lazy.js';
import { tagOf } from '../../tensor.js';

/**
 * A checkpoint as a store holds it: magic, version, the namespace, the number of tokens, the tokens, the session's
 * snapshot (which is bound to the model and has a checksum of its own), and a SHA-256 over all before it but the
 * snapshot. Little endian.
 */
const MAGIC = 'SSMPREF\0';
const VERSION = 1;
const HEADER = 8 + 4 + 4 + 32;
const DIGEST = 32;

const bytesOf = (a: Int32Array): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

export function encodeRecord(namespace: Uint8Array, tokens: Int32Array, snapshot: Uint8Array): Uint8Array {
  const head = Buffer.alloc(HEADER + 4 * tokens.length);
  head.write(MAGIC, 0, 'latin1');
  head.writeUInt32LE(VERSION, 8);
  head.writeUInt32LE(tokens.length, 12);
  head.set(namespace, 16);
  head.set(bytesOf(tokens), HEADER);
  const digest = lazyCrypto().createHash('sha256').update(head).digest();
  const out = Buffer.concat([head, digest, snapshot]);
  return new Uint8Array(out.buffer, out.byteOffset, out.length);
}

/** The snapshot of a record of exactly these tokens; ERR_STATE for anything else. */
export function decodeRecord(namespace: Uint8Array, tokens: Int32Array, bytes: Uint8Array): Uint8Array {
  const refuse = (why: string) => new StatespaceError('ERR_STATE', `checkpoint: ${why}`);
  if (tagOf(bytes) !== 'Uint8Array') throw refuse('expected a Uint8Array');
  const b = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (b.length < HEADER + DIGEST || b.toString('latin1', 0, 8) !== MAGIC) throw refuse('these bytes are none');
  if (b.readUInt32LE(8) !== VERSION) throw refuse(`expected version ${VERSION}, received ${b.readUInt32LE(8)}`);
  const end = HEADER + 4 * b.readUInt32LE(12);
  if (b.length < end + DIGEST) throw refuse('it is truncated');
  const digest = lazyCrypto().createHash('sha256').update(b.subarray(0, end)).digest();
  if (!digest.equals(b.subarray(end, end + DIGEST))) throw refuse('its checksum does not match: it is damaged');
  if (!b.subarray(16, HEADER).equals(namespace)) throw refuse('it belongs to another model');
  if (!b.subarray(HEADER, end).equals(bytesOf(tokens))) throw refuse('it is of other tokens');
  return new Uint8Array(b.buffer, b.byteOffset + end + DIGEST, b.length - end - DIGEST);
}

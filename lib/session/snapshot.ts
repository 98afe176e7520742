import { StatespaceError } from '../errors.js';
import { lazyCrypto } from '../lazy.js';

/**
 * A session as bytes: magic, version, the model's fingerprint, the position, the native state, and a SHA-256 over all
 * of that. Little endian.
 */
const MAGIC = 'SSMSNAP\0';
const VERSION = 1;
const HEADER = 8 + 4 + 4 + 32 + 8 + 8; // magic, version, zero, fingerprint, position, state bytes
const DIGEST = 32;

export interface Snapshot {
  position: number;
  state: Uint8Array;
}

const digest = (bytes: Uint8Array): Buffer => lazyCrypto().createHash('sha256').update(bytes).digest();

export function encodeSnapshot(fingerprint: Uint8Array, { position, state }: Snapshot): Uint8Array {
  const out = Buffer.alloc(HEADER + state.length + DIGEST);
  out.write(MAGIC, 0, 'latin1');
  out.writeUInt32LE(VERSION, 8);
  out.set(fingerprint, 16);
  out.writeBigUInt64LE(BigInt(position), 48);
  out.writeBigUInt64LE(BigInt(state.length), 56);
  out.set(state, HEADER);
  out.set(digest(out.subarray(0, -DIGEST)), out.length - DIGEST);
  return new Uint8Array(out.buffer, out.byteOffset, out.length);
}

/** Throws ERR_STATE for anything but an intact snapshot of the model with this fingerprint. */
export function decodeSnapshot(fingerprint: Uint8Array, bytes: Uint8Array): Snapshot {
  const refuse = (why: string) => new StatespaceError('ERR_STATE', `snapshot: ${why}`);
  if (!(bytes instanceof Uint8Array)) throw refuse('expected the Uint8Array that save() returned');
  const b = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (b.length < HEADER + DIGEST || b.toString('latin1', 0, 8) !== MAGIC) throw refuse('these bytes are no snapshot');
  const version = b.readUInt32LE(8);
  if (version !== VERSION) throw refuse(`expected version ${VERSION}, received ${version}`);
  if (b.readUInt32LE(12) !== 0) throw refuse('its reserved bytes are not zero');
  const length = b.readBigUInt64LE(56);
  if (length !== BigInt(b.length - HEADER - DIGEST)) throw refuse('it is truncated or has bytes behind its end');
  if (!digest(b.subarray(0, -DIGEST)).equals(b.subarray(-DIGEST)))
    throw refuse('its checksum does not match: it is damaged');
  if (!b.subarray(16, 48).equals(fingerprint))
    throw refuse('it was saved from another model, or from this one in another dtype');
  return { position: Number(b.readBigUInt64LE(48)), state: b.subarray(HEADER, -DIGEST) };
}

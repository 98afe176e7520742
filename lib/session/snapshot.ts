import { StatespaceError } from '../errors.js';
import { lazyCrypto } from '../lazy.js';

/**
 * A session as bytes: magic, version, the model's fingerprint, the position, the native state, the row that generate()
 * goes on from, the ids that a repetition penalty counts as seen, and a SHA-256 over all of that. Little endian.
 */
const MAGIC = 'SSMSNAP\0';
const VERSION = 2;
// magic, version, zero, fingerprint, position, state bytes, values of the row, number of ids
const HEADER = 8 + 4 + 4 + 32 + 8 + 8 + 4 + 4;
const DIGEST = 32;

export interface Snapshot {
  position: number;
  state: Uint8Array;
  /** Output of the last token, where the last call returned it. */
  lastRow?: Float32Array;
  /** Ids of all tokens so far, ascending. */
  seen: Int32Array;
}

/** What the sizes in a snapshot must be at odds with nothing of. */
export interface Expected {
  fingerprint: Uint8Array;
  outputFeatures: number;
  /** Ids lie below it. */
  ids: number;
}

const bytesOf = (a: Float32Array | Int32Array): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

const digest = (bytes: Uint8Array): Buffer => lazyCrypto().createHash('sha256').update(bytes).digest();

export function encodeSnapshot(fingerprint: Uint8Array, { position, state, lastRow, seen }: Snapshot): Uint8Array {
  const row = lastRow ?? new Float32Array(0);
  const parts = [state, bytesOf(row), bytesOf(seen)];
  const out = Buffer.alloc(HEADER + parts.reduce((n, part) => n + part.length, 0) + DIGEST);
  out.write(MAGIC, 0, 'latin1');
  out.writeUInt32LE(VERSION, 8);
  out.set(fingerprint, 16);
  out.writeBigUInt64LE(BigInt(position), 48);
  out.writeBigUInt64LE(BigInt(state.length), 56);
  out.writeUInt32LE(row.length, 64);
  out.writeUInt32LE(seen.length, 68);
  let at = HEADER;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  out.set(digest(out.subarray(0, -DIGEST)), out.length - DIGEST);
  return new Uint8Array(out.buffer, out.byteOffset, out.length);
}

/** Throws ERR_STATE for anything but an intact snapshot of the model with this fingerprint. */
export function decodeSnapshot({ fingerprint, outputFeatures, ids }: Expected, bytes: Uint8Array): Snapshot {
  const refuse = (why: string) => new StatespaceError('ERR_STATE', `snapshot: ${why}`);
  if (!(bytes instanceof Uint8Array)) throw refuse('expected the Uint8Array that save() returned');
  const b = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (b.length < HEADER + DIGEST || b.toString('latin1', 0, 8) !== MAGIC) throw refuse('these bytes are no snapshot');
  const version = b.readUInt32LE(8);
  if (version !== VERSION) throw refuse(`expected version ${VERSION}, received ${version}`);
  if (b.readUInt32LE(12) !== 0) throw refuse('its reserved bytes are not zero');
  const [values, count] = [b.readUInt32LE(64), b.readUInt32LE(68)];
  const length = Number(b.readBigUInt64LE(56));
  if (HEADER + length + 4 * values + 4 * count + DIGEST !== b.length)
    throw refuse('it is truncated or has bytes behind its end');
  if (!digest(b.subarray(0, -DIGEST)).equals(b.subarray(-DIGEST)))
    throw refuse('its checksum does not match: it is damaged');
  if (!b.subarray(16, 48).equals(fingerprint))
    throw refuse('it was saved from another model, or from this one in another dtype');
  if (values !== 0 && values !== outputFeatures)
    throw refuse(`expected a row of ${outputFeatures} values, received ${values}`);
  const [rowAt, seenAt] = [HEADER + length, HEADER + length + 4 * values];
  const copied = (from: number, to: number) => Uint8Array.from(b.subarray(from, to)).buffer;
  const row = new Float32Array(copied(rowAt, seenAt));
  const seen = new Int32Array(copied(seenAt, seenAt + 4 * count));
  if (seen.some((id, i) => id <= (seen[i - 1] ?? -1) || id >= ids))
    throw refuse(`expected ids from 0 to ${ids - 1} in ascending order`);
  const position = Number(b.readBigUInt64LE(48));
  return { position, state: b.subarray(HEADER, rowAt), lastRow: values > 0 ? row : undefined, seen };
}

import { StatespaceError } from '../errors.js';
import { call } from '../native.js';
import { tagOf } from '../tensor.js';

/**
 * A session as bytes: magic, version, the model's fingerprint and the type that it was held in, the position, the native
 * state, the row of logits (where it was asked for), the tokens, and a digest over all of that. Little endian.
 */
const MAGIC = 'SSMSNAP\0';
const VERSION = 3;
const TYPE_BYTES = 12;
// magic, version, pending token, fingerprint, held type, values of the row, position, bytes of state, number of tokens
const HEADER = 8 + 4 + 4 + 32 + TYPE_BYTES + 4 + 8 + 8 + 8;
const DIGEST = 32;

export interface Sizes {
  position: number;
  /** A token that was chosen and not yet fed; -1: none. */
  pending: number;
  state: number;
  row: number;
  tokens: number;
}

/** What a snapshot must agree with. */
export interface Expected {
  fingerprint: Uint8Array;
  heldType: string;
  outputFeatures: number;
  /** Ids lie below it. */
  ids: number;
}

export interface Snapshot {
  /** Tokens that the state is of. */
  position: number;
  pending: number;
  state: Uint8Array;
  lastRow?: Float32Array;
  tokens: Int32Array;
}

/** Where the native parts begin. */
export const SNAPSHOT_BEGIN = HEADER;

/** Room for a snapshot of these sizes, its header written. */
export function snapshotBuffer(of: Pick<Expected, 'fingerprint' | 'heldType'>, sizes: Sizes): Uint8Array {
  const length = HEADER + sizes.state + 4 * (sizes.row + sizes.tokens) + DIGEST;
  const memory = call((n) => n.outputMemory(length));
  const bytes = memory ? new Uint8Array(memory, 0, length) : new Uint8Array(length);
  const out = Buffer.from(bytes.buffer, bytes.byteOffset, length);
  out.fill(0, 0, HEADER);
  out.write(MAGIC, 0, 'latin1');
  out.writeUInt32LE(VERSION, 8);
  out.writeInt32LE(sizes.pending, 12);
  out.set(of.fingerprint, 16);
  out.write(of.heldType, 48, TYPE_BYTES, 'latin1');
  out.writeUInt32LE(sizes.row, 60);
  out.writeBigUInt64LE(BigInt(sizes.position), 64);
  out.writeBigUInt64LE(BigInt(sizes.state), 72);
  out.writeBigUInt64LE(BigInt(sizes.tokens), 80);
  return bytes;
}

const refuse = (why: string) => new StatespaceError('ERR_STATE', `snapshot: ${why}`);

/** What the digest is of; throws ERR_STATE for bytes that are no snapshot, or not all of one. */
export function digested(bytes: Uint8Array): Uint8Array {
  if (tagOf(bytes) !== 'Uint8Array') throw refuse('expected the Uint8Array that save() returned');
  const b = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (b.length < HEADER + DIGEST || b.toString('latin1', 0, 8) !== MAGIC) throw refuse('these bytes are no snapshot');
  const version = b.readUInt32LE(8);
  if (version !== VERSION) throw refuse(`expected version ${VERSION}, received ${version}`);
  const values = b.readUInt32LE(60);
  const [length, count] = [Number(b.readBigUInt64LE(72)), Number(b.readBigUInt64LE(80))];
  if (HEADER + length + 4 * values + 4 * count + DIGEST !== b.length)
    throw refuse('it is truncated or has bytes behind its end');
  return b.subarray(0, -DIGEST);
}

/** Throws ERR_STATE for anything but an intact snapshot of the model with this fingerprint. */
export function decodeSnapshot(expected: Expected, bytes: Uint8Array, digest: Uint8Array): Snapshot {
  const { fingerprint, heldType, outputFeatures, ids } = expected;
  const b = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const values = b.readUInt32LE(60);
  const [length, count] = [Number(b.readBigUInt64LE(72)), Number(b.readBigUInt64LE(80))];
  if (!b.subarray(-DIGEST).equals(digest)) throw refuse('its checksum does not match: it is damaged');
  const held = b.toString('latin1', 48, 48 + TYPE_BYTES).replace(/\0+$/, '');
  if (!b.subarray(16, 48).equals(fingerprint)) throw refuse(`it was saved from another model (held in ${held})`);
  if (held !== heldType)
    throw refuse(
      `it was saved from this model held in ${held}; this one is held in ${heldType}: load it with that dtype`,
    );
  if (values !== 0 && values !== outputFeatures)
    throw refuse(`expected a row of ${outputFeatures} values, received ${values}`);
  const [rowAt, tokensAt] = [HEADER + length, HEADER + length + 4 * values];
  const copied = (from: number, to: number) => Uint8Array.from(b.subarray(from, to)).buffer;
  const row = new Float32Array(copied(rowAt, tokensAt));
  const tokens = new Int32Array(copied(tokensAt, tokensAt + 4 * count));
  if (tokens.some((id) => id < 0 || id >= ids)) throw refuse(`expected ids from 0 to ${ids - 1}`);
  const pending = b.readInt32LE(12);
  const total = Number(b.readBigUInt64LE(64));
  if (pending < -1 || (pending >= 0 && pending !== tokens.at(-1)) || (count !== 0 && count !== total))
    throw refuse('its tokens do not agree with its position');
  const position = pending >= 0 ? total - 1 : total;
  return { position, pending, state: b.subarray(HEADER, rowAt), lastRow: values > 0 ? row : undefined, tokens };
}

import { StatespaceError } from '../errors.js';
import { bytesOf } from '../memory.js';
import type { Unsaid } from './unsaid.js';

/**
 * A session as bytes: magic, version, the model's fingerprint and the type that it was held in, the position, text that
 * waits to be said, the native state, the row of logits (where it was asked for), the tokens, and a digest over all of
 * that. Little endian.
 */
const MAGIC = 'SSMSNAP\0';
const VERSION = 4;
const TYPE_BYTES = 12;
// magic, version, pending token, fingerprint, held type, values of the row, position, bytes of state, number of tokens;
// tokens whose text waits, its characters that were given out, and the last one's log-probability
const UNSAID = 8 + 4 + 4 + 32 + TYPE_BYTES + 4 + 8 + 8 + 8;
const HEADER = UNSAID + 4 + 4 + 8;
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
}

/** Where the native parts begin. */
export const SNAPSHOT_BEGIN = HEADER;
/** What stands at the end. */
export const SNAPSHOT_DIGEST = DIGEST;

/** The beginning of a snapshot of these sizes; `unsaid`: what waits behind its last token. */
export function snapshotHeader(
  of: Pick<Expected, 'fingerprint' | 'heldType'>,
  sizes: Sizes,
  unsaid?: Unsaid,
): Uint8Array {
  const header = Buffer.alloc(HEADER);
  header.write(MAGIC, 0, 'latin1');
  header.writeUInt32LE(VERSION, 8);
  header.writeInt32LE(sizes.pending, 12);
  header.set(of.fingerprint, 16);
  header.write(of.heldType, 48, TYPE_BYTES, 'latin1');
  header.writeUInt32LE(sizes.row, 60);
  header.writeBigUInt64LE(BigInt(sizes.position), 64);
  header.writeBigUInt64LE(BigInt(sizes.state), 72);
  header.writeBigUInt64LE(BigInt(sizes.tokens), 80);
  if (unsaid?.until === sizes.position) {
    header.writeUInt32LE(unsaid.until - unsaid.from, UNSAID);
    header.writeUInt32LE(unsaid.given, UNSAID + 4);
    header.writeDoubleLE(unsaid.last.logprob, UNSAID + 8);
  }
  return header;
}

/** Bytes of all of one. */
export const snapshotBytes = ({ state, row, tokens }: Sizes): number => HEADER + state + 4 * (row + tokens) + DIGEST;

/** Memory for all of one. */
export const snapshotRoom = (sizes: Sizes, before: number): Uint8Array => bytesOf(before + snapshotBytes(sizes));

export const refuse = (why: string): StatespaceError => new StatespaceError('ERR_STATE', `snapshot: ${why}`);

/** The sizes that the beginning of a snapshot of `length` bytes tells; ERR_STATE where it is none, or not all of one. */
export function snapshotSizes(header: Uint8Array, length: number): Sizes {
  const b = Buffer.from(header.buffer, header.byteOffset, header.length);
  if (length < HEADER + DIGEST || b.toString('latin1', 0, 8) !== MAGIC) throw refuse('these bytes are no snapshot');
  const version = b.readUInt32LE(8);
  if (version !== VERSION) throw refuse(`expected version ${VERSION}, received ${version}`);
  const [pending, row] = [b.readInt32LE(12), b.readUInt32LE(60)];
  const [position, state, tokens] = [64, 72, 80].map((at) => Number(b.readBigUInt64LE(at))) as [number, number, number];
  const sizes = { position, pending, state, row, tokens };
  if (snapshotBytes(sizes) !== length) throw refuse('it is truncated or has bytes behind its end');
  return sizes;
}

/** What waits to be said behind the last of these tokens. */
export function readUnsaid(header: Uint8Array, tokens: Int32Array): Unsaid | undefined {
  const b = Buffer.from(header.buffer, header.byteOffset + UNSAID, HEADER - UNSAID);
  const [count, given, logprob] = [b.readUInt32LE(0), b.readUInt32LE(4), b.readDoubleLE(8)];
  if (count > tokens.length || !Number.isFinite(logprob) || (count === 0 && b.some((byte) => byte !== 0)))
    throw refuse('the text that waits does not agree with its tokens');
  if (count === 0) return undefined;
  const [until, token] = [tokens.length, tokens.at(-1)!];
  return { from: until - count, until, given, last: { token, logprob, text: '' } };
}

/** Throws ERR_STATE for a snapshot of anything but this. */
export function checkOwner(header: Uint8Array, { row, position, pending, tokens }: Sizes, expected: Expected): void {
  const { fingerprint, heldType, outputFeatures } = expected;
  const b = Buffer.from(header.buffer, header.byteOffset, header.length);
  const held = b.toString('latin1', 48, 48 + TYPE_BYTES).replace(/\0+$/, '');
  if (!b.subarray(16, 48).equals(fingerprint)) throw refuse(`it was saved from another model (held in ${held})`);
  if (held !== heldType)
    throw refuse(
      `it was saved from this model held in ${held}; this one is held in ${heldType}: load it with the dtype, or exact, of that one`,
    );
  if (row !== 0 && row !== outputFeatures) throw refuse(`expected a row of ${outputFeatures} values, received ${row}`);
  if (pending < -1 || (tokens !== 0 && tokens !== position)) throw refuse('its tokens do not agree with its position');
}

/** What follows the state: the row of logits and the tokens, copied; ERR_STATE where they cannot be. */
export function readRest(
  rest: Uint8Array,
  { row, tokens, pending }: Sizes,
  ids: number,
): { lastRow: Float32Array | undefined; tokens: Int32Array } {
  const at = 4 * row;
  const copied = (from: number, to: number) => Uint8Array.from(rest.subarray(from, to)).buffer;
  const lastRow = row > 0 ? new Float32Array(copied(0, at)) : undefined;
  const read = new Int32Array(copied(at, at + 4 * tokens));
  if (read.some((id) => id < 0 || id >= ids)) throw refuse(`expected ids from 0 to ${ids - 1}`);
  if (pending >= 0 && pending !== read.at(-1)) throw refuse('its tokens do not agree with its position');
  return { lastRow, tokens: read };
}

import { StatespaceError } from '../../errors.js';
import { lazyCrypto } from '../../lazy.js';
import type { Model } from '../../models/model.js';
import type { Session } from '../../session/session.js';
import { tagOf } from '../../tensor.js';
import type { StoredPieces } from './store.js';

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

/** What stands before the snapshot in a record. */
export function recordHead(namespace: Uint8Array, tokens: Int32Array): Uint8Array {
  const head = Buffer.alloc(headBytes(tokens.length));
  head.write(MAGIC, 0, 'latin1');
  head.writeUInt32LE(VERSION, 8);
  head.writeUInt32LE(tokens.length, 12);
  head.set(namespace, 16);
  head.set(bytesOf(tokens), HEADER);
  head.set(lazyCrypto().createHash('sha256').update(head.subarray(0, -DIGEST)).digest(), head.length - DIGEST);
  return head;
}

const refuse = (why: string) => new StatespaceError('ERR_STATE', `checkpoint: ${why}`);

/** Bytes before the snapshot in a record of so many tokens. */
const headBytes = (tokens: number): number => HEADER + 4 * tokens + DIGEST;

/** Throws ERR_STATE where this is not the head of a record of exactly these tokens. */
function checkHead(namespace: Uint8Array, tokens: Int32Array, head: Uint8Array): void {
  const b = Buffer.from(head.buffer, head.byteOffset, head.length);
  if (b.toString('latin1', 0, 8) !== MAGIC) throw refuse('these bytes are none');
  if (b.readUInt32LE(8) !== VERSION) throw refuse(`expected version ${VERSION}, received ${b.readUInt32LE(8)}`);
  if (b.readUInt32LE(12) !== tokens.length) throw refuse('it is of another number of tokens');
  const digest = lazyCrypto().createHash('sha256').update(b.subarray(0, -DIGEST)).digest();
  if (!digest.equals(b.subarray(-DIGEST))) throw refuse('its checksum does not match: it is damaged');
  if (!b.subarray(16, HEADER).equals(namespace)) throw refuse('it belongs to another model');
  if (!b.subarray(HEADER, -DIGEST).equals(bytesOf(tokens))) throw refuse('it is of other tokens');
}

/** The session of a record of exactly these tokens, from its pieces; ERR_STATE for anything else. */
export async function readRecord(
  model: Model,
  namespace: Uint8Array,
  tokens: Int32Array,
  { bytes, pieces }: StoredPieces,
): Promise<Session> {
  const head = new Uint8Array(headBytes(tokens.length));
  const arriving = model.arrivingSession(bytes - head.length);
  let at = 0;
  try {
    for await (const piece of pieces) {
      if (tagOf(piece) !== 'Uint8Array') throw refuse('expected a Uint8Array');
      const own = piece.subarray(0, Math.max(0, head.length - at));
      head.set(own, Math.min(at, head.length));
      if (at < head.length && at + own.length === head.length) checkHead(namespace, tokens, head);
      at += piece.length;
      if (own.length < piece.length) await arriving.take(piece.subarray(own.length));
    }
    if (at < head.length) throw refuse('it is truncated');
    const session = arriving.end();
    if (session.position === tokens.length) return session;
    await session.dispose();
    throw refuse('it is of another position');
  } catch (error) {
    arriving.drop();
    throw error;
  }
}

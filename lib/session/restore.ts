import { StatespaceError } from '../errors.js';
import { call, type NativeHandle } from '../native.js';
import { pinned, tagOf } from '../tensor.js';
import type { Network } from './network.js';
import { Session } from './session.js';
import {
  checkOwner,
  readRest,
  readUnsaid,
  refuse,
  type Sizes,
  SNAPSHOT_BEGIN,
  SNAPSHOT_DIGEST,
  snapshotSizes,
} from './snapshot.js';

/** A session from what save() returned; ids: those that can be fed lie below it. */
export function restore(network: Network, ids: number, bytes: Uint8Array): Session {
  checkWhole(bytes);
  const arriving = new ArrivingSession(network, ids, bytes.length);
  try {
    arriving.takeNow(bytes);
    return arriving.end();
  } catch (error) {
    arriving.drop();
    if (!arriving.mayBeDamaged(error)) throw error;
    throw isIntact(
      bytes,
      call((n) => n.digest(digested(bytes), true)),
    )
      ? error
      : damaged();
  }
}

/** The same, its bytes checked and copied off the event loop. */
export async function restoreAsync(network: Network, ids: number, given: Uint8Array): Promise<Session> {
  checkWhole(given);
  const bytes = pinned(given);
  const arriving = new ArrivingSession(network, ids, bytes.length);
  try {
    await arriving.take(bytes);
    return arriving.end();
  } catch (error) {
    arriving.drop();
    if (!arriving.mayBeDamaged(error)) throw error;
    throw isIntact(bytes, await call((n) => n.digest(digested(bytes), false))) ? error : damaged();
  }
}

/** The same of pieces. */
export async function restorePieces(arriving: ArrivingSession, pieces: AsyncIterable<Uint8Array>): Promise<Session> {
  try {
    for await (const piece of pieces) await arriving.take(piece);
    return arriving.end();
  } catch (error) {
    arriving.drop();
    throw error;
  }
}

function checkWhole(bytes: Uint8Array): void {
  if (tagOf(bytes) !== 'Uint8Array') throw refuse('expected the Uint8Array that save() returned');
  snapshotSizes(bytes.subarray(0, SNAPSHOT_BEGIN), bytes.length);
}

const damaged = () => refuse('its checksum does not match: it is damaged');

const digested = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, -SNAPSHOT_DIGEST);
const isIntact = (bytes: Uint8Array, digest: Uint8Array): boolean =>
  Buffer.compare(digest, bytes.subarray(-SNAPSHOT_DIGEST)) === 0;

// What is taken at once: a turn of a thread takes longer.
const SMALL = 16 << 10;

/**
 * A snapshot that comes in pieces, each used up before the next is taken: what they hold of the state is written where it
 * stays. ERR_STATE for anything but an intact snapshot of this network; drop() what has failed.
 */
export class ArrivingSession {
  private readonly header = new Uint8Array(SNAPSHOT_BEGIN);
  private session: NativeHandle | undefined;
  private pieces: NativeHandle | undefined;
  private sizes: Sizes | undefined;
  /** What follows the state. */
  private rest = new Uint8Array(0);
  private at = 0;
  private checked = false;

  /** Of so many bytes; ids: those that can be fed lie below it. */
  constructor(
    private readonly network: Network,
    private readonly ids: number,
    private readonly size: number,
  ) {}

  /** The next bytes, which stay as they are until they have been taken. */
  async take(piece: Uint8Array): Promise<void> {
    for (const part of this.parts(piece)) {
      if (part.length <= SMALL) call((n) => n.importPiece(this.pieces!, part, true));
      else await call((n) => n.importPiece(this.pieces!, part, false));
    }
  }

  takeNow(piece: Uint8Array): void {
    for (const part of this.parts(piece)) call((n) => n.importPiece(this.pieces!, part, true));
  }

  /** After the last. */
  end(): Session {
    const { pieces, session, sizes, rest } = this;
    if (this.at !== this.size || !pieces || !session) throw refuse('it is truncated or has bytes behind its end');
    this.pieces = undefined;
    this.checked = true;
    if (!call((n) => n.closeImport(pieces, session, rest.subarray(-SNAPSHOT_DIGEST)))) throw damaged();
    const { lastRow, tokens } = readRest(rest, sizes!, this.ids);
    const { pending } = sizes!;
    const known = pending >= 0 ? tokens.subarray(0, -1) : tokens;
    call((n) => n.rememberSession(session, known, lastRow, pending));
    const unsaid = readUnsaid(this.header, tokens);
    this.session = undefined;
    return new Session(this.network, session, unsaid);
  }

  /** Whose a damaged snapshot says that it is tells nothing: whether that may be why it was refused. */
  mayBeDamaged(error: unknown): boolean {
    return !this.checked && error instanceof StatespaceError && error.code === 'ERR_STATE';
  }

  /** Frees what has come. */
  drop(): void {
    const { pieces, session } = this;
    this.pieces = this.session = undefined;
    if (pieces) call((n) => n.closeImport(pieces, session!, new Uint8Array(0)));
    if (session) call((n) => n.dispose(session));
  }

  /** What native code takes of a piece: all but the digest. */
  private *parts(piece: Uint8Array): Generator<Uint8Array> {
    const from = this.at;
    this.at += piece.length;
    if (this.at > this.size) throw refuse('it is truncated or has bytes behind its end');
    const head = piece.subarray(0, Math.max(0, SNAPSHOT_BEGIN - from));
    this.header.set(head, Math.min(from, SNAPSHOT_BEGIN));
    if (this.at < SNAPSHOT_BEGIN) return;
    if (!this.pieces) {
      this.open();
      yield this.header;
    }
    const body = piece.subarray(head.length);
    const at = from + head.length;
    const restAt = SNAPSHOT_BEGIN + this.sizes!.state;
    if (at + body.length > restAt) this.rest.set(body.subarray(Math.max(0, restAt - at)), Math.max(0, at - restAt));
    const digested = body.subarray(0, Math.max(0, this.size - SNAPSHOT_DIGEST - at));
    if (digested.length > 0) yield digested;
  }

  private open(): void {
    const sizes = snapshotSizes(this.header, this.size);
    const { state, position, pending } = sizes;
    const { fingerprint, heldType, outputFeatures } = this.network;
    checkOwner(this.header, sizes, { fingerprint, heldType, outputFeatures });
    const session = this.network.newSession();
    this.session = session;
    this.sizes = sizes;
    this.rest = new Uint8Array(this.size - SNAPSHOT_BEGIN - state);
    const fed = pending >= 0 ? position - 1 : position;
    this.pieces = call((n) => n.openImport(session, state, fed, SNAPSHOT_BEGIN, this.size - SNAPSHOT_DIGEST));
  }
}

import { StatespaceError } from '../../errors.js';
import { lazyCrypto } from '../../lazy.js';
import type { Model } from '../../models/model.js';
import { Patience } from '../../patience.js';
import type { Session } from '../../session/session.js';
import { tagOf } from '../../tensor.js';
import { Turns } from '../../turns.js';
import { readRecord, recordHead } from './record.js';
import { readPieces, type SnapshotStore } from './store.js';

// Checkpoints of prompts that begin with the same so many tokens lie in one folder of the store, so that what could be
// gone on from is found by listing that one; shorter prompts are read again.
const HEAD_TOKENS = 32;
// What waits to be written at most; what comes on top is not kept.
const MAX_WAITING_BYTES = 256 << 20;
// Of a store's keys, to know how long its prompts are; and memory that is made ready for one.
const MOST_LOOKED_AT = 4096;
const MAX_PREPARED_BYTES = 256 << 20;
// A store that does not answer must not hold up a request that could be read cold.
const PATIENCE_MS = 2000;
// Of what was written so many keys are known; and how long a store is taken to keep what nobody asks it for.
const MOST_WRITTEN = 1 << 16;
const REFRESH_MS = 6 * 3600e3;
// Nor each of those that come after it: where a call failed only after this long, the store is left alone for a while.
const SLOW_MS = 100;
const SILENCE_MS = 10_000;

export interface StoreCounts {
  hits: number;
  writes: number;
  /** Damaged or foreign entries: dropped, never used. */
  dropped: number;
  /** Calls that failed or took too long. */
  errors: number;
}

/** What entries of a model begin with, and where they lie. */
interface Owner {
  namespace: Uint8Array;
  folder: string;
}

/** A checkpoint that came from the store. */
export interface Restored {
  session: Session;
  position: number;
}

/** The checkpoints of one model in a store. Nothing that goes wrong here fails a request: it is counted. */
export class Persistence {
  readonly counts: StoreCounts = { hits: 0, writes: 0, dropped: 0, errors: 0 };
  private known: { of: Uint8Array; owner: Promise<Owner> } | undefined;
  /** When each was written or read last, those of the longest ago first. */
  private readonly written = new Map<string, number>();
  private waitingBytes = 0;
  private writing: Promise<void> = Promise.resolve();
  /** Of a folder that cannot be written all reads work: they do not say that it works again. */
  private readonly failing = { read: false, write: false };
  /** Until when a store that took long to fail is not asked again. */
  private silentUntil = 0;
  /** Checkpoints that were to be kept so far, and how many of the first are given up. */
  private asked = 0;
  private givenUp = 0;
  private closed = false;

  constructor(
    private readonly model: Model,
    private readonly store: SnapshotStore,
    /** What checkpoints may hold in memory. */
    bytes: number,
  ) {
    void this.greet(Math.min(bytes, MAX_PREPARED_BYTES));
  }

  /**
   * A first use that no request waits for: a Redis took 160 ms to be connected to. And memory for the largest checkpoint
   * that is there, as restoring one takes longest where each page of keys is new to the process.
   */
  private async greet(prepared: number): Promise<void> {
    try {
      let longest = 0;
      let seen = 0;
      // A store of somebody's own may give a promise here, which is not to be left rejected.
      const { folder } = await this.owner();
      if (this.closed) return;
      for await (const key of await this.store.list(`${folder}/`)) {
        longest = Math.max(longest, Number.parseInt(key.split('/').at(-1)!, 10) || 0);
        if (++seen === MOST_LOOKED_AT || this.closed) break;
      }
      if (!this.closed) await this.model.preparePages(longest, prepared);
    } catch {
      // A request that needs it will say so.
    }
  }

  /** Whose the entries are; anew where the model was given other weights. */
  private owner(): Promise<Owner> {
    const { fingerprint } = this.model;
    if (this.known?.of !== fingerprint) {
      const owner = this.ownerOf(fingerprint);
      this.known = { of: fingerprint, owner };
      this.written.clear();
      owner.catch(() => {
        if (this.known?.owner === owner) this.known = undefined;
      });
    }
    return this.known.owner;
  }

  /** undefined where the files take longer to be read, which is no fault of the store's, or cannot be. */
  private async ownerBefore(patience: Patience): Promise<Owner | undefined> {
    const late = new Error();
    try {
      return await patience.for(this.owner(), late);
    } catch (error) {
      if (error !== late) this.failed(error, 'read');
      return undefined;
    }
  }

  private notFound(begun: number): undefined {
    if (isSlow(begun)) this.silentUntil = performance.now() + SILENCE_MS;
  }

  /** All bytes of the weights count, and how the model holds them: a state is of nothing else. */
  private async ownerOf(fingerprint: Uint8Array): Promise<Owner> {
    const { heldType, blueprint, files } = this.model;
    const held = JSON.stringify([heldType, blueprint.exact ?? false]);
    const digest = files ? await this.digestOf(files) : '';
    const namespace = sha256(fingerprint, held, digest);
    return { namespace, folder: Buffer.from(namespace.subarray(0, 16)).toString('hex') };
  }

  /** The store has it of files that have not changed since: reading them takes about as long as loading them did. */
  private async digestOf(files: NonNullable<Model['files']>): Promise<string> {
    const key = `weights/${await files.stamp()}`;
    const known = await this.patiently('read', () => this.store.get(key));
    const found = tagOf(known) === 'Uint8Array' ? Buffer.from(known!).toString('latin1') : '';
    const digest = found.slice(0, 64);
    if (found === sealed(key, digest)) return digest;
    if (known !== undefined) this.counts.dropped++;
    const read = await files.digest(() => !this.model.disposed);
    if (read === undefined) throw new StatespaceError('ERR_DISPOSED', 'model: it has been disposed of');
    const value = new Uint8Array(Buffer.from(sealed(key, read), 'latin1'));
    await this.patiently('write', () => this.store.put(key, value).then(() => true));
    return read;
  }

  /** The deepest checkpoint of `tokens` in the store beyond `above` and within `limit` tokens. */
  async find(tokens: Int32Array, above: number, limit: number): Promise<Restored | undefined> {
    if (limit < HEAD_TOKENS || limit <= above || performance.now() < this.silentUntil) return undefined;
    // One patience for all of it: a store that is there but gives nothing must not cost one for each checkpoint.
    const patience = new Patience(PATIENCE_MS);
    try {
      return await this.findWithin(patience, tokens, above, limit);
    } finally {
      patience.end();
    }
  }

  private async findWithin(
    patience: Patience,
    tokens: Int32Array,
    above: number,
    limit: number,
  ): Promise<Restored | undefined> {
    const begun = performance.now();
    const failed = this.counts.errors;
    const owner = await this.ownerBefore(patience);
    if (!owner) return undefined;
    const folder = `${owner.folder}/${prefixHash(tokens, HEAD_TOKENS)}/`;
    const known = new Map<number, string[]>();
    const turns = new Turns();
    const listed = await this.patiently(
      'read',
      async () => {
        for await (const key of await this.store.list(folder)) {
          // A store that has its keys at hand gives nobody else a turn.
          const pause = turns.due();
          if (pause) await pause;
          if (patience.isOver) throw new Error('its list has no end');
          const [position, hash] = key.slice(folder.length).split('-');
          const at = Number.parseInt(position!, 10);
          if (at > above && at <= limit && hash) known.set(at, [...(known.get(at) ?? []), key]);
        }
        return true;
      },
      patience,
    );
    if (!listed) return this.notFound(begun);
    const positions = [...known.keys()].sort((a, b) => a - b);
    const hashes = prefixHashes(tokens, positions);
    for (const position of positions.reverse()) {
      const key = `${folder}${position}-${hashes.get(position)}`;
      if (!known.get(position)!.includes(key)) continue;
      const session = await this.load(key, owner.namespace, tokens.subarray(0, position), patience);
      if (session) return { session, position };
      if (this.counts.errors > failed) return this.notFound(begun);
    }
    return undefined;
  }

  private async load(
    key: string,
    namespace: Uint8Array,
    tokens: Int32Array,
    patience: Patience,
  ): Promise<Session | undefined> {
    let late = false;
    const session = await this.patiently(
      'read',
      async () => {
        const found = await readPieces(this.store, key);
        if (!found) return undefined;
        try {
          const read = await readRecord(this.model, namespace, tokens, {
            bytes: found.bytes,
            pieces: whileWanted(found.pieces, () => !late),
          });
          if (!late) return read;
          await read.dispose();
        } catch (error) {
          if ((error as StatespaceError).code !== 'ERR_STATE') throw error;
          if (!late) return 'damaged' as const;
        }
        return undefined;
      },
      patience,
    );
    late = true;
    if (session !== 'damaged') {
      if (session) this.counts.hits++;
      if (session) this.note(withoutOwner(key));
      return session;
    }
    this.counts.dropped++;
    this.written.delete(withoutOwner(key));
    await this.patiently('write', () => this.store.delete(key));
    return undefined;
  }

  /** Writes a checkpoint behind what else is to be written; the session's state is that of now. */
  keep(tokens: Int32Array, session: Session): void {
    const position = tokens.length;
    if (position < HEAD_TOKENS || performance.now() < this.silentUntil) return;
    const owner = this.owner();
    const key = keyOf(tokens);
    const size = session.bytes;
    if (this.written.has(key) || this.waitingBytes + size > MAX_WAITING_BYTES) return;
    this.note(key);
    this.waitingBytes += size;
    const fork = session.fork();
    const turn = ++this.asked;
    this.writing = this.writing.then(async () => {
      try {
        if (turn <= this.givenUp) {
          this.written.delete(key);
          return;
        }
        const { namespace, folder } = await owner;
        const record = await fork.saveBehind(recordHead(namespace, tokens));
        const begun = performance.now();
        const put = await this.patiently('write', () => this.store.put(`${folder}/${key}`, record).then(() => true));
        if (put) this.counts.writes++;
        else this.written.delete(key);
        // Where nothing answers, what waits already is not waited for one by one.
        if (!put && isSlow(begun)) this.givenUp = this.asked;
      } catch {
        // The model went away with its sessions.
        this.written.delete(key);
      } finally {
        this.waitingBytes -= size;
        await fork.dispose();
      }
    });
  }

  /** Of what is gone on from in memory the store hears nothing: it would let it go as something that nobody uses. */
  used(tokens: Int32Array, session: Session): void {
    const since = performance.now() - REFRESH_MS;
    const [oldest = Infinity] = this.written.values();
    if (oldest > since || tokens.length < HEAD_TOKENS) return;
    const key = keyOf(tokens);
    if ((this.written.get(key) ?? Infinity) > since) return;
    this.written.delete(key);
    this.keep(tokens.slice(), session);
  }

  private note(key: string): void {
    this.written.delete(key);
    this.written.set(key, performance.now());
    const [first] = this.written.keys();
    if (this.written.size > MOST_WRITTEN) this.written.delete(first!);
  }

  /** Resolves when all that was to be written has been. */
  flush(): Promise<void> {
    return this.writing;
  }

  /** The same; then the store, which is the caller's to close, is asked for nothing any more. */
  async close(): Promise<void> {
    await this.writing;
    this.closed = true;
  }

  /** Once until it works again: nothing else says why prompts are read cold. */
  private tell(error: unknown, of: Access): void {
    if (this.failing.read || this.failing[of]) return;
    this.failing[of] = true;
    const why = error instanceof Error ? error.message : String(error);
    process.emitWarning(`prefixCache.store: ${why}; ${SO[of]}`, { code: 'STATESPACE_STORE' });
  }

  private failed(error: unknown, of: Access): void {
    if (this.closed) return;
    this.counts.errors++;
    this.tell(error, of);
  }

  /** undefined, and one more error, where the store fails or does not answer. */
  private async patiently<T>(of: Access, work: () => Promise<T>, given?: Patience): Promise<T | undefined> {
    if (this.closed) return undefined;
    const patience = given ?? new Patience(PATIENCE_MS);
    try {
      const found = await patience.for(work());
      this.failing[of] = false;
      return found;
    } catch (error) {
      this.failed(error, of);
      return undefined;
    } finally {
      if (!given) patience.end();
    }
  }
}

type Access = 'read' | 'write';

const SO = { read: 'prompts are read cold', write: 'what was read is not kept' };

const isSlow = (begun: number): boolean => performance.now() - begun > SLOW_MS;

/** Ends where nobody waits for the rest any more. */
async function* whileWanted(pieces: AsyncIterable<Uint8Array>, wanted: () => boolean): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) {
    if (!wanted()) return;
    yield piece;
  }
}

const sha256 = (...parts: (Uint8Array | string)[]): Uint8Array => {
  const hash = lazyCrypto().createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** A digest with what tells whether it came back as it was put. */
const sealed = (key: string, digest: string): string => `${digest}${Buffer.from(sha256(key, digest)).toString('hex')}`;

/** A key as it is known among those that were written. */
const withoutOwner = (key: string): string => key.slice(key.indexOf('/') + 1);

/** Where a checkpoint after these tokens lies, below its owner's folder. */
const keyOf = (tokens: Int32Array): string =>
  `${prefixHash(tokens, HEAD_TOKENS)}/${tokens.length}-${prefixHash(tokens, tokens.length)}`;

/** SHA-256 of the first so many tokens, 32 hexadecimal digits of it. */
function prefixHash(tokens: Int32Array, count: number): string {
  return prefixHashes(tokens, [count]).get(count)!;
}

/** The same of several counts, ascending, in one pass. */
function prefixHashes(tokens: Int32Array, counts: readonly number[]): Map<number, string> {
  const hash = lazyCrypto().createHash('sha256');
  const hashes = new Map<number, string>();
  let done = 0;
  for (const count of counts) {
    hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset + 4 * done, 4 * (count - done)));
    done = count;
    hashes.set(count, hash.copy().digest('hex').slice(0, 32));
  }
  return hashes;
}

import type { StatespaceError } from '../../errors.js';
import { lazyCrypto } from '../../lazy.js';
import type { Model } from '../../models/model.js';
import type { Session } from '../../session/session.js';
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

export interface StoreCounts {
  hits: number;
  writes: number;
  /** Damaged or foreign entries: dropped, never used. */
  dropped: number;
  /** Calls that failed or took too long. */
  errors: number;
}

/** A checkpoint that came from the store. */
export interface Restored {
  session: Session;
  position: number;
}

/** The checkpoints of one model in a store. Nothing that goes wrong here fails a request: it is counted. */
export class Persistence {
  readonly counts: StoreCounts = { hits: 0, writes: 0, dropped: 0, errors: 0 };
  private readonly namespace: Uint8Array;
  private readonly folder: string;
  private readonly written = new Set<string>();
  private waitingBytes = 0;
  private writing: Promise<void> = Promise.resolve();
  private failing = false;
  /** Checkpoints that were to be kept so far, and how many of the first are given up. */
  private asked = 0;
  private givenUp = 0;

  constructor(
    private readonly model: Model,
    private readonly store: SnapshotStore,
    /** What checkpoints may hold in memory. */
    bytes: number,
  ) {
    this.namespace = sha256(this.model.fingerprint);
    this.folder = Buffer.from(this.namespace.subarray(0, 16)).toString('hex');
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
      for await (const key of await this.store.list(`${this.folder}/`)) {
        longest = Math.max(longest, Number.parseInt(key.split('/').at(-1)!, 10) || 0);
        if (++seen === MOST_LOOKED_AT) break;
      }
      await this.model.preparePages(longest, prepared);
    } catch {
      // A request that needs it will say so.
    }
  }

  /** The deepest checkpoint of `tokens` in the store beyond `above` and within `limit` tokens. */
  async find(tokens: Int32Array, above: number, limit: number): Promise<Restored | undefined> {
    if (limit < HEAD_TOKENS || limit <= above) return undefined;
    // One patience for all of it: a store that is there but gives nothing must not cost one for each checkpoint.
    const until = performance.now() + PATIENCE_MS;
    const failed = this.counts.errors;
    const folder = `${this.folder}/${prefixHash(tokens, HEAD_TOKENS)}/`;
    const known = new Map<number, string[]>();
    const listed = await this.patiently(async () => {
      for await (const key of await this.store.list(folder)) {
        const [position, hash] = key.slice(folder.length).split('-');
        const at = Number.parseInt(position!, 10);
        if (at > above && at <= limit && hash) known.set(at, [...(known.get(at) ?? []), key]);
      }
      return true;
    }, until);
    if (!listed) return undefined;
    const positions = [...known.keys()].sort((a, b) => a - b);
    const hashes = prefixHashes(tokens, positions);
    for (const position of positions.reverse()) {
      const key = `${folder}${position}-${hashes.get(position)}`;
      if (!known.get(position)!.includes(key)) continue;
      const session = await this.load(key, tokens.subarray(0, position), until);
      if (session) return { session, position };
      if (this.counts.errors > failed) return undefined;
    }
    return undefined;
  }

  private async load(key: string, tokens: Int32Array, until: number): Promise<Session | undefined> {
    let late = false;
    const session = await this.patiently(async () => {
      const found = await readPieces(this.store, key);
      if (!found) return undefined;
      try {
        const read = await readRecord(this.model, this.namespace, tokens, {
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
    }, until);
    late = true;
    if (session !== 'damaged') {
      if (session) this.counts.hits++;
      if (session) this.written.add(key);
      return session;
    }
    this.counts.dropped++;
    this.written.delete(key);
    await this.patiently(() => this.store.delete(key));
    return undefined;
  }

  /** Writes a checkpoint behind what else is to be written; the session's state is that of now. */
  keep(tokens: Int32Array, session: Session): void {
    const position = tokens.length;
    if (position < HEAD_TOKENS) return;
    const key = `${this.folder}/${prefixHash(tokens, HEAD_TOKENS)}/${position}-${prefixHash(tokens, position)}`;
    const size = session.bytes;
    if (this.written.has(key) || this.waitingBytes + size > MAX_WAITING_BYTES) return;
    this.written.add(key);
    this.waitingBytes += size;
    const fork = session.fork();
    const turn = ++this.asked;
    this.writing = this.writing.then(async () => {
      try {
        if (turn <= this.givenUp) {
          this.written.delete(key);
          return;
        }
        const record = await fork.saveBehind(recordHead(this.namespace, tokens));
        const until = performance.now() + PATIENCE_MS;
        const put = await this.patiently(() => this.store.put(key, record).then(() => true), until);
        if (put) this.counts.writes++;
        else this.written.delete(key);
        // Where nothing answers, what waits already is not waited for one by one.
        if (!put && performance.now() >= until) this.givenUp = this.asked;
      } catch {
        // The model went away with its sessions.
        this.written.delete(key);
      } finally {
        this.waitingBytes -= size;
        await fork.dispose();
      }
    });
  }

  /** Resolves when all that was to be written has been. */
  flush(): Promise<void> {
    return this.writing;
  }

  /** Once until it works again: nothing else says why prompts are read cold. */
  private tell(error: unknown): void {
    if (this.failing) return;
    this.failing = true;
    const why = error instanceof Error ? error.message : String(error);
    process.emitWarning(`prefixCache.store: ${why}; prompts are read cold`, { code: 'STATESPACE_STORE' });
  }

  /** undefined, and one more error, where the store fails or does not answer. */
  private async patiently<T>(work: () => Promise<T>, until = performance.now() + PATIENCE_MS): Promise<T | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('no answer')), Math.max(1, until - performance.now()));
    });
    try {
      const found = await Promise.race([work(), late]);
      this.failing = false;
      return found;
    } catch (error) {
      this.counts.errors++;
      this.tell(error);
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Ends where nobody waits for the rest any more. */
async function* whileWanted(pieces: AsyncIterable<Uint8Array>, wanted: () => boolean): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) {
    if (!wanted()) return;
    yield piece;
  }
}

const sha256 = (bytes: Uint8Array): Uint8Array => lazyCrypto().createHash('sha256').update(bytes).digest();

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

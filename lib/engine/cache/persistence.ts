import { lazyCrypto } from '../../lazy.js';
import type { Model } from '../../models/model.js';
import type { Session } from '../../session/session.js';
import { decodeRecord, encodeRecord } from './record.js';
import type { SnapshotStore } from './store.js';

// Checkpoints of prompts that begin with the same so many tokens lie in one folder of the store, so that what could be
// gone on from is found by listing that one; shorter prompts are read again.
const HEAD_TOKENS = 32;
// What waits to be written at most; what comes on top is not kept.
const MAX_WAITING_BYTES = 256 << 20;
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

  constructor(
    private readonly model: Model,
    private readonly store: SnapshotStore,
  ) {
    this.namespace = sha256(this.model.fingerprint);
    this.folder = Buffer.from(this.namespace.subarray(0, 16)).toString('hex');
    void this.greet();
  }

  /** A first use that no request waits for: a Redis took 160 ms to be connected to. */
  private async greet(): Promise<void> {
    try {
      for await (const _ of this.store.list(`${this.folder}/`)) return;
    } catch {
      // A request that needs it will say so.
    }
  }

  /** The deepest checkpoint of `tokens` in the store beyond `above` and within `limit` tokens. */
  async find(tokens: Int32Array, above: number, limit: number): Promise<Restored | undefined> {
    if (limit < HEAD_TOKENS || limit <= above) return undefined;
    const folder = `${this.folder}/${prefixHash(tokens, HEAD_TOKENS)}/`;
    const known = new Map<number, string[]>();
    const listed = await this.patiently(async () => {
      for await (const key of this.store.list(folder)) {
        const [position, hash] = key.slice(folder.length).split('-');
        const at = Number.parseInt(position!, 10);
        if (at > above && at <= limit && hash) known.set(at, [...(known.get(at) ?? []), key]);
      }
      return true;
    });
    if (!listed) return undefined;
    const positions = [...known.keys()].sort((a, b) => a - b);
    const hashes = prefixHashes(tokens, positions);
    for (const position of positions.reverse()) {
      const key = `${folder}${position}-${hashes.get(position)}`;
      if (!known.get(position)!.includes(key)) continue;
      const session = await this.load(key, tokens.subarray(0, position));
      if (session) return { session, position };
    }
    return undefined;
  }

  private async load(key: string, tokens: Int32Array): Promise<Session | undefined> {
    const bytes = await this.patiently(() => this.store.get(key));
    if (!bytes) return undefined;
    try {
      const session = await this.model.restoreSessionAsync(decodeRecord(this.namespace, tokens, bytes));
      if (session.position !== tokens.length) throw new Error('the snapshot is of another position');
      this.counts.hits++;
      this.written.add(key);
      return session;
    } catch {
      this.counts.dropped++;
      this.written.delete(key);
      await this.patiently(() => this.store.delete(key));
      return undefined;
    }
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
    this.writing = this.writing.then(async () => {
      try {
        const record = encodeRecord(this.namespace, tokens, await fork.saveAsync());
        const put = await this.patiently(() => this.store.put(key, record).then(() => true));
        if (put) this.counts.writes++;
        else this.written.delete(key);
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

  /** undefined, and one more error, where the store fails or does not answer. */
  private async patiently<T>(work: () => Promise<T>): Promise<T | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('no answer')), PATIENCE_MS);
    });
    try {
      return await Promise.race([work(), late]);
    } catch {
      this.counts.errors++;
      return undefined;
    } finally {
      clearTimeout(timer);
    }
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

import type { ChainableCommander, Redis } from 'ioredis';
import { mismatch, show } from '../../errors.js';
import { checkOptions } from '../../options.js';
import { Patience } from '../../patience.js';
import { readRanges } from './redis-ranges.js';
import { checkRedisUrl } from './redis-url.js';
import type { SnapshotStore, StoredPieces } from './store.js';

const lazyIoredis = (): typeof import('ioredis') => require('ioredis');

/** Where the Redis (or Valkey) is, and how long it keeps what. */
export interface RedisStoreOptions {
  /** Before every key. Default: `statespace:`. */
  prefix?: string | undefined;
  /** Seconds after its last use until a snapshot goes. Default: 86,400, a day. */
  ttlSeconds?: number | undefined;
}

/** A store that can be closed. */
export interface RedisStore extends SnapshotStore {
  /** Ends the connection, after what is under way, for good: while it is there, the process does not end by itself. */
  close(): Promise<void>;
}

// A command that waits for a lost connection fails instead: who asks can read its prompt cold.
const COMMAND_MS = 1500;
const CONNECT_MS = 5000;
// Of a value, that comes with the answer that it is there; and of the rest over a socket of the file system.
const PIECE = 128 << 10;
// Of a folder in which all conversations lie that begin with one system prompt, those that were used last: 64,000 names took
// each request 148 ms.
const MOST_LISTED = 4096;

/**
 * Snapshots in a Redis, for replicas that share nothing else: `redis://host:6379/0`, `rediss://` for TLS. A value is set
 * together with its name in a list of its folder by last use, so that listing a folder reads that alone, the 4,096 that were
 * used last. Give the server a `maxmemory` with the policy `volatile-lru`. Connects at the first use, which an engine
 * makes when it is created, and again when the connection is lost.
 * @public
 */
export function redisStore(url: string, options: RedisStoreOptions = {}): RedisStore {
  checkRedisUrl('redisStore: url', url);
  checkOptions('redisStore', options, ['prefix', 'ttlSeconds']);
  const { prefix = 'statespace:', ttlSeconds = 86_400 } = options;
  if (!Number.isSafeInteger(ttlSeconds) || ttlSeconds < 1)
    throw mismatch('ERR_ARGUMENT', 'redisStore: ttlSeconds', 'a whole number from 1 on', show(ttlSeconds));
  return new Store(url, prefix, ttlSeconds);
}

/** An answer that does not come is an error. */
async function answered<T>(asked: Promise<T>): Promise<T> {
  const patience = new Patience(COMMAND_MS);
  try {
    return await patience.for(asked, new Error('redis: no answer'));
  } finally {
    patience.end();
  }
}

class Store implements RedisStore {
  private connection: Redis | undefined;
  private failure: Error | undefined;
  private closed = false;

  constructor(
    private readonly url: string,
    private readonly prefix: string,
    private readonly ttl: number,
  ) {}

  private async redis(): Promise<Redis> {
    if (!this.connection) {
      const { Redis } = lazyIoredis();
      if (this.closed) throw new Error('redis: the store was closed');
      this.connection ??= new Redis(this.url, {
        connectTimeout: CONNECT_MS,
        maxRetriesPerRequest: 1,
        enableOfflineQueue: true,
        retryStrategy: (times) => Math.min(50 * 2 ** times, 2000),
      });
      this.connection.setMaxListeners(0); // each command that waits for the connection is one
      // Without a listener the process would end; commands that give up do not say what it was that kept them waiting.
      this.connection.on('error', (error) => {
        this.failure = error;
      });
      this.connection.on('ready', () => {
        this.failure = undefined;
      });
    }
    return this.connection;
  }

  /** What fails of a connection says why there is none. */
  private async asking<T>(work: (redis: Redis) => Promise<T>): Promise<T> {
    try {
      return await answered(work(await this.redis()));
    } catch (error) {
      // Of commands that were to run together Redis says which it refused, and then that it runs none.
      const [refused] = (error as { previousErrors?: Error[] }).previousErrors ?? [];
      const why = this.closed ? undefined : (this.failure ?? refused);
      throw why ? new Error(`redis: ${why.message}`, { cause: error }) : error;
    }
  }

  /** The folders that a key lies in, from the innermost out, as `a/b/`; the last is the root, ''. */
  private folders(key: string): string[] {
    const names = key.split('/');
    return names.map((_, i) =>
      names
        .slice(0, names.length - 1 - i)
        .map((name) => `${name}/`)
        .join(''),
    );
  }

  private listing(folder: string): string {
    return `${this.prefix}listing:${folder}`;
  }

  /** In each folder that it lies in a key is used now. */
  private touch(commands: ChainableCommander, key: string): void {
    let member = key;
    for (const folder of this.folders(key)) {
      commands.zadd(this.listing(folder), 'XX', Date.now(), member).expire(this.listing(folder), 2 * this.ttl);
      member = folder;
    }
  }

  get(key: string): Promise<Uint8Array | undefined> {
    return this.asking(async (redis) => {
      // What is used stays, and so do the listings that it is found by.
      const pipeline = redis.pipeline().getexBuffer(this.prefix + key, 'EX', this.ttl);
      this.touch(pipeline, key);
      const [[error, value]] = (await pipeline.exec()) as [[Error | null, Buffer | null]];
      if (error) throw error;
      if (value) return value;
      await redis.zrem(this.listing(this.folders(key)[0]!), key);
      return undefined;
    });
  }

  read(key: string): Promise<StoredPieces | undefined> {
    return this.asking(async (redis) => {
      const name = this.prefix + key;
      const pipeline = redis
        .pipeline()
        .exists(name)
        .strlen(name)
        .getrangeBuffer(name, 0, PIECE - 1)
        .expire(name, this.ttl);
      this.touch(pipeline, key);
      const replies = (await pipeline.exec())!;
      for (const [error] of replies) if (error) throw error;
      const [there, bytes, first] = replies.map(([, reply]) => reply) as [number, number, Buffer];
      if (there) return { bytes, pieces: this.pieces(redis, name, bytes, first) };
      await redis.zrem(this.listing(this.folders(key)[0]!), key);
      return undefined;
    });
  }

  /** The rest of a long value by a connection that copies it once only; by the client's where that cannot be. */
  private async *pieces(redis: Redis, name: string, bytes: number, first: Buffer): AsyncGenerator<Uint8Array> {
    yield first;
    const { host, port, username, password, db, path, tls } = redis.options;
    if (host !== undefined && port !== undefined && !path && bytes > first.length) {
      const secret = { username: username ?? undefined, password: password ?? undefined };
      const server = { host, port, ...secret, db: db ?? 0, ...(tls ? { tls } : {}) };
      yield* readRanges(server, name, first.length, bytes);
      return;
    }
    for (let at = first.length; at < bytes; ) {
      const piece = await answered(redis.getrangeBuffer(name, at, at + PIECE - 1));
      if (piece.length === 0) throw new Error('redis: a value went away while it was read');
      at += piece.length;
      yield piece;
    }
  }

  put(key: string, value: Uint8Array): Promise<void> {
    return this.asking(async (redis) => {
      const commands = redis
        .multi()
        .set(this.prefix + key, Buffer.from(value.buffer, value.byteOffset, value.length), 'EX', this.ttl);
      const now = Date.now();
      let member = key;
      for (const folder of this.folders(key)) {
        const listing = this.listing(folder);
        // With those whose values have gone by now: nobody else would take their names away.
        commands.zadd(listing, now, member).zremrangebyscore(listing, '-inf', now - 1000 * this.ttl);
        commands.expire(listing, 2 * this.ttl);
        member = folder;
      }
      for (const [error] of (await commands.exec()) ?? []) if (error) throw error;
    });
  }

  delete(key: string): Promise<void> {
    return this.asking(async (redis) => {
      const replies = await redis
        .multi()
        .del(this.prefix + key)
        .zrem(this.listing(this.folders(key)[0]!), key)
        .exec();
      for (const [error] of replies ?? []) if (error) throw error;
    });
  }

  async *list(prefix: string): AsyncGenerator<string> {
    const used = await this.asking((redis) => redis.zrevrange(this.listing(prefix), 0, MOST_LISTED - 1));
    for (const member of used) {
      if (member.endsWith('/')) yield* this.list(member);
      else yield member;
    }
  }

  async close(): Promise<void> {
    const { connection } = this;
    this.closed = true;
    this.connection = undefined;
    await connection?.quit().catch(() => connection.disconnect());
  }
}

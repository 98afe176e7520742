// Long values of a Redis, read by a connection that copies them once.
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { redisStore } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BulkReplies, readRanges } from '../../dist/lib/engine/cache/redis-ranges.js';
import { numbers } from '../support/engines.js';
import { needs } from '../support/needs.js';
import { findRedis, type RedisServer, selfSigned, startRedis } from '../support/redis.js';

const text = (pieces: Iterable<Uint8Array>) => [...pieces].map((piece) => Buffer.from(piece).toString()).join('|');

test('payloads of replies, wherever the stream is cut', () => {
  const stream = Buffer.from('+OK\r\n$5\r\nab\r\ne\r\n+OK\r\n$1\r\n\n\r\n$12\r\nhello, world\r\n');
  for (let size = 1; size <= stream.length; size++) {
    const replies = new BulkReplies();
    let said = '';
    for (let at = 0; at < stream.length; at += size)
      said += text(replies.of(stream.subarray(at, at + size))).replaceAll('|', '');
    expect(said, `in pieces of ${size}`).toBe('ab\r\ne\nhello, world');
  }
});

test.each([
  ['-NOAUTH Authentication required.\r\n', /redis: NOAUTH/],
  ['$-1\r\n', /none/],
  ['$0\r\n\r\n', /went away/],
  ['HTTP/1.1 400 Bad Request\r\n', /none/],
  ['x'.repeat(5000), /none/],
])('%j is an error', (said, message) => {
  expect(() => text(new BulkReplies().of(Buffer.from(said)))).toThrow(message);
});

// A server that is halted for seconds is one that does not answer: once more.
const HALTED = { retry: 5 };
const redisPath = findRedis();
const folder = mkdtempSync(join(tmpdir(), 'statespace-tls-'));
afterAll(() => rmSync(folder, { recursive: true }));
const certificate = redisPath ? selfSigned(folder) : undefined;
describe.runIf(needs(redisPath, 'redis-server (Debian: redis-server)'))('from a server', () => {
  const next = numbers(4);
  const value = Buffer.from(Uint32Array.from({ length: (5 << 18) + 777 }, () => next(2 ** 32)).buffer);
  const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
  let server: RedisServer;
  let address: { host: string; port: number; db: number; idleMs: number };
  beforeAll(async () => {
    server = await startRedis(redisPath!, certificate);
    address = { host: '127.0.0.1', port: Number(new URL(server.url).port), db: 0, idleMs: 300_000 };
  });
  afterAll(() => server.stop());

  /** What comes of it where this process is halted, so many turns of the event loop on, for longer than a server is waited for. */
  async function halted<T>(asked: Promise<T>, turns: number): Promise<T> {
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
    const until = performance.now() + 1600;
    while (performance.now() < until);
    return asked;
  }

  async function whole(pieces: AsyncIterable<Uint8Array>, pause: () => Promise<unknown> = async () => {}) {
    const all: Buffer[] = [];
    for await (const piece of pieces) {
      all.push(Buffer.from(piece));
      await pause();
      expect(digest(piece), 'a piece stays as it is while it is used').toBe(digest(all.at(-1)!));
    }
    return digest(Buffer.concat(all));
  }

  test('as it was put, of any number, with a password, to readers that are slow', HALTED, async () => {
    const store = redisStore(`${server.url}/3`);
    await store.put('a/b', value);
    const read = async () => (await store.read!('a/b'))!;
    expect((await read()).bytes).toBe(value.length);
    expect(await whole((await read()).pieces)).toBe(digest(value));
    let taken = 0;
    expect(await whole((await read()).pieces, () => setTimeout(taken++ % 4 === 0 ? 15 : 0))).toBe(digest(value));
    const many = await Promise.all([1, 2, 3].map(async () => whole((await read()).pieces)));
    expect(new Set(many)).toEqual(new Set([digest(value)]));
    for await (const _ of (await read()).pieces) break; // who leaves leaves nothing behind
    const small = Buffer.from('small');
    await store.put('a/c', small);
    expect(await whole((await store.read!('a/c'))!.pieces)).toBe(digest(small));
    expect(await store.read!('a/d')).toBeUndefined();
    await store.close();

    const client = new Redis(server.url);
    await client.config('SET', 'requirepass', 'secret');
    try {
      const locked = redisStore(server.url.replace('redis://', 'redis://:secret@').concat('/3'));
      expect(await whole((await locked.read!('a/b'))!.pieces)).toBe(digest(value));
      await locked.close();
      await expect(whole(readRanges(address, 'statespace:a/b', 0, value.length))).rejects.toThrow(/NOAUTH/);
    } finally {
      await client.config('SET', 'requirepass', '');
      client.disconnect();
    }
  });

  test.runIf(needs(certificate, 'redis-server and openssl'))(
    'over TLS, to readers that are slow; a certificate that nobody vouches for is an error',
    HALTED,
    async () => {
      const client = new Redis(server.url);
      await client.set('value', value);
      client.disconnect();
      const ca = readFileSync(certificate!.cert);
      for (const host of ['localhost', '127.0.0.1']) {
        const over = { ...address, host, port: Number(new URL(server.tlsUrl!).port), tls: { ca } };
        let taken = 0;
        const slowly = () => setTimeout(taken++ % 4 === 0 ? 15 : 0);
        for (const pause of [undefined, slowly])
          expect(await whole(readRanges(over, 'value', 0, value.length), pause)).toBe(digest(value));
        for await (const _ of readRanges(over, 'value', 0, value.length)) break;
        await expect(whole(readRanges({ ...over, tls: {} }, 'value', 0, 100))).rejects.toThrow(/self-signed/);
      }
      const store = redisStore(server.tlsUrl!);
      for (const asked of [
        store.get('a'),
        store.read!('a'),
        store.put('a', value),
        store.delete('a'),
        store.list('')[Symbol.asyncIterator]().next(),
      ])
        await expect(asked).rejects.toThrow(/^redis: self-signed certificate$/);
      await store.close();
    },
  );

  // Without TLS and with it.
  test.each(['url', 'tlsUrl'] as const)('what came while this process was halted is read: %s', HALTED, async (of) => {
    const url = server[of];
    if (!url) return console.log('left out: what needs openssl');
    const ca = of === 'tlsUrl' ? readFileSync(certificate!.cert) : undefined;
    const its = { host: 'localhost', port: Number(new URL(url).port), db: 0, ...(ca && { tls: { ca } }) };
    const client = new Redis(server.url);
    await client.set('value', value);
    client.disconnect();
    for (const turns of [2, 4, 6])
      expect(await halted(whole(readRanges(its, 'value', 0, value.length)), turns)).toBe(digest(value));
  });

  test('what Redis answered while this process was halted is its answer', HALTED, async () => {
    const store = redisStore(`${server.url}/4`);
    await store.put('a/b', value);
    for (const turns of [1, 2, 3]) expect(digest((await halted(store.get('a/b'), turns))!)).toBe(digest(value));
    await store.close();
  });

  test('a value that goes, or a server, is an error', HALTED, async () => {
    const client = new Redis(server.url);
    await client.set('value', value);
    await expect(whole(readRanges(address, 'none', 0, 100))).rejects.toThrow(/went away/);
    const longer = readRanges(address, 'value', 0, value.length + (3 << 20));
    await expect(whole(longer)).rejects.toThrow(/went away/);
    client.disconnect();
    await expect(whole(readRanges({ ...address, port: 1 }, 'value', 0, 100))).rejects.toThrow(/ECONNREFUSED/);
    const killed = readRanges(address, 'value', 0, value.length);
    await killed.next();
    await server.restart();
    await expect(whole(killed)).rejects.toThrow(/redis|ECONNRESET|EPIPE/);
  });
});

import type { Socket, TcpNetConnectOpts } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import { Patience } from '../../patience.js';

const lazyNet = (): typeof import('node:net') => require('node:net');
const lazyTls = (): typeof import('node:tls') => require('node:tls');

/** Where a Redis is, as its client has read it from the URL. */
export interface RedisAddress {
  host: string;
  port: number;
  username?: string | undefined;
  password?: string | undefined;
  db: number;
  /** Over TLS, with what its client was given of certificates. */
  tls?: ConnectionOptions | undefined;
  /** For how long nothing may come. Default: 1.5 s. */
  idleMs?: number | undefined;
}

const RANGE = 1 << 20;
// Ranges that are asked for before the first of them has come.
const AHEAD = 3;
const IDLE_MS = 1500;
const CUT = 'redis: the connection ended before a value had come whole';

/** Bytes of a connection that lie in one piece of memory: from `taken` to `filled` they wait for their reader. */
interface Block {
  memory: Uint8Array;
  taken: number;
  filled: number;
}

/**
 * The bytes of a string from `from` to `until`, on a connection of its own, which reads into the same memory again and
 * again: a general client makes new memory of every reply and copies it once more, 5 to 12 ms a megabyte where this
 * takes half of one. Each piece is used up before the next is asked for.
 */
export async function* readRanges(
  server: RedisAddress,
  key: string,
  from: number,
  until: number,
): AsyncGenerator<Uint8Array, void> {
  if (server.tls) return yield* readDecrypted(server, key, from, until);
  const { connect } = lazyNet();
  const blocks: Block[] = [0, 1].map(() => ({ memory: Buffer.allocUnsafeSlow(RANGE), taken: 0, filled: 0 }));
  const [first, second] = blocks as [Block, Block];
  let current = first;
  let full = false; // both wait for their reader
  let ended: Error | undefined;
  let wake: (() => void) | undefined;
  const other = () => (current === first ? second : first);
  const received = (count: number): boolean => {
    current.filled += count;
    if (current.filled === RANGE) {
      const next = other();
      full = next.taken < RANGE && next.filled > 0;
      if (!full) current = startAnew(next);
    }
    wake?.();
    return !full;
  };
  const onread = {
    // Asked for after each read: where the next one goes, also when that has to wait until it is free.
    buffer: () => (full ? other().memory : current.memory.subarray(current.filled)),
    callback: received,
  };
  const socket = connect({ host: server.host, port: server.port, noDelay: true, onread } as TcpNetConnectOpts);
  const end = (error: Error) => {
    ended ??= error;
    wake?.();
  };
  socket.on('error', end);
  socket.on('close', () => end(new Error(CUT)));
  whenSilent(socket, server, end);
  const asking = new Asking(socket, server, key, from, until);
  try {
    const replies = new BulkReplies();
    for (let at = from; at < until; ) {
      asking.upTo(at);
      const block = full ? other() : oldest(current, other());
      const { memory, taken, filled } = block;
      if (taken === filled) {
        if (ended) throw ended;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = undefined;
        continue;
      }
      for (const piece of replies.of(memory.subarray(taken, filled))) {
        at += piece.length;
        yield piece;
      }
      block.taken = filled;
      if (full && block.taken === RANGE) {
        full = false;
        current = startAnew(block);
        socket.resume();
      }
    }
  } finally {
    socket.destroy();
  }
}

/**
 * The same over TLS: what has been decrypted comes although its reader was not ready, so it cannot lie in memory that is
 * used again.
 */
async function* readDecrypted(server: RedisAddress, key: string, from: number, until: number) {
  const { host, port, tls } = server;
  const { isIP } = lazyNet();
  const { connect } = lazyTls();
  const socket = connect({ ...(isIP(host) ? {} : { servername: host }), ...tls, host, port });
  socket.setNoDelay(true);
  whenSilent(socket, server, (error) => void socket.destroy(error));
  const asking = new Asking(socket, server, key, from, until);
  const replies = new BulkReplies();
  let at = from;
  asking.upTo(at);
  try {
    for await (const chunk of socket) {
      for (const piece of replies.of(chunk)) {
        at += piece.length;
        yield piece;
      }
      if (at >= until) return;
      asking.upTo(at);
    }
    throw new Error(CUT);
  } finally {
    socket.destroy();
  }
}

/** Says so where nothing has come for long. */
function whenSilent(socket: Socket, { idleMs = IDLE_MS }: RedisAddress, end: (error: Error) => void): void {
  const patience = new Patience(idleMs, () => socket.bytesRead);
  socket.on('close', () => patience.end());
  void patience.over.then(() => end(new Error('redis: no answer')));
}

/** Says who asks, and asks for some ranges ahead of what has come. */
class Asking {
  private asked: number;

  constructor(
    private readonly socket: Socket,
    { username, password, db }: RedisAddress,
    private readonly key: string,
    from: number,
    private readonly until: number,
  ) {
    this.asked = from;
    if (password) socket.write(username ? command('AUTH', username, password) : command('AUTH', password));
    if (db) socket.write(command('SELECT', `${db}`));
  }

  upTo(at: number): void {
    while (this.asked < this.until && this.asked - at < AHEAD * RANGE) {
      const last = Math.min(this.asked + RANGE, this.until) - 1;
      this.socket.write(command('GETRANGE', this.key, `${this.asked}`, `${last}`));
      this.asked = last + 1;
    }
  }
}

const startAnew = (block: Block): Block => {
  block.taken = block.filled = 0;
  return block;
};

/** Of two blocks the one whose bytes came first. */
const oldest = (current: Block, other: Block): Block => (other.taken < other.filled ? other : current);

const command = (...words: string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`;

/** Payloads of bulk strings in a stream that may be cut anywhere; what else is said must be an acknowledgement. */
export class BulkReplies {
  private line = '';
  /** Of a payload, with the two bytes that end it. */
  private left = 0;

  *of(bytes: Uint8Array): Generator<Uint8Array> {
    for (let at = 0; at < bytes.length; ) {
      if (this.left > 0) {
        const piece = bytes.subarray(at, at + this.left);
        const own = Math.min(piece.length, this.left - 2);
        this.left -= piece.length;
        at += piece.length;
        if (own > 0) yield piece.subarray(0, own);
        continue;
      }
      const code = bytes[at++]!;
      if (code !== 10) {
        this.line += String.fromCharCode(code);
        if (this.line.length > 1024) throw new Error('redis: an answer that is none');
        continue;
      }
      this.left = lengthOf(this.line.slice(0, -1));
      this.line = '';
    }
  }
}

function lengthOf(line: string): number {
  if (line.startsWith('+')) return 0;
  if (line.startsWith('-')) throw new Error(`redis: ${line.slice(1)}`);
  const length = /^\$\d+$/.test(line) ? Number(line.slice(1)) : -1;
  if (length < 0) throw new Error('redis: an answer that is none');
  if (length === 0) throw new Error('redis: a value went away while it was read');
  return length + 2;
}

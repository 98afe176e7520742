import type { TcpNetConnectOpts } from 'node:net';

/** Where a Redis is, as its client has read it from the URL. */
export interface RedisAddress {
  host: string;
  port: number;
  username?: string | undefined;
  password?: string | undefined;
  db: number;
}

const RANGE = 1 << 20;
// Ranges that are asked for before the first of them has come.
const AHEAD = 3;
const IDLE_MS = 1500;

/** Bytes of a connection that lie in one piece of memory: from `taken` to `filled` they wait for their reader. */
interface Block {
  memory: Uint8Array;
  taken: number;
  filled: number;
}

/**
 * The bytes of a string from `from` to `until`, on a connection of its own, which reads into the same memory again and
 * again: a general client makes new memory of every reply and copies it once more, 5 to 12 ms a megabyte where this
 * takes half of one. Each piece is used up before the next is asked for. A plain connection, no TLS.
 */
export async function* readRanges(
  server: RedisAddress,
  key: string,
  from: number,
  until: number,
): AsyncGenerator<Uint8Array> {
  const { connect } = await import('node:net');
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
  socket.on('close', () => end(new Error('redis: the connection ended before a value had come whole')));
  socket.setTimeout(IDLE_MS, () => end(new Error('redis: no answer')));
  let asked = from;
  const ask = () => {
    const last = Math.min(asked + RANGE, until) - 1;
    socket.write(command('GETRANGE', key, `${asked}`, `${last}`));
    asked = last + 1;
  };
  try {
    const { username, password, db } = server;
    if (password) socket.write(username ? command('AUTH', username, password) : command('AUTH', password));
    if (db) socket.write(command('SELECT', `${db}`));
    const replies = new BulkReplies();
    for (let at = from; at < until; ) {
      while (asked < until && asked - at < AHEAD * RANGE) ask();
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

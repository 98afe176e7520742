// One file over HTTP into the cache: goes on where an earlier attempt was cut, and is there only when its size and its
// hash are those that the hub lists.
import type { Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { onAbort } from '../cancellation.js';
import { StatespaceError } from '../errors.js';
import { lazyCrypto, lazyFiles } from '../lazy.js';
import { claim, leave } from './partial.js';

export interface Wanted {
  url: string;
  /** Where it will lie; beside it, in a file of this process's own, until then. */
  path: string;
  size: number;
  /** sha256 of the bytes (large files), or git's sha1 of them as a blob. */
  hash: { algorithm: 'sha256' | 'git-sha1'; digest: string };
  headers: Record<string, string>;
}

/** Attempts without a byte of progress in between; the pause before the first of them doubles each time. */
const attempts = 5;
const pauseMs = 500;
/** The longest Retry-After that is waited for. */
const patienceMs = 60_000;
const hashPiece = 4 * 1024 * 1024;

/** Downloads it, once where several want it at the same time. `onBytes` hears how many more bytes are there. */
export async function transfer(
  wanted: Wanted,
  signal: AbortSignal | undefined,
  onBytes: (n: number) => void,
): Promise<void> {
  await lazyFiles().mkdir(dirname(wanted.path), { recursive: true });
  const partial = await claim(wanted.path, wanted.size, (ms) => pause(ms, signal));
  if (partial === undefined) return onBytes(wanted.size);
  onBytes(Math.min(await sizeOf(partial), wanted.size));
  try {
    await complete(wanted, partial, signal, onBytes);
  } finally {
    await leave(wanted.path, partial);
  }
}

async function complete(
  wanted: Wanted,
  partial: string,
  signal: AbortSignal | undefined,
  onBytes: (n: number) => void,
): Promise<void> {
  const { rename, rm } = lazyFiles();
  for (let failures = 0, fresh = false; ; ) {
    const before = await sizeOf(partial);
    try {
      await append(wanted, partial, signal, onBytes);
      await check(wanted, partial, signal);
      await rename(partial, wanted.path);
      return;
    } catch (error) {
      signal?.throwIfAborted();
      const failure = asFailure(error);
      if (failure.damaged) {
        onBytes(-(await sizeOf(partial)));
        await rm(partial, { force: true });
        if (fresh) throw new StatespaceError('ERR_CHECKPOINT', `${wanted.url}: ${failure.message}`, { cause: error });
        fresh = true; // what an earlier attempt left may be another version's: once more, from the start
        continue;
      }
      const progressed = (await sizeOf(partial)) > before;
      failures = progressed ? 1 : failures + 1;
      if (!failure.again || failures >= attempts)
        throw new StatespaceError('ERR_CHECKPOINT', `${wanted.url}: ${failure.message}`, { cause: error });
      await pause(failure.waitMs ?? pauseMs * 2 ** (failures - 1), signal);
    }
  }
}

const sizeOf = async (path: string): Promise<number> =>
  lazyFiles()
    .stat(path)
    .then((s) => s.size)
    .catch(() => 0);

class Failure extends Error {
  constructor(
    message: string,
    /** Worth another attempt. */
    readonly again: boolean,
    readonly waitMs?: number,
    /** What has arrived is not what the hub lists. */
    readonly damaged = false,
  ) {
    super(message);
  }
}

/** A cut connection is worth another attempt; a full disk is not. */
function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  const { code, message } = error as { code?: string; message: string };
  const local = ['ENOSPC', 'EACCES', 'EROFS', 'EDQUOT', 'EMFILE'].includes(code ?? '');
  return new Failure(local ? message : `the connection failed: ${message}`, !local);
}

async function append(
  wanted: Wanted,
  partial: string,
  signal: AbortSignal | undefined,
  onBytes: (n: number) => void,
): Promise<void> {
  const have = await sizeOf(partial);
  if (have > wanted.size) throw new Failure(`${have} bytes are there of ${wanted.size}`, true, undefined, true);
  if (have === wanted.size && have > 0) return;
  const range = have > 0 ? { range: `bytes=${have}-` } : undefined;
  const response = await fetch(wanted.url, { headers: { ...wanted.headers, ...range }, signal });
  if (!response.ok) throw refused(response);
  const resumed = response.status === 206;
  const file = await lazyFiles().open(partial, resumed ? 'a' : 'w');
  try {
    if (!resumed && have > 0) onBytes(-have); // the server sends the whole
    await write(response, file, wanted.size - (resumed ? have : 0), onBytes);
    await file.sync();
  } finally {
    await file.close();
  }
  const got = await sizeOf(partial);
  if (got < wanted.size) throw new Failure(`the connection ended after ${got} of ${wanted.size} bytes`, true);
}

async function write(response: Response, file: FileHandle, most: number, onBytes: (n: number) => void): Promise<void> {
  let got = 0;
  for await (const piece of response.body ?? []) {
    got += piece.byteLength;
    if (got > most) throw new Failure(`more bytes came than the ${most} that were missing`, true, undefined, true);
    await file.write(piece);
    onBytes(piece.byteLength);
  }
}

function refused(response: Response): Failure {
  const { status } = response;
  const after = Number(response.headers.get('retry-after'));
  const waitMs = after > 0 ? Math.min(after * 1000, patienceMs) : undefined;
  if (status === 401 || status === 403) {
    return new Failure(
      `${status}: it needs a token that may read it: set HF_TOKEN, or accept the model's terms on its page`,
      false,
    );
  }
  if (status === 404) return new Failure('404: there is no such file', false);
  if (status === 416) return new Failure('416: the part that is here does not belong to it', true, undefined, true);
  return new Failure(`the server answered ${status}`, status === 429 || status >= 500, waitMs);
}

async function check(wanted: Wanted, path: string, signal: AbortSignal | undefined): Promise<void> {
  const { algorithm, digest } = wanted.hash;
  const hash = lazyCrypto().createHash(algorithm === 'sha256' ? 'sha256' : 'sha1');
  if (algorithm === 'git-sha1') hash.update(`blob ${wanted.size}\0`);
  const found = await hashFile(hash, path, signal);
  if (found !== digest)
    throw new Failure(
      `expected ${algorithm} ${digest}, received ${found}: the download is damaged`,
      true,
      undefined,
      true,
    );
}

async function hashFile(hash: Hash, path: string, signal: AbortSignal | undefined): Promise<string> {
  const file = await lazyFiles().open(path);
  try {
    const piece = Buffer.allocUnsafe(hashPiece);
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(piece, 0, piece.length, null);
      if (bytesRead === 0) return hash.digest('hex');
      hash.update(piece.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      forget?.();
      resolve();
    }, ms);
    const forget =
      signal &&
      onAbort(signal, () => {
        clearTimeout(timer);
        forget?.();
        reject(signal.reason);
      });
  });
}

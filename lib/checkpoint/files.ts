// File access whose every failure is an ERR_CHECKPOINT that names the file.

import type { FileHandle } from 'node:fs/promises';
import { StatespaceError } from '../errors.js';
import { lazyFiles } from '../lazy.js';
import { checkpointError } from './stored.js';

/** A regular file opened for reading; its size is taken once. */
export class InputFile {
  private constructor(
    readonly path: string,
    readonly size: number,
    private readonly handle: FileHandle,
  ) {}

  static async use<T>(path: string, work: (file: InputFile) => Promise<T>): Promise<T> {
    let handle: FileHandle | undefined;
    try {
      // Looked at before it is opened: opening a pipe would wait for its writer.
      if (!(await lazyFiles().stat(path)).isFile()) throw checkpointError(path, 'expected a regular file');
      handle = await lazyFiles().open(path, 'r');
      return await work(new InputFile(path, (await handle.stat()).size, handle));
    } catch (error) {
      throw asCheckpointError(path, error);
    } finally {
      await handle?.close();
    }
  }

  async read(offset: number, length: number, what: string): Promise<Buffer> {
    if (length < 0 || offset < 0 || offset + length > this.size) {
      throw checkpointError(
        this.path,
        `${what}: expected ${length} bytes at ${offset}, received a file of ${this.size} bytes (truncated?)`,
      );
    }
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await this.handle.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) throw checkpointError(this.path, `${what}: the file shrank while it was read`);
      done += bytesRead;
    }
    return bytes;
  }
}

/** ERR_CHECKPOINT, in words, for what commonly lies where a model's file should. */
export async function refusePlaceholder(file: InputFile): Promise<void> {
  refusePlaceholderText(file.path, (await file.read(0, Math.min(file.size, 64), 'first bytes')).toString('latin1'));
  if (file.size === 0) throw checkpointError(file.path, 'the file is empty: download it again');
}

function refusePlaceholderText(path: string, head: string): void {
  if (head.startsWith('version https://git-lfs'))
    throw checkpointError(path, 'this is a Git LFS pointer, not the file itself: run "git lfs pull" in its folder');
  if (/^(\xef\xbb\xbf|\ufeff)?\s*<(!doctype|html|\?xml|head|body)/i.test(head))
    throw checkpointError(path, 'this is a web page (of an error?), not the file itself: download it again');
}

/** A whole text file, of at most maxBytes. */
export function readText(path: string, maxBytes: number): Promise<string> {
  return InputFile.use(path, async (file) => {
    if (file.size > maxBytes) {
      throw checkpointError(path, `expected at most ${maxBytes} bytes, received ${file.size}`);
    }
    const text = decodeUtf8(path, await file.read(0, file.size, 'text'));
    refusePlaceholderText(path, text.slice(0, 64));
    return text;
  });
}

export function decodeUtf8(where: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw checkpointError(where, 'expected UTF-8 text', { cause });
  }
}

export async function fileExists(path: string): Promise<boolean> {
  try {
    await lazyFiles().stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw asCheckpointError(path, error);
  }
}

export function asCheckpointError(path: string, error: unknown): StatespaceError {
  if (error instanceof StatespaceError) return error;
  return checkpointError(path, error instanceof Error ? error.message : String(error), { cause: error });
}

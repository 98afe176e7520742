// File access whose every failure is an ERR_CHECKPOINT that names the file.

import type { FileHandle } from 'node:fs/promises';
import { StatespaceError, show } from '../errors.js';
import { lazyFiles } from '../lazy.js';
import { floats } from '../memory.js';
import { Turns } from '../turns.js';
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
    return this.readInto(Buffer.allocUnsafe(this.within(offset, length, what)), 0, offset, what);
  }

  /** f32 as they lie, of so many bytes. */
  async readFloats(offset: number, length: number, what: string): Promise<Float32Array> {
    const values = floats(this.within(offset, length, what) / 4);
    await this.readInto(Buffer.from(values.buffer, values.byteOffset, length), 0, offset, what);
    return values;
  }

  /** Fills `bytes` from `at` on with what the file has at `offset`. */
  async readInto(bytes: Buffer, at: number, offset: number, what: string): Promise<Buffer> {
    const length = this.within(offset, bytes.length - at, what);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await this.handle.read(bytes, at + done, length - done, offset + done);
      if (bytesRead === 0) throw checkpointError(this.path, `${what}: the file shrank while it was read`);
      done += bytesRead;
    }
    return bytes;
  }

  /** length, which the file has at `offset`. */
  private within(offset: number, length: number, what: string): number {
    if (length < 0 || offset < 0 || offset + length > this.size) {
      throw checkpointError(
        this.path,
        `${what}: expected ${length} bytes at ${offset}, received a file of ${this.size} bytes (truncated?)`,
      );
    }
    return length;
  }
}

/** Files, which come under each other's names, by their first bytes in hexadecimal digits. */
const SIGNATURES: readonly [format: string, begins: RegExp, remedy: string][] = [
  ['PyTorch', /^(504b0304|800[2-5]8a0a6cfc9c)/, 'name it pytorch_model.bin'],
  ['GGUF', /^47475546/, 'name it model.gguf'],
  ['safetensors', /^.{6}0[01]0{8}(20|0a|0d|09)*7b/, 'name it model.safetensors'],
  ['HDF5', /^894844460d0a1a0a/, 'weights of Keras are not read'],
  ['gzip', /^1f8b/, 'unpack it'],
  ['xz', /^fd377a585a00/, 'unpack it'],
  ['zstd', /^28b52ffd/, 'unpack it'],
];

/** ERR_CHECKPOINT, in words, for what commonly lies where a model's file of this format should. */
export async function refusePlaceholder(file: InputFile, format?: string): Promise<void> {
  const head = await file.read(0, Math.min(file.size, 64), 'first bytes');
  refusePlaceholderText(file.path, head.toString('latin1'));
  if (file.size === 0) throw checkpointError(file.path, 'the file is empty: download it again');
  const text = head.toString('latin1', 0, 40);
  if (format !== undefined && /^[\s!-~]+$/.test(text.slice(0, 16)))
    throw checkpointError(file.path, `expected a ${format} file, received the text ${show(text)}: download it again`);
  const [found, , remedy] = SIGNATURES.find(([, begins]) => begins.test(head.toString('hex'))) ?? [];
  if (format !== undefined && found !== undefined && found !== format)
    throw checkpointError(file.path, `expected a ${format} file, received one of ${found}: ${remedy}`);
}

function refusePlaceholderText(path: string, head: string): void {
  if (head.startsWith('version https://git-lfs'))
    throw checkpointError(path, 'this is a Git LFS pointer, not the file itself: run "git lfs pull" in its folder');
  if (/^(\xef\xbb\xbf|\ufeff)?\s*<(!doctype|html|\?xml|head|body)/i.test(head))
    throw checkpointError(path, 'this is a web page (of an error?), not the file itself: download it again');
}

/** A whole text file, of at most maxBytes; turns: of a long one, which throw the reason of an abort. */
export async function readText(path: string, maxBytes: number, turns?: Turns): Promise<string> {
  const bytes = await InputFile.use(path, (file) => {
    if (file.size > maxBytes) throw checkpointError(path, `expected at most ${maxBytes} bytes, received ${file.size}`);
    return file.read(0, file.size, 'text');
  });
  const text = await decodeLongUtf8(path, bytes, turns);
  refusePlaceholderText(path, text.slice(0, 64));
  return text;
}

export function decodeUtf8(where: string, bytes: Uint8Array): string {
  return decoded(where, bytes, new TextDecoder('utf-8', { fatal: true }));
}

function decoded(where: string, bytes: Uint8Array, decoder: InstanceType<typeof TextDecoder>, stream = false): string {
  try {
    return decoder.decode(bytes, { stream });
  } catch (cause) {
    throw checkpointError(where, 'expected UTF-8 text', { cause });
  }
}

/** Bytes that are decoded at once: less than a millisecond of work. */
const PIECE = 1 << 19;

export async function decodeLongUtf8(where: string, bytes: Uint8Array, turns = new Turns()): Promise<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const parts: string[] = [];
  for (let from = 0; from < bytes.length; from += PIECE) {
    parts.push(decoded(where, bytes.subarray(from, from + PIECE), decoder, from + PIECE < bytes.length));
    const pause = turns.due();
    if (pause) await pause;
  }
  return parts.join('');
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

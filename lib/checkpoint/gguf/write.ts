// Writes what container.ts reads: version 3, tensors one after the other, each at a multiple of the alignment.
import type { FileHandle } from 'node:fs/promises';
import { type StoredDType, storedBytes } from '../stored.js';
import { type Pair, textBytes, u64Bytes } from './pairs.js';
import { idOfType } from './types.js';

export const alignment = 32;
const padded = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;

/** A tensor of the file to be. */
export interface OutTensor {
  readonly name: string;
  /** Outermost first. */
  readonly shape: readonly number[];
  readonly dtype: StoredDType;
}

const sizeOf = (t: OutTensor): number =>
  storedBytes(
    t.dtype,
    t.shape.reduce((a, b) => a * b, 1),
  );

const paddedSize = (t: OutTensor): number => padded(sizeOf(t));

/** Bytes of a file with these keys and tensors: what each tensor adds to a header and behind it. */
export class FileSize {
  private data = 0;
  private header = 24;

  constructor(pairs: ReadonlyMap<string, Pair>) {
    for (const [key, { bytes }] of pairs) this.header += textBytes(key).length + bytes.length;
  }

  with(t: OutTensor): FileSize {
    const more = new FileSize(new Map());
    more.header = this.header + textBytes(t.name).length + 16 + 8 * t.shape.length;
    more.data = this.data + paddedSize(t);
    return more;
  }

  get bytes(): number {
    return padded(this.header) + this.data;
  }
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** All that stands before the data, padded. */
export function encodeHeader(pairs: ReadonlyMap<string, Pair>, tensors: readonly OutTensor[]): Buffer {
  const pieces: Buffer[] = [Buffer.from('GGUF'), word(3), u64Bytes(tensors.length), u64Bytes(pairs.size)];
  for (const [key, { bytes }] of pairs) pieces.push(textBytes(key), bytes);
  let offset = 0;
  for (const t of tensors) {
    const dims = t.shape.toReversed().map(u64Bytes);
    pieces.push(textBytes(t.name), word(dims.length), ...dims, word(idOfType(t.dtype)), u64Bytes(offset));
    offset += paddedSize(t);
  }
  const length = pieces.reduce((n, piece) => n + piece.length, 0);
  return Buffer.concat([...pieces, Buffer.alloc(padded(length) - length)]);
}

/** The header, then for each tensor the pieces that `data` gives, whose bytes must be as many as the type makes. */
export async function writeGguf<T extends OutTensor>(
  file: FileHandle,
  pairs: ReadonlyMap<string, Pair>,
  tensors: readonly T[],
  data: (tensor: T) => AsyncIterable<Uint8Array>,
): Promise<void> {
  await writeAll(file, encodeHeader(pairs, tensors));
  for (const tensor of tensors) {
    let written = 0;
    for await (const piece of data(tensor)) {
      await writeAll(file, piece);
      written += piece.byteLength;
    }
    const size = sizeOf(tensor);
    if (written !== size) throw new Error(`tensor ${tensor.name}: ${written} bytes of ${size}`);
    if (padded(size) > size) await writeAll(file, Buffer.alloc(padded(size) - size));
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.byteLength - done);
    done += bytesWritten;
  }
}

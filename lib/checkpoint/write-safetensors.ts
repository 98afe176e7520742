import type { FileHandle } from 'node:fs/promises';
import { lazyFiles } from '../lazy.js';
import type { Tensor } from '../tensor.js';

/** A tensor of a file that is written: its values are asked for when their turn comes. */
export interface Outgoing {
  readonly name: string;
  /** i64: its values are words of 16 bits, four each, lowest first. */
  readonly dtype: 'f32' | 'f16' | 'bf16' | 'i64';
  readonly shape: readonly number[];
  values(): Promise<Tensor>;
}

const BYTES = { f32: 4, f16: 2, bf16: 2, i64: 8 };

/** Writes a safetensors file, one tensor after the other, and syncs it. */
export async function writeSafetensors(
  path: string,
  tensors: readonly Outgoing[],
  metadata: Record<string, string> = { format: 'pt' },
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let end = 0;
  for (const { name, dtype, shape } of tensors) {
    const begin = end;
    end += shape.reduce((n, s) => n * s, BYTES[dtype]);
    header[name] = { dtype: dtype.toUpperCase(), shape, data_offsets: [begin, end] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const padded = Buffer.alloc(Math.ceil(json.length / 8) * 8, ' ');
  json.copy(padded);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const file = await lazyFiles().open(path, 'wx');
  try {
    await writeAll(file, length);
    await writeAll(file, padded);
    for (const tensor of tensors) {
      const data = await dataOf(tensor);
      await writeAll(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

async function dataOf({ dtype, values }: Outgoing): Promise<ArrayBufferView> {
  const given = await values();
  if (dtype === 'i64') return Uint16Array.from(given.data as Float32Array);
  return (given.dtype === dtype ? given : await given.convert(dtype)).data;
}

const PIECE = 64 << 20;

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, Math.min(PIECE, bytes.length - at));
    at += bytesWritten;
  }
}

import type { FileHandle } from 'node:fs/promises';
import { lazyFiles } from '../lazy.js';
import type { Tensor } from '../tensor.js';

/** A tensor of a file that is written: its values are asked for when their turn comes. */
export interface Outgoing {
  readonly name: string;
  readonly dtype: 'f32' | 'f16' | 'bf16' | 'i64';
  readonly shape: readonly number[];
  /** Of i64 their words of 16 bits, lowest first: (…, 4). */
  values(): Promise<Tensor>;
}

const BYTES = { f32: 4, f16: 2, bf16: 2, i64: 8 };

/** Writes a safetensors file, one tensor after the other, and syncs it. */
export async function writeSafetensors(
  path: string,
  tensors: readonly Outgoing[],
  metadata: Record<string, string> = { format: 'pt' },
): Promise<void> {
  const header: Record<string, unknown> = Object.assign(Object.create(null), { __metadata__: metadata });
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
      const { buffer, byteOffset, byteLength } = await stored(tensor);
      await writeAll(file, new Uint8Array(buffer, byteOffset, byteLength));
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

async function stored({ dtype, values }: Outgoing): Promise<ArrayBufferView> {
  const given = await values();
  if (dtype === 'i64') return Uint16Array.from(given.data);
  return given.dtype === dtype ? given.data : (await given.convert(dtype)).data;
}

const PIECE = 64 << 20;

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, Math.min(PIECE, bytes.length - at));
    at += bytesWritten;
  }
}

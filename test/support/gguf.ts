// Builds GGUF files byte by byte, valid ones and lying ones, and finds those of the golden corpus.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll } from 'vitest';
import { valueTypes } from '../../dist/lib/checkpoint/gguf/types.js';
import { goldenRoot } from './golden.js';

export type Value = [type: (typeof valueTypes)[number], value: unknown];

/** A pair's value: ['u32', 3], ['string', 'llama'], ['array', ['f32', [1, 2]]]. */
function valueBytes([type, value]: Value): Buffer {
  const out = Buffer.alloc(8);
  switch (type) {
    case 'string':
      return text(value as string | Buffer);
    case 'array': {
      const [item, items] = value as [Value[0], unknown[]];
      return Buffer.concat([
        u32(valueTypes.indexOf(item)),
        u64(items.length),
        ...items.map((i) => valueBytes([item, i])),
      ]);
    }
    case 'u8':
    case 'bool':
      return Buffer.of(Number(value));
    case 'i8':
      return out.subarray(0, out.writeInt8(value as number));
    case 'u16':
      return out.subarray(0, out.writeUInt16LE(value as number));
    case 'i16':
      return out.subarray(0, out.writeInt16LE(value as number));
    case 'u32':
      return u32(value as number);
    case 'i32':
      return out.subarray(0, out.writeInt32LE(value as number));
    case 'f32':
      return out.subarray(0, out.writeFloatLE(value as number));
    case 'u64':
      return u64(value as number);
    case 'i64':
      return out.subarray(0, out.writeBigInt64LE(BigInt(value as number)));
    case 'f64':
      return out.subarray(0, out.writeDoubleLE(value as number));
  }
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
/** claimed: the length that stands in front, where it lies. */
export function text(value: string | Buffer, claimed?: number | bigint): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([u64(claimed ?? bytes.length), bytes]);
}

export interface TensorSpec {
  name: string;
  /** Outermost first. */
  shape: (number | bigint)[];
  /** ggml's number. */
  type: number;
  data?: Uint8Array;
  /** Where the info says it lies, from the start of the data; default: after the one before. */
  offset?: number | bigint;
}

export interface FileSpec {
  magic?: string;
  version?: number;
  pairs?: [string | Buffer, Value][];
  tensors?: TensorSpec[];
  tensorCount?: number | bigint;
  pairCount?: number | bigint;
  alignment?: number;
}

export function gguf({
  magic = 'GGUF',
  version = 3,
  pairs = [],
  tensors = [],
  alignment = 32,
  ...counts
}: FileSpec): Buffer {
  const infos: Buffer[] = [];
  const data: Buffer[] = [];
  let at = 0;
  for (const t of tensors) {
    infos.push(text(t.name), u32(t.shape.length), ...t.shape.toReversed().map(u64), u32(t.type), u64(t.offset ?? at));
    const bytes = padded(Buffer.from(t.data ?? []), alignment);
    data.push(bytes);
    at += bytes.length;
  }
  const header = Buffer.concat([
    Buffer.from(magic, 'latin1'),
    u32(version),
    u64(counts.tensorCount ?? tensors.length),
    u64(counts.pairCount ?? pairs.length),
    ...pairs.map(([key, value]) => Buffer.concat([text(key), u32(valueTypes.indexOf(value[0])), valueBytes(value)])),
    ...infos,
  ]);
  return Buffer.concat([padded(header, alignment), ...data]);
}

const padded = (bytes: Buffer, alignment: number): Buffer =>
  Buffer.concat([bytes, Buffer.alloc(Math.ceil(bytes.length / alignment) * alignment - bytes.length)]);

export const f32s = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);

/** The corpus beside the project, where it is. */
const shared = resolve(__dirname, '../../../shared/golden/gguf-C');
export const wholeCorpus = existsSync(shared);

/** A folder of the corpus: whole where it lies beside the project, else the selection kept here. */
export function corpusFolder(name: 'models' | 'vocab' | 'quants' | 'container'): string | undefined {
  const kept = join(goldenRoot, 'gguf', name);
  return wholeCorpus ? join(shared, name) : existsSync(kept) ? kept : undefined;
}

/** Files of such a folder that end so, the packed ones unpacked. */
export function corpusFiles(folder: string, end: string): string[] {
  const unpacked = mkdtempSync(join(tmpdir(), 'statespace-gguf-'));
  afterAll(() => rmSync(unpacked, { recursive: true, force: true }));
  mkdirSync(unpacked, { recursive: true });
  return readdirSync(folder)
    .filter((file) => file.endsWith(end) || file.endsWith(`${end}.gz`))
    .sort()
    .map((file) => {
      if (!file.endsWith('.gz')) return join(folder, file);
      const path = join(unpacked, file.slice(0, -3));
      writeFileSync(path, gunzipSync(readFileSync(join(folder, file))));
      return path;
    });
}

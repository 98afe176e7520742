// Builds checkpoint files byte by byte, valid ones and lying ones.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import type { StoredTensor } from '../../dist/lib/checkpoint/open.js';

/** A folder that goes away with the tests of the file; `put` makes a model folder in it. */
export function scratchFolders() {
  const root = mkdtempSync(join(tmpdir(), 'statespace-checkpoint-'));
  afterAll(() => rmSync(root, { recursive: true }));
  let count = 0;
  return {
    put(files: Record<string, Uint8Array | string>): string {
      const folder = mkdtempSync(join(root, `${count++}-`));
      for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
      return folder;
    },
  };
}

/** Expects an ERR_CHECKPOINT whose message names the file and matches. */
export async function expectRefused(work: Promise<unknown>, file: string, message: RegExp): Promise<void> {
  const error = await work.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toMatchObject({ name: 'StatespaceError', code: 'ERR_CHECKPOINT' });
  expect(error.message).toMatch(message);
  expect(error.message).toContain(file);
}

export function byName(tensors: Iterable<StoredTensor>): Record<string, StoredTensor> {
  return Object.fromEntries([...tensors].map((tensor) => [tensor.name, tensor]));
}

/** header: an object, or the JSON text itself where the test needs a wrong one. */
export function safetensors(
  header: object | string,
  data: Uint8Array = Buffer.alloc(0),
  claimedLength?: bigint,
): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claimedLength ?? BigInt(text.length));
  return Buffer.concat([length, text, data]);
}

export interface ZipPart {
  name: string;
  data: Uint8Array;
  method?: number;
  flags?: number;
  /** What the directory claims, where it lies. */
  size?: number;
  packedSize?: number;
  headerOffset?: number;
}

/** Stored entries; zip64 moves every size and offset into the 64-bit fields, as for files beyond 4 GiB. */
export function zip(parts: ZipPart[], { zip64 = false, comment = '' } = {}): Buffer {
  const chunks: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const { name, data, method = 0, flags = 0, size = data.length, packedSize = size, headerOffset = at } of parts) {
    const nameBytes = Buffer.from(name);
    const padding = 5; // an extra field of its own length, as PyTorch aligns with
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(method, 8);
    local.writeUInt32LE(data.length, 18);
    local.writeUInt32LE(data.length, 22);
    local.writeUInt16LE(nameBytes.length, 26);
    local.writeUInt16LE(padding, 28);
    chunks.push(local, nameBytes, Buffer.alloc(padding), Buffer.from(data));
    const extra = zip64 ? wideExtra(size, packedSize, headerOffset) : Buffer.alloc(0);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(flags, 8);
    central.writeUInt16LE(method, 10);
    central.writeUInt32LE(zip64 ? 0xffffffff : packedSize, 20);
    central.writeUInt32LE(zip64 ? 0xffffffff : size, 24);
    central.writeUInt16LE(nameBytes.length, 28);
    central.writeUInt16LE(extra.length, 30);
    central.writeUInt32LE(zip64 ? 0xffffffff : headerOffset, 42);
    directory.push(central, nameBytes, extra);
    at += 30 + nameBytes.length + padding + data.length;
  }
  const directoryBytes = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(zip64 ? 0xffff : parts.length, 10);
  end.writeUInt32LE(zip64 ? 0xffffffff : directoryBytes.length, 12);
  end.writeUInt32LE(zip64 ? 0xffffffff : at, 16);
  end.writeUInt16LE(comment.length, 20);
  const wide = zip64 ? end64(parts.length, directoryBytes.length, at) : Buffer.alloc(0);
  return Buffer.concat([...chunks, directoryBytes, wide, end, Buffer.from(comment)]);
}

function wideExtra(...fields: number[]): Buffer {
  const extra = Buffer.alloc(4 + 8 * fields.length);
  extra.writeUInt16LE(1, 0);
  extra.writeUInt16LE(8 * fields.length, 2);
  fields.forEach((field, i) => {
    extra.writeBigUInt64LE(BigInt(field), 4 + 8 * i);
  });
  return extra;
}

function end64(entries: number, size: number, offset: number): Buffer {
  const record = Buffer.alloc(56 + 20);
  record.writeUInt32LE(0x06064b50, 0);
  record.writeBigUInt64LE(BigInt(entries), 32);
  record.writeBigUInt64LE(BigInt(size), 40);
  record.writeBigUInt64LE(BigInt(offset), 48);
  record.writeUInt32LE(0x07064b50, 56);
  record.writeBigUInt64LE(BigInt(offset + size), 56 + 8);
  return record;
}

/** Opcodes of pickle protocol 2, each as the bytes that it takes. */
export const op = {
  global: (module: string, name: string) => Buffer.from(`c${module}\n${name}\n`),
  text(value: string): Buffer {
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return Buffer.concat([Buffer.from('X'), length, bytes]);
  },
  int(value: number): Buffer {
    const bytes = Buffer.from('J\0\0\0\0');
    bytes.writeInt32LE(value, 1);
    return bytes;
  },
  tuple: (...items: Buffer[]) => Buffer.concat([Buffer.from('('), ...items, Buffer.from('t')]),
  list: (...items: Buffer[]) => Buffer.concat([Buffer.from(']('), ...items, Buffer.from('e')]),
  dict: (...pairs: Buffer[]) => Buffer.concat([Buffer.from('}('), ...pairs, Buffer.from('u')]),
  reduce: (callable: Buffer, args: Buffer) => Buffer.concat([callable, args, Buffer.from('R')]),
  build: (object: Buffer, state: Buffer) => Buffer.concat([object, state, Buffer.from('b')]),
  code: (...bytes: number[]) => Buffer.from(bytes),
  persistent: (id: Buffer) => Buffer.concat([id, Buffer.from('Q')]),
};

export interface TensorSpec {
  type?: string;
  key?: string;
  length?: number;
  start?: number;
  shape: number[];
  strides: number[];
}

/** The pickle of one tensor, as torch.save writes it. */
export function pickledTensor({
  type = 'FloatStorage',
  key = '0',
  length = 6,
  start = 0,
  shape,
  strides,
}: TensorSpec): Buffer {
  const storage = op.tuple(op.text('storage'), op.global('torch', type), op.text(key), op.text('cpu'), op.int(length));
  return op.reduce(
    op.global('torch._utils', '_rebuild_tensor_v2'),
    op.tuple(
      op.persistent(storage),
      op.int(start),
      op.tuple(...shape.map(op.int)),
      op.tuple(...strides.map(op.int)),
      op.code(0x89),
      op.reduce(op.global('collections', 'OrderedDict'), op.code(0x29)),
    ),
  );
}

export const pickle = (...parts: Buffer[]) => Buffer.concat([op.code(0x80, 2), ...parts, Buffer.from('.')]);

/** A PyTorch file around a pickle; storage 0 holds 0 … 5 as f32. */
export function torchFile(data: Buffer, more: ZipPart[] = [], options?: { zip64?: boolean; comment?: string }): Buffer {
  const storage = Buffer.from(Float32Array.of(0, 1, 2, 3, 4, 5).buffer);
  const parts = [{ name: 'archive/data.pkl', data }, { name: 'archive/data/0', data: storage }, ...more];
  return zip(parts, options);
}

export const matrix: TensorSpec = { shape: [2, 3], strides: [3, 1] };

/** The bytes of a safetensors file that holds these f32 tensors. */
export function safetensorsOf(
  tensors: Readonly<Record<string, { data: ArrayLike<number>; shape: readonly number[] }>>,
) {
  const header: Record<string, unknown> = {};
  const parts: Buffer[] = [];
  let at = 0;
  for (const [name, { data, shape }] of Object.entries(tensors)) {
    const part = Buffer.from(Float32Array.from(data).buffer);
    header[name] = { dtype: 'F32', shape, data_offsets: [at, at + part.length] };
    parts.push(part);
    at += part.length;
  }
  return safetensors(header, Buffer.concat(parts));
}

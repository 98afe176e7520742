// Values of a GGUF header on their way into a file.
import type { ScalarType, ValueType } from './types.js';
import { scalarBytes, valueTypes } from './types.js';
import { GgufArray, type GgufValue, HeaderBytes, shortest } from './values.js';

/** A value as the bytes that stand behind its key (type and all), and as a reader of the file gives it. */
export interface Pair {
  readonly bytes: Buffer;
  readonly value: GgufValue;
}

const typeWord = (type: ValueType): Buffer => u32Bytes(valueTypes.indexOf(type));

function u32Bytes(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64Bytes(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** A length and the UTF-8 of a text. */
export function textBytes(text: string | Uint8Array): Buffer {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  return Buffer.concat([u64Bytes(bytes.length), bytes]);
}

type Number32 = 'u8' | 'u16' | 'u32' | 'i32' | 'f32' | 'bool';

function write(type: Number32, to: Buffer, at: number, value: number): void {
  if (type === 'u32') to.writeUInt32LE(value, at);
  else if (type === 'u16') to.writeUInt16LE(value, at);
  else if (type === 'i32') to.writeInt32LE(value, at);
  else if (type === 'f32') to.writeFloatLE(value, at);
  else to.writeUInt8(value, at);
}

function scalar(type: Number32 & ScalarType, value: number): Buffer {
  const bytes = Buffer.alloc(scalarBytes[type]);
  write(type, bytes, 0, value);
  return Buffer.concat([typeWord(type), bytes]);
}

export const u16 = (value: number): Pair => ({ bytes: scalar('u16', value), value });
export const i32 = (value: number): Pair => ({ bytes: scalar('i32', value), value });
export const u32 = (value: number): Pair => ({ bytes: scalar('u32', value), value });
export const f32 = (value: number): Pair => ({ bytes: scalar('f32', value), value: shortest(Math.fround(value)) });
export const bool = (value: boolean): Pair => ({ bytes: scalar('bool', Number(value)), value });
export const text = (value: string): Pair => ({
  bytes: Buffer.concat([typeWord('string'), textBytes(value)]),
  value,
});

function array(item: ValueType, count: number, elements: Buffer): Pair {
  return {
    bytes: Buffer.concat([typeWord('array'), typeWord(item), u64Bytes(count), elements]),
    value: new GgufArray(item, count, new HeaderBytes(elements), 0, elements.length, 'header'),
  };
}

function numbers(item: Number32, values: ArrayLike<number>): Pair {
  const size = scalarBytes[item];
  const elements = Buffer.allocUnsafe(values.length * size);
  for (let i = 0; i < values.length; i++) write(item, elements, i * size, values[i]!);
  return array(item, values.length, elements);
}

export const u8s = (values: ArrayLike<number>): Pair => numbers('u8', values);
export const i32s = (values: ArrayLike<number>): Pair => numbers('i32', values);
export const f32s = (values: ArrayLike<number>): Pair => numbers('f32', values);
export const bools = (values: readonly boolean[]): Pair => numbers('bool', values.map(Number));
export const texts = (values: readonly (string | Uint8Array)[]): Pair =>
  array('string', values.length, Buffer.concat(values.map(textBytes)));

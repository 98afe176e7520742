// Values of a GGUF header: decoded when they are asked for, out of the bytes of the header.
import { show } from '../../errors.js';
import { decodeUtf8 } from '../files.js';
import { checkpointError } from '../stored.js';
import { type ScalarType, scalarBytes, type ValueType } from './types.js';

export type GgufScalar = number | bigint | boolean | string;
export type GgufValue = GgufScalar | GgufArray;

/** An array as it lies in the header; a vocabulary of 256k strings costs nothing until it is read. */
export class GgufArray {
  constructor(
    readonly type: ValueType,
    readonly length: number,
    /** Of the elements alone. */
    private readonly bytes: Buffer,
    /** What errors call it. */
    private readonly where: string,
  ) {}

  /** The bytes of strings, which are UTF-8 or ought to be. */
  *rawStrings(): Generator<Buffer> {
    if (this.type !== 'string') throw this.unexpected('strings');
    for (let i = 0, at = 0; i < this.length; i++) {
      const end = at + 8 + Number(this.bytes.readBigUInt64LE(at));
      yield this.bytes.subarray(at + 8, end);
      at = end;
    }
  }

  /** Numbers; booleans as 0 and 1. */
  numbers(): number[] {
    if (this.type === 'string' || this.type === 'array') throw this.unexpected('numbers');
    return Array.from({ length: this.length }, (_, i) => this.numberAt(i));
  }

  /** One of numbers(). */
  numberAt(index: number): number {
    if (this.type === 'string' || this.type === 'array') throw this.unexpected('numbers');
    return Number(readScalar(this.bytes, index * scalarBytes[this.type], this.type));
  }

  private unexpected(wanted: string) {
    return checkpointError(this.where, `expected ${wanted}, received an array of ${this.type}`);
  }
}

export function readString(bytes: Buffer, at: number, length: number, where: string): string {
  const text = bytes.toString('utf8', at, at + length);
  // What is no UTF-8 turns into U+FFFD: only where there is one can it have been.
  return text.includes('\ufffd') ? decodeUtf8(where, bytes.subarray(at, at + length)) : text;
}

export function readScalar(bytes: Buffer, at: number, type: ScalarType): number | bigint | boolean {
  switch (type) {
    case 'u8':
      return bytes.readUInt8(at);
    case 'i8':
      return bytes.readInt8(at);
    case 'u16':
      return bytes.readUInt16LE(at);
    case 'i16':
      return bytes.readInt16LE(at);
    case 'u32':
      return bytes.readUInt32LE(at);
    case 'i32':
      return bytes.readInt32LE(at);
    case 'f32':
      return shortest(bytes.readFloatLE(at));
    case 'bool':
      return bytes.readUInt8(at) !== 0;
    case 'u64':
      return bytes.readBigUInt64LE(at);
    case 'i64':
      return bytes.readBigInt64LE(at);
    case 'f64':
      return bytes.readDoubleLE(at);
  }
}

/** The f32 as the decimal that was meant: 1e-5 and not 9.999999747378752e-06. */
export function shortest(value: number): number {
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}

/** The pairs of a header, read by their keys. */
export class Metadata {
  constructor(
    readonly file: string,
    private readonly pairs: ReadonlyMap<string, GgufValue>,
    /** Types and values as they lie in the file. */
    private readonly bytes: ReadonlyMap<string, Buffer> = new Map(),
  ) {}

  get size(): number {
    return this.pairs.size;
  }
  keys(): IterableIterator<string> {
    return this.pairs.keys();
  }
  has(key: string): boolean {
    return this.pairs.has(key);
  }
  value(key: string): GgufValue | undefined {
    return this.pairs.get(key);
  }
  /** A value of a file with its bytes, to be copied. */
  pair(key: string): { bytes: Buffer; value: GgufValue } | undefined {
    const [value, bytes] = [this.pairs.get(key), this.bytes.get(key)];
    return value === undefined || bytes === undefined ? undefined : { bytes, value };
  }

  string(key: string): string | undefined {
    return this.read(key, 'a string', (v) => (typeof v === 'string' ? v : undefined));
  }
  boolean(key: string): boolean | undefined {
    return this.read(key, 'true or false', (v) => (typeof v === 'boolean' ? v : undefined));
  }
  number(key: string): number | undefined {
    return this.read(key, 'a number', (v) => (typeof v === 'number' || typeof v === 'bigint' ? Number(v) : undefined));
  }
  /** A whole number from 0 on. */
  count(key: string): number | undefined {
    return this.read(key, 'a whole number from 0 on', (v) => {
      const n = typeof v === 'bigint' ? Number(v) : v;
      return Number.isSafeInteger(n) && (n as number) >= 0 ? (n as number) : undefined;
    });
  }
  /** As count(), but it must be there. */
  needCount(key: string): number {
    const n = this.count(key);
    if (n === undefined) throw this.missing(key);
    return n;
  }
  needNumber(key: string): number {
    const n = this.number(key);
    if (n === undefined) throw this.missing(key);
    return n;
  }
  /** Numbers, one for each of `length` layers; a single one counts for all. */
  perLayer(key: string, length: number): number[] | undefined {
    const value = this.pairs.get(key);
    if (value instanceof GgufArray) {
      if (value.length !== length)
        throw checkpointError(this.file, `metadata ${key}: expected ${length} values, received ${value.length}`);
      return value.numbers();
    }
    const n = this.count(key);
    return n === undefined ? undefined : new Array<number>(length).fill(n);
  }
  array(key: string): GgufArray | undefined {
    return this.read(key, 'an array', (v) => (v instanceof GgufArray ? v : undefined));
  }

  missing(key: string) {
    return checkpointError(this.file, `metadata ${key} is missing`);
  }

  private read<T>(key: string, wanted: string, pick: (value: GgufValue) => T | undefined): T | undefined {
    const value = this.pairs.get(key);
    if (value === undefined) return undefined;
    const picked = pick(value);
    if (picked === undefined) {
      const got = value instanceof GgufArray ? `an array of ${value.length} ${value.type}` : show(value);
      throw checkpointError(this.file, `metadata ${key}: expected ${wanted}, received ${got}`);
    }
    return picked;
  }
}

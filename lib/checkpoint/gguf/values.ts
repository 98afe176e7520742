// Values of a GGUF header: decoded when they are asked for, out of the bytes of the header.
import { show } from '../../errors.js';
import { giveBack } from '../../memory.js';
import { decodeUtf8 } from '../files.js';
import { checkpointError } from '../stored.js';
import { type ScalarType, scalarBytes, type ValueType } from './types.js';

export type GgufScalar = number | bigint | boolean | string;
export type GgufValue = GgufScalar | GgufArray;

/** A header, as much of it as was read: what lies in it knows only where. */
export class HeaderBytes {
  constructor(public bytes: Buffer = Buffer.alloc(0)) {}

  replace(bytes: Buffer): void {
    giveBack(this.bytes);
    this.bytes = bytes;
  }
}

/** An array as it lies in the header; a vocabulary of 256k strings costs nothing until it is read. */
export class GgufArray {
  constructor(
    readonly type: ValueType,
    readonly length: number,
    private readonly header: HeaderBytes,
    /** Where its elements lie there. */
    private readonly start: number,
    private readonly end: number,
    /** What errors call it. */
    private readonly where: string,
  ) {}

  /** The strings one after the other, which are UTF-8 or ought to be. */
  strings(): GgufStrings {
    if (this.type !== 'string') throw this.unexpected('strings');
    return new GgufStrings(this.header.bytes, this.start, this.length);
  }

  /** One of texts(), without making the others. */
  textAt(index: number): string | undefined {
    const strings = this.strings();
    for (let i = 0; strings.next(); i++) if (i === index) return strings.text();
    return undefined;
  }

  texts(): string[] {
    const texts: string[] = [];
    for (const strings = this.strings(); strings.next(); ) texts.push(strings.text());
    return texts;
  }

  /** Of all strings together. */
  get stringBytes(): number {
    return this.end - this.start - 8 * this.length;
  }

  /** Numbers; booleans as 0 and 1. */
  numbers(): number[] {
    if (this.type === 'string' || this.type === 'array') throw this.unexpected('numbers');
    return Array.from({ length: this.length }, (_, i) => this.numberAt(i));
  }

  /** One of numbers(). */
  numberAt(index: number): number {
    if (this.type === 'string' || this.type === 'array') throw this.unexpected('numbers');
    return Number(readScalar(this.header.bytes, this.start + index * scalarBytes[this.type], this.type));
  }

  /** All numbers, as whatever `to` holds. */
  copyTo<T extends Int8Array | Float32Array>(to: T): T {
    if (this.type === 'string' || this.type === 'array') throw this.unexpected('numbers');
    const { start, type } = this;
    if (type === 'i32' || type === 'f32') {
      const bytes = new Uint8Array(this.header.bytes.subarray(start, start + 4 * this.length)).buffer;
      to.set(type === 'i32' ? new Int32Array(bytes) : new Float32Array(bytes));
      return to;
    }
    for (let i = 0; i < this.length; i++)
      to[i] = Number(scalarAt(this.header.bytes, start + i * scalarBytes[type], type));
    return to;
  }

  private unexpected(wanted: string) {
    return checkpointError(this.where, `expected ${wanted}, received an array of ${this.type}`);
  }
}

/** Goes through strings without an object for each: a vocabulary has hundreds of thousands. */
export class GgufStrings {
  /** The string that next() has come to is bytes[start … end). */
  start = 0;
  end: number;
  private index = -1;

  constructor(
    readonly bytes: Buffer,
    start: number,
    private readonly length: number,
  ) {
    this.end = start;
  }

  next(): boolean {
    if (++this.index >= this.length) return false;
    this.start = this.end + 8;
    this.end = this.start + this.bytes.readUInt32LE(this.end) + this.bytes.readUInt32LE(this.end + 4) * 2 ** 32;
    return true;
  }

  /** The string that next() has come to. */
  text(): string {
    return this.bytes.toString('utf8', this.start, this.end);
  }
}

export function readString(bytes: Buffer, at: number, length: number, where: string): string {
  const text = bytes.toString('utf8', at, at + length);
  // What is no UTF-8 turns into U+FFFD: only where there is one can it have been.
  return text.includes('\ufffd') ? decodeUtf8(where, bytes.subarray(at, at + length)) : text;
}

export function readScalar(bytes: Buffer, at: number, type: ScalarType): number | bigint | boolean {
  return type === 'f32' ? shortest(bytes.readFloatLE(at)) : scalarAt(bytes, at, type);
}

/** As the file has it. */
function scalarAt(bytes: Buffer, at: number, type: ScalarType): number | bigint | boolean {
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
      return bytes.readFloatLE(at);
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
    private readonly header?: HeaderBytes,
    /** Where types and values lie there. */
    private readonly places: ReadonlyMap<string, readonly [start: number, end: number]> = new Map(),
  ) {}

  /** Gives the header's memory back; what does not stand in `pairs` itself is not to be asked for any more. */
  release(): void {
    this.header?.replace(Buffer.alloc(0));
  }

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
    const [value, place] = [this.pairs.get(key), this.places.get(key)];
    if (value === undefined || place === undefined || !this.header) return undefined;
    return { bytes: this.header.bytes.subarray(...place), value };
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

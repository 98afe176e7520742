// Walks over a header whose length nobody knows beforehand: pieces of the file are read as they are needed, twice as
// much each time, and never more than the file holds, whatever a length in it claims.
import { show } from '../../errors.js';
import { Turns } from '../../turns.js';
import type { InputFile } from '../files.js';
import { checkpointError } from '../stored.js';
import { type ScalarType, scalarBytes } from './types.js';
import { HeaderBytes, readScalar, readString } from './values.js';

const firstPiece = 1 << 18;
/** Headers of vocabularies of 256k tokens have 10 MB; what is longer is none. */
const longestHeader = 1 << 29;

export class HeaderReader {
  /** Bytes of the file that have been walked over. */
  at = 0;
  /** Those that have been read. */
  readonly header = new HeaderBytes();
  private readonly turns: Turns;

  constructor(
    private readonly file: InputFile,
    signal?: AbortSignal,
  ) {
    this.turns = new Turns(signal);
  }

  private get bytes(): Buffer {
    return this.header.bytes;
  }

  get path(): string {
    return this.file.path;
  }

  error(what: string) {
    return checkpointError(this.path, what);
  }

  /** Lets other work run where this one has taken its time. */
  async breathe(): Promise<void> {
    const pause = this.turns.due();
    if (pause) await pause;
  }

  private async need(length: number, what: string): Promise<void> {
    const end = this.at + length;
    if (end <= this.bytes.length) return;
    if (end > this.file.size) {
      throw this.error(
        `${what}: expected ${length} bytes at ${this.at}, received a file of ${this.file.size} bytes (truncated?)`,
      );
    }
    if (end > longestHeader) throw this.error(`${what}: expected a header of at most ${longestHeader} bytes`);
    const size = Math.min(this.file.size, Math.max(end, 2 * this.bytes.length, firstPiece));
    const more = Buffer.allocUnsafeSlow(size);
    this.bytes.copy(more);
    await this.file.readInto(more, this.bytes.length, this.bytes.length, what);
    this.header.replace(more);
  }

  async u32(what: string): Promise<number> {
    await this.need(4, what);
    this.at += 4;
    return this.bytes.readUInt32LE(this.at - 4);
  }

  /** A u64 that JavaScript can count to. */
  async size(what: string): Promise<number> {
    await this.need(8, what);
    const value = this.sizeAt(this.at);
    if (!Number.isSafeInteger(value))
      throw this.error(`${what}: expected less than 2^53, received ${this.bytes.readBigUInt64LE(this.at)}`);
    this.at += 8;
    return value;
  }
  private sizeAt(at: number): number {
    return this.bytes.readUInt32LE(at) + this.bytes.readUInt32LE(at + 4) * 2 ** 32;
  }

  /** A number of things that take at least so many bytes each: more than the rest of the file holds is a lie. */
  async count(what: string, leastBytes: number): Promise<number> {
    const value = await this.size(what);
    const most = Math.floor((this.file.size - this.at) / leastBytes);
    if (value > most) throw this.error(`${what}: ${value} is more than the rest of the file can hold`);
    return value;
  }

  async string(what: string, longest = Number.POSITIVE_INFINITY): Promise<string> {
    const length = await this.size(`${what}: length`);
    if (length > longest) throw this.error(`${what}: expected at most ${longest} bytes, received ${length}`);
    await this.need(length, what);
    this.at += length;
    return readString(this.bytes, this.at - length, length, `${this.path}: ${what}`);
  }

  async scalar(type: ScalarType, what: string): Promise<number | bigint | boolean> {
    const size = scalarBytes[type];
    await this.need(size, what);
    const value = readScalar(this.bytes, this.at, type);
    if (type === 'bool' && this.bytes[this.at]! > 1)
      throw this.error(`${what}: expected 0 or 1 as a boolean, received ${show(this.bytes[this.at])}`);
    this.at += size;
    return value;
  }

  async skipScalars(type: ScalarType, count: number, what: string): Promise<void> {
    await this.need(count * scalarBytes[type], what);
    this.at += count * scalarBytes[type];
  }

  async skipStrings(count: number, what: string): Promise<void> {
    for (let i = 0; i < count; i++) {
      if (i % 4096 === 4095) await this.breathe();
      if (this.at + 8 > this.bytes.length) await this.need(8, `${what}[${i}]: length`);
      const length = this.sizeAt(this.at);
      this.at += 8;
      if (this.at + length > this.bytes.length) await this.need(length, `${what}[${i}]`);
      this.at += length;
    }
  }
}

// The directory of a zip file whose entries are stored, not compressed, as PyTorch writes them; zip64 included.
import { show } from '../errors.js';
import type { InputFile } from './files.js';
import { decodeUtf8 } from './files.js';
import { checkpointError } from './stored.js';

const localSignature = 0x04034b50;
const centralSignature = 0x02014b50;
const endSignature = 0x06054b50;
const end64Signature = 0x06064b50;
const locator64Signature = 0x07064b50;
const localBytes = 30;
const centralBytes = 46;
const endBytes = 22;
const locator64Bytes = 20;
const end64Bytes = 56;
const maxCommentBytes = 65535;
const maxDirectoryBytes = 64 * 1024 * 1024;

export interface ZipEntry {
  readonly name: string;
  readonly size: number;
  readonly headerOffset: number;
}

interface Directory {
  entries: number;
  size: number;
  offset: number;
}

export class ZipFile {
  private constructor(
    private readonly file: InputFile,
    private readonly directoryOffset: number,
    readonly entries: ReadonlyMap<string, ZipEntry>,
  ) {}

  static async open(file: InputFile): Promise<ZipFile> {
    const directory = await findDirectory(file);
    if (directory.size > maxDirectoryBytes) {
      throw checkpointError(
        file.path,
        `zip directory: expected at most ${maxDirectoryBytes} bytes, received ${directory.size}`,
      );
    }
    const bytes = await file.read(directory.offset, directory.size, 'zip directory');
    return new ZipFile(file, directory.offset, parseDirectory(file.path, bytes, directory));
  }

  /** Where an entry's bytes begin in the file: behind its local header, which has lengths of its own. */
  async dataOffset(entry: ZipEntry): Promise<number> {
    const where = `${this.file.path}: zip entry ${show(entry.name)}`;
    const header = await this.file.read(entry.headerOffset, localBytes, `header of zip entry ${show(entry.name)}`);
    if (header.readUInt32LE(0) !== localSignature) {
      throw checkpointError(where, `expected its header at ${entry.headerOffset}, received other bytes`);
    }
    if (header.readUInt16LE(8) !== 0)
      throw checkpointError(where, 'expected a stored entry, received a compressed one');
    const offset = entry.headerOffset + localBytes + header.readUInt16LE(26) + header.readUInt16LE(28);
    if (offset + entry.size > this.directoryOffset) {
      throw checkpointError(
        where,
        `expected ${entry.size} bytes at ${offset}, received a file with ${this.directoryOffset} bytes of entries`,
      );
    }
    return offset;
  }

  async read(entry: ZipEntry, maxBytes: number): Promise<Buffer> {
    const what = `zip entry ${show(entry.name)}`;
    if (entry.size > maxBytes) {
      throw checkpointError(this.file.path, `${what}: expected at most ${maxBytes} bytes, received ${entry.size}`);
    }
    return this.file.read(await this.dataOffset(entry), entry.size, what);
  }
}

/** The end record is the last thing in the file but a comment of up to 64 KiB; zip64 puts a second one before it. */
async function findDirectory(file: InputFile): Promise<Directory> {
  const tailBytes = Math.min(file.size, endBytes + maxCommentBytes + locator64Bytes);
  const tailOffset = file.size - tailBytes;
  const tail = await file.read(tailOffset, tailBytes, 'end of the zip file');
  for (let at = tailBytes - endBytes; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== endSignature || at + endBytes + tail.readUInt16LE(at + 20) !== tailBytes) continue;
    const locator = at - locator64Bytes;
    if (locator >= 0 && tail.readUInt32LE(locator) === locator64Signature) {
      return readEnd64(file, u64(file.path, tail, locator + 8));
    }
    return {
      entries: tail.readUInt16LE(at + 10),
      size: tail.readUInt32LE(at + 12),
      offset: tail.readUInt32LE(at + 16),
    };
  }
  throw checkpointError(file.path, 'expected a zip directory at the end, received none (truncated?)');
}

async function readEnd64(file: InputFile, offset: number): Promise<Directory> {
  const end = await file.read(offset, end64Bytes, 'zip64 end record');
  if (end.readUInt32LE(0) !== end64Signature)
    throw checkpointError(file.path, `expected a zip64 end record at ${offset}`);
  return { entries: u64(file.path, end, 32), size: u64(file.path, end, 40), offset: u64(file.path, end, 48) };
}

function parseDirectory(path: string, bytes: Buffer, { entries: count }: Directory): Map<string, ZipEntry> {
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + centralBytes > bytes.length || bytes.readUInt32LE(at) !== centralSignature) {
      throw checkpointError(path, `zip directory: expected ${count} entries, received ${i}`);
    }
    const nameEnd = at + centralBytes + bytes.readUInt16LE(at + 28);
    const extraEnd = nameEnd + bytes.readUInt16LE(at + 30);
    const next = extraEnd + bytes.readUInt16LE(at + 32);
    if (next > bytes.length) throw checkpointError(path, `zip directory: entry ${i} runs past its end`);
    const name = decodeUtf8(`${path}: zip directory`, bytes.subarray(at + centralBytes, nameEnd));
    const where = `${path}: zip entry ${show(name)}`;
    if (bytes.readUInt16LE(at + 8) & 1) throw checkpointError(where, 'expected no encryption');
    const method = bytes.readUInt16LE(at + 10);
    if (method !== 0) {
      throw checkpointError(
        where,
        `expected a stored entry, received compression method ${method}; save it again with torch.save`,
      );
    }
    const packed = bytes.readUInt32LE(at + 20);
    const plain = bytes.readUInt32LE(at + 24);
    const extra = bytes.subarray(nameEnd, extraEnd);
    const [size, packedSize, headerOffset] = widen(where, extra, [plain, packed, bytes.readUInt32LE(at + 42)]);
    if (size !== packedSize) {
      throw checkpointError(where, `expected a stored entry of one size, received ${packedSize} bytes for ${size}`);
    }
    if (entries.has(name)) throw checkpointError(where, 'stands twice in the zip directory');
    entries.set(name, { name, size: size!, headerOffset: headerOffset! });
    at = next;
  }
  return entries;
}

/** Fields of 0xffffffff are in the zip64 extra field instead, in this order. */
function widen(where: string, extra: Buffer, fields: number[]): number[] {
  if (!fields.includes(0xffffffff)) return fields;
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    const wide = extra.subarray(at + 4, at + 4 + extra.readUInt16LE(at + 2));
    let next = 0;
    return fields.map((field) => {
      if (field !== 0xffffffff) return field;
      next += 8;
      return u64(where, wide, next - 8);
    });
  }
  throw checkpointError(where, 'expected its sizes in a zip64 field, received none');
}

function u64(where: string, bytes: Buffer, at: number): number {
  if (at + 8 > bytes.length) throw checkpointError(where, 'expected 8 bytes of a zip64 field, received fewer');
  const value = bytes.readBigUInt64LE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw checkpointError(where, `expected a size, received ${value}`);
  return Number(value);
}

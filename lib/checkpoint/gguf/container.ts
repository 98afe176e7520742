// A GGUF file: magic, version, counts, key-value pairs, tensor infos, padding, tensor data (specification of ggml).
import { basename, dirname, join } from 'node:path';
import { show } from '../../errors.js';
import { fileExists, InputFile, refusePlaceholder } from '../files.js';
import { checkpointError, type StoredTensor, storedBytes, typeBlock } from '../stored.js';
import { HeaderReader } from './header-reader.js';
import { typeOfId, valueTypes } from './types.js';
import { GgufArray, type GgufValue, Metadata } from './values.js';

const MAGIC = 0x46554747; // "GGUF"
/** Names, nesting and alignments beyond these are no model's. */
const longestName = 65_535;
const deepestArray = 4;
const largestAlignment = 1 << 20;
const STANDARD_ALIGNMENT = 32;

export interface GgufFile {
  version: number;
  metadata: Metadata;
  /** By the names and the types of the file; shapes outermost first, as everywhere here. */
  tensors: StoredTensor[];
}

/** One file, or the first of a split one with all that belong to it. */
export async function readGguf(path: string, signal?: AbortSignal): Promise<GgufFile> {
  const first = await readOne(path, STANDARD_ALIGNMENT, signal);
  const count = first.metadata.count('split.count') ?? 1;
  if (count <= 1) return first;
  const no = first.metadata.count('split.no') ?? 0;
  const name = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/.exec(basename(path));
  if (!name || Number(name[2]) !== no + 1 || Number(name[3]) !== count) {
    const wanted = `-${pad(no + 1)}-of-${pad(count)}.gguf`;
    throw checkpointError(path, `is part ${no + 1} of ${count}: expected a name that ends in ${wanted}`);
  }
  const partPath = (i: number) => join(dirname(path), `${name[1]}-${pad(i + 1)}-of-${pad(count)}.gguf`);
  if (no !== 0) throw checkpointError(path, `is part ${no + 1} of ${count}: expected the first, ${partPath(0)}`);
  const parts: GgufFile[] = [first];
  const total = first.metadata.count('split.tensors.count');
  for (let i = 1; i < count; i++) {
    const part = await readPart(partPath(i), { no: i, count, total, alignment: first.alignment }, signal);
    part.metadata.release();
    parts.push(part);
  }
  const tensors = parts.flatMap((part) => part.tensors);
  if (total !== undefined && total !== tensors.length)
    throw checkpointError(path, `expected ${total} tensors in ${count} parts, received ${tensors.length}`);
  checkNames(tensors);
  return { ...first, tensors };
}

const pad = (n: number): string => String(n).padStart(5, '0');

/** What a part says of the split that it belongs to. */
interface SplitPart {
  readonly no: number;
  readonly count: number;
  /** Tensors of all parts. */
  readonly total: number | undefined;
  /** Of the first part. */
  readonly alignment: number;
}

/** All that the format says of which split a part belongs to is how many parts and tensors that has. */
async function readPart(
  path: string,
  { no, count, total, alignment }: SplitPart,
  signal?: AbortSignal,
): Promise<GgufFile> {
  if (!(await fileExists(path))) throw checkpointError(path, `part ${no + 1} of ${count} is missing`);
  const part = await readOne(path, alignment, signal);
  const [foundNo, foundCount] = [part.metadata.count('split.no'), part.metadata.count('split.count')];
  if (foundNo !== no || foundCount !== count) {
    throw checkpointError(
      path,
      `expected split.no ${no} and split.count ${count}, received ${show(foundNo)} and ${show(foundCount)}`,
    );
  }
  const foundTotal = part.metadata.count('split.tensors.count');
  if (total !== undefined && foundTotal !== undefined && foundTotal !== total) {
    throw checkpointError(
      path,
      `is a part of another split: expected split.tensors.count ${total} as in the first, received ${foundTotal}`,
    );
  }
  return part;
}

/** `splitAlignment`: of the split that it may be a part of. */
function readOne(
  path: string,
  splitAlignment: number,
  signal?: AbortSignal,
): Promise<GgufFile & { alignment: number }> {
  return InputFile.use(path, async (file) => {
    await refusePlaceholder(file, 'GGUF');
    const r = new HeaderReader(file, signal);
    const version = await readVersion(r);
    const [tensorCount, pairCount] = [await r.count('tensor count', 24), await r.count('metadata count', 13)];
    const pairs = new Map<string, GgufValue>();
    const places = new Map<string, [number, number]>();
    for (let i = 0; i < pairCount; i++) {
      const key = await r.string(`key of metadata pair ${i}`, longestName);
      if (pairs.has(key)) throw checkpointError(path, `metadata ${show(key)} stands twice`);
      const start = r.at;
      pairs.set(key, await readValue(r, await r.u32(`type of metadata ${show(key)}`), `metadata ${show(key)}`, 0));
      places.set(key, [start, r.at]);
      await r.breathe();
    }
    const metadata = new Metadata(path, pairs, r.header, places);
    const own = readAlignment(metadata);
    const tensors: StoredTensor[] = [];
    for (let i = 0; i < tensorCount; i++) {
      tensors.push(await readTensor(r, i));
      await r.breathe();
    }
    const alignment = own ?? impliedAlignment(file.size, r.at, tensors, splitAlignment);
    locate(file, tensors, upTo(alignment, r.at), alignment);
    checkNames(tensors);
    return { version, metadata, tensors, alignment };
  });
}

async function readVersion(r: HeaderReader): Promise<number> {
  const magic = await r.u32('magic');
  if (magic !== MAGIC) throw r.error(`expected a file that begins with "GGUF", received ${show(ascii(magic))}`);
  const version = await r.u32('version');
  if (version === 2 || version === 3) return version;
  if (version !== 0 && (version & 0xffff) === 0)
    throw r.error('is a big-endian GGUF: convert it with gguf-py (gguf-convert-endian FILE little)');
  throw r.error(`expected GGUF version 2 or 3, received ${version}`);
}

const ascii = (word: number): string =>
  String.fromCharCode(...[0, 8, 16, 24].map((shift) => (word >>> shift) & 0xff)).replace(/[^ -~]/g, '?');

/** Arrays stay bytes; they are walked over here, so that what lies behind them is found and what they claim is true. */
async function readValue(r: HeaderReader, typeId: number, where: string, depth: number): Promise<GgufValue> {
  const type = valueTypes[typeId];
  if (type === undefined)
    throw r.error(`${where}: expected a type from 0 to ${valueTypes.length - 1}, received ${typeId}`);
  if (type === 'string') return r.string(where);
  if (type !== 'array') return r.scalar(type, where);
  if (depth === deepestArray) throw r.error(`${where}: arrays within arrays beyond a depth of ${deepestArray}`);
  const itemId = await r.u32(`${where}: type of its elements`);
  const item = valueTypes[itemId];
  if (item === undefined) throw r.error(`${where}: elements of the type ${itemId}, which is not known`);
  const count = await r.count(`${where}: length`, item === 'string' ? 8 : item === 'array' ? 12 : 1);
  const start = r.at;
  if (item === 'string') await r.skipStrings(count, where);
  else if (item === 'array') await readArrays(r, count, where, depth + 1);
  else await r.skipScalars(item, count, where);
  return new GgufArray(item, count, r.header, start, r.at, `${r.path}: ${where}`);
}

async function readArrays(r: HeaderReader, count: number, where: string, depth: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await readValue(r, valueTypes.indexOf('array'), `${where}[${i}]`, depth);
    await r.breathe();
  }
}

const upTo = (alignment: number, n: number): number => Math.ceil(n / alignment) * alignment;

/**
 * Of a file that does not say it: the standard one. Parts of a split behind the first never say it; gguf-py aligns them as the
 * first, gguf-split by the standard, and the length of the file tells which, as data is padded at its end too.
 */
function impliedAlignment(size: number, header: number, tensors: readonly StoredTensor[], split: number): number {
  const end = tensors.reduce((last, t) => Math.max(last, t.offset + t.byteLength), 0);
  const fills = (alignment: number) => upTo(alignment, header) + upTo(alignment, end) === size;
  return fills(split) && !fills(STANDARD_ALIGNMENT) ? split : STANDARD_ALIGNMENT;
}

function readAlignment(metadata: Metadata): number | undefined {
  const alignment = metadata.count('general.alignment');
  if (alignment === undefined) return undefined;
  if (alignment === 0 || alignment > largestAlignment || (alignment & (alignment - 1)) !== 0) {
    throw checkpointError(
      metadata.file,
      `metadata general.alignment: expected a power of two up to ${largestAlignment}, received ${alignment}`,
    );
  }
  return alignment;
}

/** A tensor info; its offset still counts from the start of the data. */
async function readTensor(r: HeaderReader, index: number): Promise<StoredTensor> {
  const name = await r.string(`name of tensor ${index}`, longestName);
  const where = `tensor ${show(name)}`;
  const rank = await r.u32(`${where}: rank`);
  if (rank < 1 || rank > 4) throw r.error(`${where}: expected 1 to 4 dimensions, received ${rank}`);
  const shape: number[] = [];
  for (let i = 0; i < rank; i++) shape.unshift(await r.size(`${where}: dimension ${i}`));
  const id = await r.u32(`${where}: type`);
  const dtype = typeOfId(id);
  if (typeof dtype !== 'string') throw r.error(`${where}: is of type ${id}, ${dtype.reason}`);
  const columns = shape[rank - 1]!;
  const block = typeBlock(dtype);
  if (columns % block !== 0)
    throw r.error(`${where}: ${dtype} holds blocks of ${block} values, received rows of ${columns}`);
  const byteLength = storedBytes(
    dtype,
    shape.reduce((n, size) => n * size, 1),
  );
  return { name, dtype, shape, file: r.path, offset: await r.size(`${where}: offset`), byteLength };
}

/** Offsets from the start of the file; every tensor lies in it, aligned, and over no other. */
function locate(file: InputFile, tensors: StoredTensor[], dataStart: number, alignment: number): void {
  const room = file.size - dataStart;
  for (const tensor of tensors) {
    const where = `${file.path}: tensor ${show(tensor.name)}`;
    const { offset, byteLength } = tensor;
    if (offset % alignment !== 0)
      throw checkpointError(where, `expected an offset that is a multiple of ${alignment}, received ${offset}`);
    if (!(offset + byteLength <= room)) {
      throw checkpointError(
        where,
        `expected ${byteLength} bytes at ${offset} within the ${Math.max(0, room)} bytes of data (truncated?)`,
      );
    }
    tensor.offset += dataStart;
  }
  let end = dataStart;
  for (const { name, offset, byteLength } of tensors.toSorted(
    (a, b) => a.offset - b.offset || a.byteLength - b.byteLength,
  )) {
    if (offset < end) throw checkpointError(`${file.path}: tensor ${show(name)}`, 'overlaps the tensor before it');
    end = offset + byteLength;
  }
}

function checkNames(tensors: readonly StoredTensor[]): void {
  const seen = new Set<string>();
  for (const { name, file } of tensors) {
    if (seen.has(name)) throw checkpointError(file, `tensor ${show(name)} stands twice`);
    seen.add(name);
  }
}

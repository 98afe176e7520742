// The header of a safetensors file: u64 length, JSON {name: {dtype, shape, data_offsets}}, then the data without holes.
import { show } from '../errors.js';
import { Turns } from '../turns.js';
import { decodeUtf8, InputFile, refusePlaceholder } from './files.js';
import { isJsonObject, type Json, type JsonObject, parseLongJsonObject } from './json.js';
import { bitsOf, checkpointError, foreignBits, itemBytes, type StoredDType, type StoredTensor } from './stored.js';

/** Some 200,000 tensors; the reference implementation takes four times as much. */
const maxHeaderBytes = 25_000_000;
/** Their names here are the format's in lower case. */
const dtypes = new Map<unknown, StoredDType>(
  [...Object.keys(itemBytes), ...Object.keys(foreignBits)].map((name) => [name.toUpperCase(), name as StoredDType]),
);

export function readSafetensors(path: string, signal?: AbortSignal): Promise<StoredTensor[]> {
  const turns = new Turns(signal);
  return InputFile.use(path, async (file) => {
    await refusePlaceholder(file, 'safetensors');
    const length = (await file.read(0, 8, 'length of the header')).readBigUInt64LE();
    if (length > BigInt(maxHeaderBytes)) {
      throw checkpointError(path, `header: expected at most ${maxHeaderBytes} bytes, received a length of ${length}`);
    }
    const bytes = await file.read(8, Number(length), 'header');
    const where = `${path}: header`;
    if (!/^\s*\{/.test(bytes.toString('latin1', 0, 64)))
      throw checkpointError(where, 'expected a JSON object, received no "{"');
    const header = await parseLongJsonObject(decodeUtf8(where, bytes), where, turns);
    return locate(path, header, 8 + Number(length), file.size, turns);
  });
}

async function locate(
  file: string,
  header: JsonObject,
  dataStart: number,
  fileSize: number,
  turns: Turns,
): Promise<StoredTensor[]> {
  const tensors: StoredTensor[] = [];
  let aliases: Record<string, string> = {};
  for (const name in header) {
    const entry = header[name]!;
    if (name === '__metadata__') aliases = readMetadata(file, entry);
    else tensors.push(tensor(file, name, entry, dataStart, fileSize));
    const pause = turns.due();
    if (pause) await pause;
  }
  checkCover(file, tensors, dataStart, fileSize);
  return [...tensors, ...aliased(tensors, aliases)];
}

/** Metadata names the tensors that were left out because they share another's memory: { left out: kept }. */
function aliased(tensors: StoredTensor[], aliases: Record<string, string>): StoredTensor[] {
  const byName = new Map(tensors.map((t) => [t.name, t]));
  return Object.entries(aliases).flatMap(([name, kept]) => {
    const stored = byName.get(kept);
    return stored && !byName.has(name) ? [{ ...stored, name }] : [];
  });
}

function tensor(file: string, name: string, entry: Json, dataStart: number, fileSize: number): StoredTensor {
  const where = `${file}: tensor ${show(name)}`;
  if (!isJsonObject(entry))
    throw checkpointError(where, `expected {dtype, shape, data_offsets}, received ${show(entry)}`);
  const dtype = dtypes.get(entry.dtype);
  if (dtype === undefined) {
    throw checkpointError(where, `expected dtype ${[...dtypes.keys()].join(', ')}, received ${show(entry.dtype)}`);
  }
  const shape = sizes(where, 'shape', entry.shape);
  const [begin, end, ...rest] = sizes(where, 'data_offsets', entry.data_offsets);
  if (begin === undefined || end === undefined || rest.length > 0 || begin > end || end > fileSize - dataStart) {
    throw checkpointError(
      where,
      `expected data_offsets [begin, end] within the ${fileSize - dataStart} bytes of data, received ${show(entry.data_offsets)}`,
    );
  }
  const byteLength = shape.reduce((product, size) => product * size, bitsOf(dtype)) / 8;
  if (end - begin !== byteLength) {
    throw checkpointError(
      where,
      `expected ${byteLength} bytes for ${dtype} ${show(shape)}, received data_offsets of ${end - begin}`,
    );
  }
  return { name, dtype, shape, file, offset: dataStart + begin, byteLength };
}

function sizes(where: string, key: string, value: Json | undefined): number[] {
  if (!Array.isArray(value) || !value.every((size) => Number.isSafeInteger(size) && (size as number) >= 0)) {
    throw checkpointError(where, `expected ${key} as an array of sizes, received ${show(value)}`);
  }
  return value as number[];
}

function readMetadata(file: string, metadata: Json): Record<string, string> {
  if (metadata === null) return {};
  if (!isJsonObject(metadata) || !Object.values(metadata).every((text) => typeof text === 'string')) {
    throw checkpointError(file, '__metadata__: expected an object of strings');
  }
  return metadata as Record<string, string>;
}

/** The format allows neither overlaps nor holes nor bytes behind the last tensor. */
function checkCover(file: string, tensors: StoredTensor[], dataStart: number, fileSize: number): void {
  const inOrder = tensors.toSorted((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  let end = dataStart;
  for (const { name, offset, byteLength } of inOrder) {
    if (offset !== end) {
      const what = offset < end ? 'overlaps the tensor before it' : 'leaves a hole before it';
      throw checkpointError(
        `${file}: tensor ${show(name)}`,
        `${what}: expected its data at ${end - dataStart}, received ${offset - dataStart}`,
      );
    }
    end += byteLength;
  }
  if (end !== fileSize) {
    throw checkpointError(file, `expected ${fileSize - dataStart} bytes of tensors, received ${end - dataStart}`);
  }
}

// The header of a safetensors file: u64 length, JSON {name: {dtype, shape, data_offsets}}, then the data without holes.
import { show } from '../errors.js';
import { sorted, Turns } from '../turns.js';
import { decodeLongUtf8, InputFile, refusePlaceholder } from './files.js';
import { isJsonObject, type Json } from './json.js';
import { type LongJson, readMembers } from './long-json.js';
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
    return locate(path, await decodeLongUtf8(where, bytes, turns), 8 + Number(length), file.size, turns);
  });
}

async function locate(
  file: string,
  header: string,
  dataStart: number,
  fileSize: number,
  turns: Turns,
): Promise<StoredTensor[]> {
  const tensors: StoredTensor[] = [];
  let aliases: ReadonlyMap<string, string> = new Map();
  await readMembers(header, `${file}: header`, { turns, maps: ['__metadata__'] }, (name, entry) => {
    if (name === '__metadata__') aliases = readMetadata(file, entry);
    else tensors.push(tensor(file, name, entry, dataStart, fileSize));
  });
  await checkCover(file, tensors, dataStart, fileSize, turns);
  return tensors.concat(await aliased(tensors, aliases, turns));
}

/** Metadata names the tensors that were left out because they share another's memory: { left out: kept }. */
async function aliased(
  tensors: readonly StoredTensor[],
  aliases: ReadonlyMap<string, string>,
  turns: Turns,
): Promise<StoredTensor[]> {
  const byName = new Map<string, StoredTensor>();
  const found: StoredTensor[] = [];
  if (aliases.size === 0) return found;
  for (const stored of tensors) {
    byName.set(stored.name, stored);
    const pause = turns.due();
    if (pause) await pause;
  }
  for (const [name, kept] of aliases) {
    const stored = byName.get(kept);
    if (stored && !byName.has(name)) found.push({ ...stored, name });
    const pause = turns.due();
    if (pause) await pause;
  }
  return found;
}

function tensor(file: string, name: string, entry: LongJson, dataStart: number, fileSize: number): StoredTensor {
  const wrong = (expected: string, received: unknown) =>
    checkpointError(`${file}: tensor ${show(name)}`, `expected ${expected}, received ${show(received)}`);
  if (!isJsonObject(entry)) throw wrong('{dtype, shape, data_offsets}', entry);
  const { dtype: given, shape, data_offsets: offsets } = entry;
  const dtype = dtypes.get(given);
  if (dtype === undefined) throw wrong(`dtype ${[...dtypes.keys()].join(', ')}`, given);
  if (!isSizes(shape)) throw wrong('shape as an array of sizes', shape);
  if (!isSizes(offsets)) throw wrong('data_offsets as an array of sizes', offsets);
  const [begin, end, ...rest] = offsets;
  if (begin === undefined || end === undefined || rest.length > 0 || begin > end || end > fileSize - dataStart)
    throw wrong(`data_offsets [begin, end] within the ${fileSize - dataStart} bytes of data`, offsets);
  const byteLength = shape.reduce((product, size) => product * size, bitsOf(dtype)) / 8;
  if (end - begin !== byteLength)
    throw wrong(`data_offsets of ${byteLength} bytes for ${dtype} ${show(shape)}`, offsets);
  return { name, dtype, shape, file, offset: dataStart + begin, byteLength };
}

const isSizes = (value: Json | undefined): value is number[] =>
  Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && (size as number) >= 0);

function readMetadata(file: string, metadata: LongJson): ReadonlyMap<string, string> {
  if (metadata === null) return new Map();
  if (!(metadata instanceof Map)) throw checkpointError(file, '__metadata__: expected an object of strings');
  for (const [key, text] of metadata)
    if (typeof text !== 'string')
      throw checkpointError(file, `__metadata__: ${show(key)}: expected a string, received ${show(text)}`);
  return metadata;
}

/** The format allows neither overlaps nor holes nor bytes behind the last tensor. */
async function checkCover(
  file: string,
  tensors: readonly StoredTensor[],
  dataStart: number,
  fileSize: number,
  turns: Turns,
): Promise<void> {
  const inOrder = await sorted(tensors, (a, b) => a.offset - b.offset || a.byteLength - b.byteLength, turns);
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
    const pause = turns.due();
    if (pause) await pause;
  }
  if (end !== fileSize) {
    throw checkpointError(file, `expected ${fileSize - dataStart} bytes of tensors, received ${end - dataStart}`);
  }
}

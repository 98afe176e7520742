// PyTorch's file before 1.6: five pickles one behind the other (a magic number, a protocol, the machine, the structure,
// the keys of the storages), then each storage as u64 length and its values.

import { show } from '../errors.js';
import type { Turns } from '../turns.js';
import type { InputFile } from './files.js';
import { bitsOf, checkpointError } from './stored.js';
import { type Storage, torchVocabulary } from './torch-values.js';
import { type PickleValue, unpickle, type Vocabulary } from './unpickle.js';

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL = 1001;
const maxHeadBytes = 16 * 1024 * 1024;

export interface LegacyFile {
  root: PickleValue;
  /** Of a storage: its first byte in the file, and its bytes. Undefined where the file lacks it. */
  place(key: string): { offset: number; size: number } | undefined;
}

/** What follows from the first bytes: the magic number, pickled by protocol 2 or newer. */
export function looksLegacy(head: Buffer): boolean {
  return head[0] === 0x80;
}

export async function readLegacy(file: InputFile, turns: Turns): Promise<LegacyFile> {
  const head = await file.read(0, Math.min(file.size, maxHeadBytes), 'pickles');
  const { path } = file;
  let at = 0;
  const storages = new Map<string, Storage>();
  const next = async (what: string, vocabulary?: Vocabulary) => {
    const known = vocabulary ?? torchVocabulary(path);
    const { value, end } = await unpickle(head.subarray(at), `${path}: ${what}`, known, turns);
    at += end;
    return value;
  };
  if ((await next('magic number')) !== MAGIC)
    throw checkpointError(path, 'expected a file of PyTorch, received other bytes');
  const protocol = await next('protocol');
  if (protocol !== PROTOCOL) throw checkpointError(path, `protocol: expected ${PROTOCOL}, received ${show(protocol)}`);
  const machine = await next('machine');
  if (machine instanceof Map && machine.get('little_endian') === false)
    throw checkpointError(path, 'byte order: expected little, received big');
  const vocabulary = torchVocabulary(path);
  const root = await next('structure', {
    globals: vocabulary.globals,
    persistent(id) {
      const storage = vocabulary.persistent(id) as Storage;
      storages.set(storage.key, storage);
      return storage;
    },
  });
  const keys = await next('keys of the storages');
  const places = await locateStorages(file, at, keys, storages);
  return { root, place: (key) => places.get(key) };
}

function bytesOfOne({ dtype }: Storage): number {
  if (typeof dtype === 'number') return dtype;
  return dtype === 'bytes' ? 1 : bitsOf(dtype) / 8;
}

async function locateStorages(
  file: InputFile,
  start: number,
  keys: PickleValue,
  storages: ReadonlyMap<string, Storage>,
): Promise<Map<string, { offset: number; size: number }>> {
  if (!Array.isArray(keys) || !keys.every((key) => typeof key === 'string'))
    throw checkpointError(file.path, `keys of the storages: expected a list of strings, received ${show(keys)}`);
  const places = new Map<string, { offset: number; size: number }>();
  let at = start;
  for (const key of keys) {
    const storage = storages.get(key);
    if (!storage) {
      throw checkpointError(file.path, `storage ${show(key)}: its type is not known, so what follows cannot be found`);
    }
    const length = (await file.read(at, 8, `length of storage ${show(key)}`)).readBigUInt64LE();
    const size = Number(length) * bytesOfOne(storage);
    if (!Number.isSafeInteger(size) || at + 8 + size > file.size) {
      throw checkpointError(
        file.path,
        `storage ${show(key)}: expected ${length} values at ${at + 8}, received a file of ${file.size} bytes (truncated?)`,
      );
    }
    places.set(key, { offset: at + 8, size });
    at += 8 + size;
  }
  return places;
}

// A GGUF file as the contents of another: its keys as they are, its tensors in other types.
import { readGguf } from '../checkpoint/gguf/container.js';
import type { Origin } from '../checkpoint/gguf/open.js';
import type { Pair } from '../checkpoint/gguf/pairs.js';
import { isBlocks } from '../checkpoint/stored.js';
import type { Contents } from './folder.js';

/** Keys of the old file's form, which the new one has of its own. */
const OWN = /^(split\.|quantize\.|general\.(alignment|file_type|quantization_version)$)/;

export async function fromFile(path: string, origins: ReadonlyMap<string, Origin>): Promise<Contents> {
  const { metadata, tensors } = await readGguf(path);
  const pairs = new Map<string, Pair>();
  for (const key of metadata.keys()) {
    const pair = metadata.pair(key);
    if (pair && !OWN.test(key)) pairs.set(key, pair);
  }
  const architecture = metadata.string('general.architecture');
  if (architecture === undefined) throw metadata.missing('general.architecture');
  const rounded = tensors.filter((t) => isBlocks(t.dtype)).map((t) => t.dtype);
  return {
    architecture,
    pairs,
    tensors: tensors.map((t) => ({ name: t.name, shape: t.shape, from: t, sources: origins.get(t.name)?.names ?? [] })),
    notes: [],
    rounded: [...new Set(rounded)],
  };
}

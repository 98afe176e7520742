// A GGUF file as the contents of another: its keys as they are, its tensors in other types.
import { readGguf } from '../checkpoint/gguf/container.js';
import type { Pair } from '../checkpoint/gguf/pairs.js';
import { isBlocks } from '../checkpoint/stored.js';
import type { Contents } from './folder.js';

/** Keys of the old file's form, which the new one has of its own. */
const OWN = /^(split\.|quantize\.|general\.(alignment|file_type|quantization_version)$)/;

/** sources: the checkpoint's names of what each tensor holds, by its name in the file. */
export async function fromFile(path: string, sources: ReadonlyMap<string, readonly string[]>): Promise<Contents> {
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
    tensors: tensors.map((t) => ({ name: t.name, shape: t.shape, from: t, sources: sources.get(t.name) ?? [] })),
    notes: [],
    rounded: [...new Set(rounded)],
  };
}

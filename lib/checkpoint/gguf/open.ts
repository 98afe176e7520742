// A GGUF file as the checkpoint that it was made of: Hugging Face's config, and its tensors under their names there.
import { checkpointError, type StoredTensor } from '../stored.js';
import { renamed } from '../views.js';
import type { Architecture, Config, Pairing, Tensors } from './architecture.js';
import { architectureNamed } from './architectures/index.js';
import { readGguf } from './container.js';
import { ArchitectureKeys } from './keys.js';
import { beyond, specialIds } from './special-ids.js';
import type { Metadata } from './values.js';

export interface Origin {
  readonly stored: StoredTensor;
  readonly names: readonly string[];
}

export interface GgufCheckpoint {
  config: Config;
  tensors: Map<string, StoredTensor>;
  metadata: Metadata;
  /** The tensors as they lie in the file, by their names there, and which of the above each one holds. */
  origins: ReadonlyMap<string, Origin>;
}

export async function openGguf(path: string, signal?: AbortSignal): Promise<GgufCheckpoint> {
  const file = await readGguf(path, signal);
  const { metadata } = file;
  const kind = metadata.string('general.type');
  if (kind !== undefined && kind !== 'model')
    throw checkpointError(path, `metadata general.type: expected a model, received "${kind}"`);
  const name = metadata.string('general.architecture');
  if (name === undefined) throw metadata.missing('general.architecture');
  const architecture = architectureNamed(name, path);
  const stored = new Map(file.tensors.map((t) => [t.name, t]));
  const keys = new ArchitectureKeys(metadata, name);
  if (keys.layers > stored.size) throw keys.error('block_count', `${keys.layers} layers of ${stored.size} tensors`);
  const own = await architecture.config(keys, stored);
  const config = { ...own, vocab_size: vocabSize(stored, path), ...specialIds(metadata), ...beyond(metadata) };
  return { config, ...toHf(architecture, config, keys.layers, stored), metadata };
}

/** Rows of the embedding: the list of tokens may have been padded beyond them. */
function vocabSize(tensors: Tensors, path: string): number {
  const table = tensors.get('token_embd.weight');
  if (table === undefined) throw checkpointError(path, 'tensor token_embd.weight is missing');
  return table.shape[0]!;
}

/** What no pairing knows keeps its name, so that loading says that nobody asks for it. */
function toHf(
  architecture: Architecture,
  config: Config,
  layers: number,
  stored: Tensors,
): Pick<GgufCheckpoint, 'tensors' | 'origins'> {
  const origins = new Map<string, Origin>([...stored].map(([name, t]) => [name, { stored: t, names: [] }]));
  const tensors = new Map<string, StoredTensor>();
  const rest = new Map(stored);
  for (const pairing of architecture.pairings(config, layers)) {
    const parts = pairing.gguf.map((name) => stored.get(name));
    if (parts.some((t) => t === undefined)) continue;
    const names = pairing.hf();
    for (const name of pairing.gguf) {
      rest.delete(name);
      origins.set(name, { stored: stored.get(name)!, names });
    }
    const made = convert(pairing, parts as StoredTensor[]);
    names.forEach((name, i) => {
      tensors.set(name, renamed(made[i]!, name));
    });
  }
  rest.delete('rope_freqs.weight'); // rope_parameters
  for (const [name, tensor] of rest) if (!architecture.unread?.(name, config)) tensors.set(name, tensor);
  return { tensors, origins };
}

function convert(pairing: Pairing, parts: StoredTensor[]): StoredTensor[] {
  try {
    return pairing.toHf(parts);
  } catch (error) {
    const { file, name, shape } = parts[0]!;
    throw checkpointError(
      file,
      `tensor ${name}: its shape (${shape.join(', ')}) does not fit: ${error instanceof Error ? error.message : error}`,
    );
  }
}

// A checkpoint of Hugging Face's layout as the tensors and keys of a GGUF file; nothing is read but config and names.
import { architectureNamed } from '../checkpoint/gguf/architectures/index.js';
import { type Pair, text } from '../checkpoint/gguf/pairs.js';
import { BEYOND } from '../checkpoint/gguf/special-ids.js';
import type { Checkpoint, StoredTensor } from '../checkpoint/open.js';
import { checkpointError } from '../checkpoint/stored.js';
import { renamed, scaled } from '../checkpoint/views.js';
import { StatespaceError } from '../errors.js';
import { headAsCopy } from '../models/head-copy.js';
import { type ResolvedModel, resolveModel, textConfig, unreadOf } from '../models/registry.js';
import { TOWERS, textName } from '../models/wrapped.js';
import { written } from './keys/index.js';
import type { Written } from './keys/written.js';
import { officialRwkv6, officialRwkv7 } from './rwkv-names.js';

/** A tensor of the file to be: what it is made of, and which tensors of the checkpoint those are. */
export interface PlannedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly from: StoredTensor | Float32Array;
  readonly sources: readonly string[];
}

export interface Contents {
  readonly architecture: string;
  readonly pairs: Map<string, Pair>;
  readonly tensors: PlannedTensor[];
  readonly notes: string[];
  /** Of a GGUF file: the block types that it holds already. */
  readonly rounded?: readonly string[];
}

type Tensors = ReadonlyMap<string, StoredTensor>;

/** Where the names of a family's parameters begin, and what they may begin with instead. */
const bases: Readonly<Record<string, { base: string; others: readonly string[] }>> = {
  mamba: { base: 'backbone.', others: [] },
  mamba2: { base: 'backbone.', others: [] },
  nemotron_h: { base: 'backbone.', others: ['model.'] },
  nemotron_h_moe: { base: 'backbone.', others: ['model.'] },
  rwkv6: { base: '', others: [] },
  rwkv7: { base: '', others: [] },
};
const HEAD = /^(lm_head|head)\.weight$/;
const BUFFERS = /(^|\.)(rotary_emb\.(inv_freq|cos_cached|sin_cached)|masked_bias|position_ids)$/;

/** The names that the pairings ask for, where a checkpoint was saved without its head or by an older release. */
function canonical(tensors: Tensors, architecture: string): Map<string, StoredTensor> {
  const { base, others } = bases[architecture] ?? { base: 'model.', others: [] };
  const begins = (prefix: string) => [...tensors.keys()].some((name) => name.startsWith(prefix));
  const rebase = (name: string): string => {
    if (base === '' || begins(base) || HEAD.test(name)) return name;
    const other = others.find((prefix) => name.startsWith(prefix));
    return base + (other === undefined ? name : name.slice(other.length));
  };
  const now = (name: string) => rebase(name).replace(/^backbone\.embedding\./, 'backbone.embeddings.');
  return new Map([...tensors].map(([name, tensor]) => [now(name), renamed(tensor, now(name))]));
}

/**
 * Embedding and head of tied models: the head is the embedding, and stored where the file's values differ. One of other
 * values is the model's own, whatever the config says, as in loading.
 */
function withEnds(tensors: Map<string, StoredTensor>, tied: boolean, untied: boolean): Map<string, StoredTensor> {
  const table = [...tensors.keys()].find((name) => /(^|\.)(embed_tokens|embeddings|emb)\.weight$/.test(name));
  const head = [...tensors.keys()].find((name) => HEAD.test(name));
  if (!tied) return tensors;
  const values = tensors.get(table ?? head ?? '');
  if (values === undefined) return tensors;
  const other = head === 'lm_head.weight' && table !== undefined ? tensors.get(head)! : values;
  if (other.file !== values.file || other.offset !== values.offset) return tensors;
  if (head !== undefined) tensors.delete(head);
  if (table === undefined) tensors.set('model.embed_tokens.weight', values);
  if (untied) tensors.set('lm_head.weight', values);
  return tensors;
}

/** Of a multimodal checkpoint its text model under that one's own names, and what is left of it. */
function textPart({ wrapped }: ResolvedModel, tensors: Tensors): { tensors: Tensors; left: string[] } {
  if (!wrapped) return { tensors, left: [] };
  const left = new Set<string>();
  const own = new Map<string, StoredTensor>();
  for (const [name, tensor] of tensors) {
    const tower = TOWERS.find((t) => t.names.test(name));
    if (tower) left.add(tower.what!);
    else own.set(textName(name), renamed(tensor, textName(name)));
  }
  return { tensors: own, left: [...left] };
}

/** RWKV's tensors by their official names, in whichever layout they lie. */
function official({ modelType, config }: ResolvedModel, tensors: Tensors): Tensors {
  if (modelType === 'rwkv7' && 'fla' in (config as object)) return officialRwkv7(tensors);
  return modelType === 'rwkv6' ? officialRwkv6(tensors) : tensors;
}

export async function fromFolder(checkpoint: Checkpoint): Promise<Contents> {
  const { config: raw, folder, configFile } = checkpoint;
  if (raw === undefined) throw checkpointError(configFile, 'is missing');
  const model = resolveModel(raw, {}, configFile);
  const { tensors: own, left } = textPart(model, await headAsCopy(checkpoint.tensors));
  const stored = official(model, own);
  const columns = (name: string): number => {
    const shape = stored.get(name)?.shape;
    if (shape === undefined) throw checkpointError(folder, `tensor ${name} is missing`);
    return shape[shape.length - 1]!;
  };
  const said = written(model, textConfig(raw), columns);
  const tied = (model.config as { tied?: boolean }).tied ?? false;
  const tensors = withEnds(canonical(stored, said.architecture), tied, said.untied ?? false);
  const unread = unreadOf(model);
  const planned = paired(folder, said, tensors, (name) => BUFFERS.test(name) || unread.some((u) => u.names.test(name)));
  if (said.architecture === 'rwkv7') planned.push(...unusedMixes(planned));
  for (const { name, length } of said.asked ?? [])
    if (!planned.some((t) => t.name === name))
      planned.push({ name, shape: [length], from: new Float32Array(length), sources: [] });
  const vectors = { ...said.vectors, ...(said.ropeDivisors && { 'rope_freqs.weight': said.ropeDivisors }) };
  for (const [name, from] of Object.entries(vectors)) planned.push({ name, shape: [from.length], from, sources: [] });
  return {
    architecture: said.architecture,
    pairs: pairsOf(said),
    tensors: planned,
    notes: [...left.map((what) => `${what} is left out`), ...said.notes.map((note) => `llama.cpp: ${note}`)],
  };
}

function paired(folder: string, said: Written, tensors: Tensors, isIdle: (name: string) => boolean): PlannedTensor[] {
  const rest = new Set(tensors.keys());
  const planned: PlannedTensor[] = [];
  for (const pairing of architectureNamed(said.architecture, folder).pairings(said.config, said.layers)) {
    const names = pairing.hf();
    const found = names.filter((name) => tensors.has(name));
    if (found.length === 0) continue;
    if (found.length < names.length)
      throw checkpointError(folder, `tensor ${names.find((name) => !tensors.has(name))} is missing`);
    const sources = names.map((name) => scaled(tensors.get(name)!, said.factor?.(name) ?? 1));
    for (const name of names) rest.delete(name);
    pairing.toGguf(sources).forEach((tensor, i) => {
      planned.push({ name: pairing.gguf[i]!, shape: tensor.shape, from: tensor, sources: names });
    });
  }
  const left = [...rest].filter((name) => !isIdle(name));
  if (left.length > 0)
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `${folder}: GGUF's ${said.architecture} has no place for ${left.length} of its tensors: ${left.slice(0, 8).join(', ')}`,
    );
  return planned;
}

/** llama.cpp asks for v0, v1 and v2 of the first layer and reads none of them: copies of a0, a1 and a2. */
function unusedMixes(planned: readonly PlannedTensor[]): PlannedTensor[] {
  return [0, 1, 2].flatMap((n) => {
    const of = planned.find(({ name }) => name === `blk.0.time_mix_a${n}.weight`);
    return of ? [{ ...of, name: `blk.0.time_mix_v${n}.weight`, sources: [] }] : [];
  });
}

function pairsOf(said: Written): Map<string, Pair> {
  const pairs = new Map<string, Pair>([['general.architecture', text(said.architecture)]]);
  for (const [key, pair] of Object.entries(said.keys)) if (pair) pairs.set(`${said.architecture}.${key}`, pair);
  if (Object.keys(said.beyond).length > 0) pairs.set(BEYOND, beyondWith(undefined, said.beyond));
  return pairs;
}

export const beyondWith = (before: Pair | undefined, more: Record<string, unknown>): Pair =>
  text(JSON.stringify({ ...(before && JSON.parse(before.value as string)), ...more }));

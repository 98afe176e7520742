// Low-rank adapters in peft's format, read, and merged into the tensors that they add to.
import { join } from 'node:path';
import { fileExists } from '../checkpoint/files.js';
import { readTensorF32, type StoredTensor } from '../checkpoint/open.js';
import { readPytorch } from '../checkpoint/pickle.js';
import { turned } from '../checkpoint/pieces.js';
import { readSafetensors } from '../checkpoint/safetensors.js';
import { transposed } from '../checkpoint/views.js';
import { StatespaceError, show } from '../errors.js';
import { compute } from '../graph/compute.js';
import type { Graph } from '../graph/graph.js';
import { parametersOf } from './held.js';
import { readPeftConfig } from './peft-config.js';
import { splitExperts } from './peft-experts.js';
import { HEAD, moduleOf, tiedTables } from './peft-names.js';

/** @public */
export interface Adapter {
  file: string;
  scale: number;
  a?: StoredTensor;
  b?: StoredTensor;
}

/** By the name of the tensor of the checkpoint. */
export type Adapters = ReadonlyMap<string, readonly Adapter[]>;

/** What a folder holds, by the names of tensors of the checkpoint. */
interface Found {
  adapters: Map<string, Adapter>;
  /** In place of the checkpoint's: modules_to_save, biases, what lies below an adapter. */
  whole: Map<string, StoredTensor>;
}

/**
 * Reads what peft saved in these folders: what adds to tensors, and what stands in their place. ERR_CHECKPOINT for anything but plain
 * LoRA, modules that the graph has not, modules that layers share where not all of these have the same adapter, and a table of
 * embeddings that is the head as well where these two do not have the same. @public
 */
export async function readAdapters(
  folders: readonly string[],
  graph: Graph,
): Promise<{ adapters: Adapters; whole: ReadonlyMap<string, StoredTensor> }> {
  const known = knownNames(graph);
  const shapes = new Map([...parametersOf(graph)].map(([name, { shape }]) => [name, shape]));
  const tied = tiedTables(graph);
  const adapters = new Map<string, Adapter[]>();
  const whole = new Map<string, StoredTensor>();
  for (const folder of folders) {
    const found = await readAdapter(folder, known, shapes);
    for (const table of tied) await oneForBoth(folder, found, table);
    await oneForAll(folder, found.adapters, graph.shared, sameAdapter);
    await oneForAll(folder, found.whole, graph.shared, sameValues);
    for (const name of [...found.adapters.keys(), ...found.whole.keys()])
      if (!known.has(name)) throw new StatespaceError('ERR_CHECKPOINT', `${folder}: the model has no tensor ${name}`);
    for (const [name, adapter] of found.adapters) adapters.set(name, [...(adapters.get(name) ?? []), adapter]);
    for (const [name, tensor] of found.whole) whole.set(name, tensor);
  }
  return { adapters, whole };
}

/** What a name in peft's file, which is transformers' in memory, is called in the checkpoint: the first part of it and the experts' may differ. */
const alike = (name: string): string =>
  name.replace(/^(?:(?:model|backbone|transformer|language_model)\.)+/, '').replace('.block_sparse_moe.', '.mlp.');

/** The names that the graph asks for, by themselves and by what they are alike to. */
function knownNames(graph: Graph): ReadonlyMap<string, string> {
  const names = [...parametersOf(graph).keys(), ...[...graph.shared.values()].flatMap((others) => [...others])];
  return new Map([...names.map((name) => [alike(name), name] as const), ...names.map((name) => [name, name] as const)]);
}

async function readAdapter(
  folder: string,
  known: ReadonlyMap<string, string>,
  shapes: ReadonlyMap<string, readonly number[]>,
): Promise<Found> {
  const config = await readPeftConfig(folder);
  const file = join(folder, 'adapter_model.safetensors');
  const pickled = join(folder, 'adapter_model.bin'); // of older releases, and of safe_serialization=False
  const stored =
    !(await fileExists(file)) && (await fileExists(pickled)) ? readPytorch(pickled) : readSafetensors(file);
  const found: Found = { adapters: new Map(), whole: new Map() };
  const inModel = (name: string) => known.get(name) ?? known.get(alike(name));
  const modules = new Map<string, string>();
  for (const t of await stored) {
    const match = /^base_model\.model\.(.+?)(?:\.lora_(embedding_)?([AB])(?:\.default)?(?:\.weight)?)?$/.exec(t.name);
    const [, module, embedding, half] = match ?? [];
    if (module === undefined)
      throw config.refuse(`tensor ${t.name}: expected base_model.model.MODULE.lora_A.weight or lora_B`);
    if (half === undefined) {
      const name = module.replace(/\.base_layer(?=\.[^.]+$)/, '');
      const base = inModel(name);
      if (!base && name !== HEAD)
        throw config.refuse(`tensor ${t.name}: is no half of an adapter, and the model has no such tensor`);
      found.whole.set(base ?? name, t);
      continue;
    }
    const asked = `${module}.weight`;
    const name = inModel(asked) ?? asked;
    modules.set(name, module);
    const adapter = found.adapters.get(name) ?? { file, scale: 0 };
    // Of a table of embeddings peft's A is (rank, rows) and B (columns, rank): rows are looked up in Aᵀ.
    if (embedding) adapter[half === 'A' ? 'b' : 'a'] = transposed(t);
    else adapter[half === 'A' ? 'a' : 'b'] = t;
    found.adapters.set(name, adapter);
  }
  if (config.whole.length > 0) {
    const [asked, saved] = [partsOf([...known.keys(), HEAD]), partsOf(found.whole.keys())];
    const lacking = config.whole.find((name) => asked.has(name) && !saved.has(name));
    if (lacking !== undefined)
      throw config.refuse(
        `modules_to_save: no tensor of ${lacking} is in the file; peft leaves them out where it converts ` +
          '(path_initial_model_for_weight_conversion): merge the adapter in peft and save the whole model',
      );
  }
  for (const [name, { a, b }] of [...found.adapters]) {
    const module = /^(.+\.experts)(?:\.base_layer)*\.weight$/.exec(name)?.[1];
    if (module === undefined || known.has(name) || !a || !b) continue;
    const split = splitExperts(module, { a, b }, (asked) => shapes.get(inModel(asked) ?? ''));
    if (!split)
      throw config.refuse(`${module}: adapters of shapes (${a.shape}) and (${b.shape}) are of none of its parameters`);
    found.adapters.delete(name);
    for (const [asked, halves] of split.parts) {
      const own = inModel(asked)!;
      found.adapters.set(own, { file, scale: 0, ...halves });
      modules.set(own, `${module}.${split.parameter}`);
    }
  }
  const ranks = config.ranksOf([...new Set(modules.values())]);
  for (const [name, adapter] of found.adapters) {
    const { rank, scale } = ranks.get(modules.get(name)!)!;
    if (adapter.a && adapter.a.shape[0] !== rank)
      throw config.refuse(`r: ${modules.get(name)} has ${rank} by the config, and A (${adapter.a.shape.join(', ')})`);
    adapter.scale = scale;
  }
  return found;
}

/** What modules of these tensors may be called: each run of the parts of a module's name. */
function partsOf(tensors: Iterable<string>): Set<string> {
  const runs = new Set<string>();
  for (const tensor of tensors) {
    const parts = tensor.split('.').slice(0, -1);
    for (let from = 0; from < parts.length; from++)
      for (let to = from + 1; to <= parts.length; to++) runs.add(parts.slice(from, to).join('.'));
  }
  return runs;
}

/** peft adapts a table and the head that is tied to it one by one, unless it is told to tie them; one tensor can have what is the same of both. */
async function oneForBoth(folder: string, { adapters, whole }: Found, table: string): Promise<void> {
  const refuse = () =>
    new StatespaceError(
      'ERR_CHECKPOINT',
      `${folder}: ${moduleOf(table)} is the head as well (tie_word_embeddings), and what is here for one is not there for the ` +
        'other: it must have been trained with ensure_weight_tying',
    );
  const [own, head] = [adapters.get(table), adapters.get(HEAD)];
  if ((own === undefined) !== (head === undefined) || (own && head && !(await sameAdapter(own, head)))) throw refuse();
  adapters.delete(HEAD);
  const [values, ofHead] = [whole.get(table), whole.get(HEAD)];
  if ((values || ofHead) && !own && !(values && ofHead && (await sameValues(values, ofHead)))) throw refuse();
  whole.delete(HEAD);
}

/** peft has an adapter, or a copy, for each layer that shares a module; one weight can have one: the same in all of them. */
async function oneForAll<T>(
  folder: string,
  found: Map<string, T>,
  shared: Graph['shared'],
  same: (one: T, other: T) => Promise<boolean>,
): Promise<void> {
  for (const [name, others] of shared) {
    const names = [name, ...others];
    const [first, ...rest] = names.map((n) => found.get(n));
    if (!first && rest.every((a) => !a)) continue;
    const refuse = (what: string) =>
      new StatespaceError(
        'ERR_CHECKPOINT',
        `${folder}: ${moduleOf(name)} is shared by ${names.length} layers, whose adapters must be the same: ${what}`,
      );
    const missing = names.find((n) => !found.has(n));
    if (missing !== undefined) throw refuse(`there is none for ${moduleOf(missing)}`);
    for (const [i, other] of rest.entries()) {
      if (!(await same(first!, other!))) throw refuse(`that of ${moduleOf(names[i + 1]!)} is another`);
      found.delete(names[i + 1]!);
    }
  }
}

async function sameAdapter(one: Adapter, other: Adapter): Promise<boolean> {
  if (one.scale !== other.scale || !one.a || !one.b || !other.a || !other.b) return false;
  return (await sameValues(one.a, other.a)) && sameValues(one.b, other.b);
}

async function sameValues(x: StoredTensor, y: StoredTensor): Promise<boolean> {
  if (x.shape.join() !== y.shape.join()) return false;
  const [p, q] = await Promise.all([readTensorF32(x), readTensorF32(y)]);
  return p.every((v, i) => v === q[i]);
}

/** A (rank, in) and B (out, rank) of a tensor (out, in). ERR_CHECKPOINT for others. @public */
export function checkedHalves(
  name: string,
  shape: readonly number[],
  { file, a, b }: Adapter,
): { a: StoredTensor; b: StoredTensor } {
  const [out, columns] = shape;
  const rank = a?.shape[0] ?? 0;
  if (!a || !b || shape.length !== 2 || a.shape.join() !== `${rank},${columns}` || b.shape.join() !== `${out},${rank}`)
    throw new StatespaceError(
      'ERR_CHECKPOINT',
      `${file}: ${name} (${shape.join(', ')}): expected A (rank, ${columns}) and B (${out}, rank), received ${show(a?.shape)} and ${show(b?.shape)}`,
    );
  return { a, b };
}

/** values (out, in) + Σ scale · B·A, of a tensor of the checkpoint. @public */
export async function merged(
  name: string,
  values: Float32Array,
  shape: readonly number[],
  adapters: readonly Adapter[],
): Promise<Float32Array> {
  let sum = values;
  const [out, columns] = shape as [number, number];
  for (const adapter of adapters) {
    const { a, b } = checkedHalves(name, shape, adapter);
    const rank = a.shape[0]!;
    const across = await turned(await readTensorF32(a), rank, columns, adapter.scale);
    const up = await readTensorF32(b);
    const { y } = await compute(
      'linear',
      {
        x: { data: up, shape: [out, rank] },
        weight: { data: across, shape: [columns, rank] },
        residual: { data: sum, shape },
      },
      {},
      { y: shape },
    );
    sum = y!;
  }
  return sum;
}

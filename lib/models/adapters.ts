// Low-rank adapters in peft's format, read, and merged into the tensors that they add to.
import { join } from 'node:path';
import { parseConfig } from '../checkpoint/config.js';
import { asCheckpointError, readText } from '../checkpoint/files.js';
import { readTensorF32, type StoredTensor } from '../checkpoint/open.js';
import { readSafetensors } from '../checkpoint/safetensors.js';
import { StatespaceError, show } from '../errors.js';
import { compute } from '../graph/compute.js';
import type { Graph } from '../graph/graph.js';

/** @public */
export interface Adapter {
  file: string;
  scale: number;
  a?: StoredTensor;
  b?: StoredTensor;
}

/** By the name of the tensor of the checkpoint. */
export type Adapters = ReadonlyMap<string, readonly Adapter[]>;

const MAX_CONFIG = 1 << 20;

/**
 * Reads what peft saved in these folders. ERR_CHECKPOINT for anything but plain LoRA, modules that `known` has not, and
 * modules that layers share (`shared`) where not all of these have the same adapter. @public
 */
export async function readAdapters(
  folders: readonly string[],
  known: ReadonlySet<string>,
  shared: Graph['shared'],
): Promise<Adapters> {
  const all = new Map<string, Adapter[]>();
  for (const folder of folders)
    for (const [name, adapter] of await oneForAll(folder, await readAdapter(folder), shared)) {
      if (!known.has(name)) throw new StatespaceError('ERR_CHECKPOINT', `${folder}: the model has no tensor ${name}`);
      all.set(name, [...(all.get(name) ?? []), adapter]);
    }
  return all;
}

async function readAdapter(folder: string): Promise<Map<string, Adapter>> {
  const file = join(folder, 'adapter_config.json');
  const config = parseConfig(
    await readText(file, MAX_CONFIG).catch((e) => Promise.reject(asCheckpointError(file, e))),
    file,
  );
  const refuse = (what: string) => new StatespaceError('ERR_CHECKPOINT', `${file}: ${what}`);
  if (config.peft_type !== 'LORA') throw refuse(`peft_type: expected LORA, received ${show(config.peft_type)}`);
  for (const key of ['use_dora', 'fan_in_fan_out', 'modules_to_save', 'rank_pattern', 'alpha_pattern', 'lora_bias'])
    if (isSet(config[key])) throw refuse(`${key}: is not supported`);
  if (config.bias !== undefined && config.bias !== 'none')
    throw refuse(`bias: expected none, received ${show(config.bias)}`);
  const { r: rank, lora_alpha: alpha } = config;
  if (typeof rank !== 'number' || typeof alpha !== 'number' || rank < 1)
    throw refuse(`expected r and lora_alpha, received ${show(rank)} and ${show(alpha)}`);
  const scale = config.use_rslora === true ? alpha / Math.sqrt(rank) : alpha / rank;
  const found = new Map<string, Adapter>();
  for (const t of await readSafetensors(join(folder, 'adapter_model.safetensors'))) {
    const match = /^base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight$/.exec(t.name);
    if (!match) throw refuse(`tensor ${t.name}: expected base_model.model.MODULE.lora_A.weight or lora_B`);
    const name = `${match[1]}.weight`;
    const adapter = found.get(name) ?? { file, scale };
    adapter[match[2] === 'A' ? 'a' : 'b'] = t;
    found.set(name, adapter);
  }
  return found;
}

/** peft has an adapter for each layer that shares a module; one weight can have one: the same in all of them. */
async function oneForAll(
  folder: string,
  found: Map<string, Adapter>,
  shared: Graph['shared'],
): Promise<Map<string, Adapter>> {
  for (const [name, others] of shared) {
    const names = [name, ...others];
    const [first, ...rest] = names.map((n) => found.get(n));
    if (!first && rest.every((a) => !a)) continue;
    const module = name.replace(/\.weight$/, '');
    const refuse = (what: string) =>
      new StatespaceError(
        'ERR_CHECKPOINT',
        `${folder}: ${module} is shared by ${names.length} layers, whose adapters must be the same: ${what}`,
      );
    const missing = names.find((n) => !found.has(n));
    if (missing !== undefined) throw refuse(`there is none for ${missing.replace(/\.weight$/, '')}`);
    for (const [i, other] of rest.entries()) {
      if (!(await sameAdapter(first!, other!)))
        throw refuse(`that of ${names[i + 1]!.replace(/\.weight$/, '')} is another`);
      found.delete(names[i + 1]!);
    }
  }
  return found;
}

async function sameAdapter(one: Adapter, other: Adapter): Promise<boolean> {
  for (const half of ['a', 'b'] as const) {
    const [x, y] = [one[half], other[half]];
    if (!x || !y || x.shape.join() !== y.shape.join()) return false;
    const [p, q] = await Promise.all([readTensorF32(x), readTensorF32(y)]);
    if (p.some((v, i) => v !== q[i])) return false;
  }
  return true;
}

const isSet = (v: unknown): boolean =>
  v !== undefined && v !== null && v !== false && !(typeof v === 'object' && Object.keys(v).length === 0);

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
    const { scale } = adapter;
    const rank = a.shape[0]!;
    const down = await readTensorF32(a);
    const across = new Float32Array(down.length); // (in, rank)
    for (let r = 0; r < rank; r++) for (let i = 0; i < columns; i++) across[i * rank + r] = down[r * columns + i]!;
    const up = (await readTensorF32(b)).map((v) => v * scale);
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

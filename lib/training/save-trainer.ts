// A trainer as a folder; resume-trainer.ts reads it.
import { join, relative, resolve } from 'node:path';
import { placeOf, replaceFolder } from '../atomic-folder.js';
import { turned } from '../checkpoint/pieces.js';
import { type Outgoing, writeSafetensors } from '../checkpoint/write-safetensors.js';
import { lazyFiles } from '../lazy.js';
import type { Model } from '../models/model.js';
import { HEAD, moduleOf } from '../models/peft-names.js';
import type { TrainerValues } from '../native.js';
import { Tensor } from '../tensor.js';
import { configJson } from './config-json.js';
import { joinedAdapters, joinHalves } from './expert-adapters.js';
import { isCalled, loraName, type Trained, type TrainedNetwork } from './network.js';
import type { ReadOptions, TrainerOptions } from './options.js';
import { MARKS, savedName, writeModel } from './save.js';

/** Of trainer.json. */
export const VERSION = 1;

/** trainer.json. */
export interface Saved {
  version: number;
  step: number;
  options: TrainerOptions;
  notes: Record<string, unknown>;
  /** Of adapters: the folder of the model that they belong to; OWN_BASE: it lies in the trainer's. */
  base?: string;
  /** That the model was loaded with. */
  contextLength?: number | undefined;
}

export const OWN_BASE = 'base';

/** What is saved of a trainer. */
interface SavedTrainer {
  readonly model: Model;
  readonly options: ReadOptions;
  readonly steps: number;
  readonly notes: Record<string, unknown>;
  /** Of adapters: the folder whose tensors they add to, if one has them as the trainer does. */
  readonly base: string | undefined;
  readonly trained: TrainedNetwork;
  /** Values, or the optimizer's means and squares, of those parameters that are wanted. */
  read(which: TrainerValues['which'], wanted: (p: Trained) => boolean): Promise<Map<string, Tensor>>;
}

const outgoing = (values: ReadonlyMap<string, Tensor>): Outgoing[] =>
  [...values].map(([name, t]) => ({ name, dtype: 'f32', shape: t.shape, values: async () => t }));

const prefixed = (prefix: string, values: ReadonlyMap<string, Tensor>, called: (name: string) => string) =>
  new Map([...values].map(([name, t]) => [`${prefix}.${called(name)}`, t]));

/** What peft calls what belongs to a tensor of another name. */
const asPeft = (called: (name: string) => string) => (name: string) =>
  name.replace(/^base_model\.model\.(.*)$/, (_, inner: string) => `base_model.model.${called(inner)}`);

/** From within the trainer's exclusive(). */
export async function saveTrainer(trainer: SavedTrainer, folder: string): Promise<void> {
  const { model, options } = trainer;
  await replaceFolder(folder, MARKS, async (to) => {
    const values = await trainer.read('value', (p) => !p.base);
    const write = (path: string) => writeModel(model, path, 'f32', async (name) => values.get(name)!);
    const place = await placeOf(folder);
    const known = trainer.base && (await placeOf(trainer.base));
    const base = known && relative(place, known).startsWith('..') ? known : OWN_BASE; // what lies in the folder is replaced with it
    const called = !options.lora || base === OWN_BASE ? savedName(model) : (name: string) => name;
    if (!options.lora) await write(to);
    else {
      if (base === OWN_BASE) {
        await lazyFiles().mkdir(join(to, base));
        await write(join(to, base));
      }
      await writeAdapters(trainer, to, resolve(place, base), called);
    }
    const inFile = options.lora ? asPeft(called) : called;
    const state = new Map([
      ...prefixed('mean', await trainer.read('mean', (p) => p.trained), inFile),
      ...prefixed('square', await trainer.read('square', (p) => p.trained), inFile),
    ]);
    await writeSafetensors(join(to, 'optimizer.safetensors'), outgoing(state));
    const saved: Saved = {
      version: VERSION,
      step: trainer.steps,
      options,
      notes: trainer.notes,
      contextLength: model.blueprint.resolved.contextLength,
      ...(options.lora && { base }),
    };
    await lazyFiles().writeFile(join(to, 'trainer.json'), `${JSON.stringify(saved, null, 2)}\n`, { flush: true });
  });
}

/** peft's format. */
async function writeAdapters(
  trainer: SavedTrainer,
  to: string,
  base: string,
  called: (name: string) => string,
): Promise<void> {
  const { rank, alpha } = trainer.options.lora!;
  const values = await trainer.read('value', (p) => p.base !== undefined);
  const { parameters, shared, tied, targetNames } = trainer.trained;
  const joined = joinedAdapters(trainer.model.modelType, parameters);
  const apart = new Set(joined.flatMap(({ matrices }) => matrices.flatMap((m) => m.adapters.flatMap(basesOf))));
  const targets = new Set(targetNames.filter((target) => parameters.some((p) => isTarget(p, target, apart))));
  // peft has an adapter for each layer that shares a module, and for a head that is the table of embeddings: here the same one.
  for (const { name, base, half, table } of parameters) {
    for (const other of (base && shared.get(base)) || []) {
      values.set(loraName(other, half!, table), values.get(name)!);
      if (!targetNames.some((target) => isCalled(other, target))) targets.add(moduleOf(other));
    }
    if (!base || !tied.includes(base)) continue;
    const { data, shape } = values.get(name)!;
    const [rows, columns] = shape as [number, number];
    targets.add(moduleOf(HEAD)); // by this name peft knows that they are tied
    values.set(loraName(HEAD, half!), new Tensor(await turned(data as Float32Array, rows, columns), [columns, rows]));
  }
  for (const adapters of joined) {
    for (const [name, tensor] of await joinHalves(adapters, values)) values.set(name, tensor);
    for (const { adapters: own } of adapters.matrices)
      for (const halves of own) for (const { name } of Object.values(halves ?? {})) values.delete(name);
  }
  const ranks = (by: number) =>
    Object.fromEntries(joined.filter((j) => j.ranks !== rank).map((j) => [called(j.parameter), (by * j.ranks) / rank]));
  const config = {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    target_modules: [...targets].map(called),
    ...(joined.length > 0 && {
      target_parameters: joined.map(({ parameter }) => called(parameter)),
      rank_pattern: ranks(rank),
      alpha_pattern: ranks(alpha),
    }),
    ensure_weight_tying: parameters.some((p) => p.base && tied.includes(p.base)),
  };
  await lazyFiles().writeFile(join(to, 'adapter_config.json'), configJson(config), { flush: true });
  const inFile = new Map([...values].map(([name, t]) => [asPeft(called)(name), t]));
  await writeSafetensors(join(to, 'adapter_model.safetensors'), outgoing(inFile));
}

const basesOf = (halves: { A: Trained } | undefined): string[] => (halves ? [halves.A.base!] : []);

/** Whether peft finds the module of this adapter by a target: those that are `apart` it finds by their parameter. */
const isTarget = ({ base }: Trained, target: string, apart: ReadonlySet<string>): boolean =>
  base !== undefined && !apart.has(base) && isCalled(base, target);

// A trainer out of the folder that save-trainer.ts wrote.
import { join, resolve } from 'node:path';
import { recoverFolder } from '../atomic-folder.js';
import { readTensorF32, type StoredTensor } from '../checkpoint/open.js';
import { turned } from '../checkpoint/pieces.js';
import { readSafetensors } from '../checkpoint/safetensors.js';
import { StatespaceError } from '../errors.js';
import { lazyFiles } from '../lazy.js';
import { loadModel } from '../models/load.js';
import { checkPath } from '../options.js';
import { joinedAdapters, partHalves } from './expert-adapters.js';
import { trainedNetwork } from './network.js';
import { readOptions, type TrainerOptions } from './options.js';
import { OWN_BASE, type Saved, VERSION } from './save-trainer.js';
import { type Trainer, TrainerState } from './trainer.js';

/** See lib/training/index.ts. @public */
export async function resumeTrainer(folder: string, options: TrainerOptions = {}): Promise<Trainer> {
  checkPath('resumeTrainer: folder', folder);
  await recoverFolder(folder);
  const saved = await readState(folder);
  const read = readOptions('resumeTrainer', { ...saved.options, ...options });
  if (JSON.stringify(read.lora) !== JSON.stringify(saved.options.lora))
    throw new StatespaceError('ERR_ARGUMENT', 'resumeTrainer: lora: adapters stay as they were saved');
  const path = saved.base === undefined ? folder : resolve(folder, saved.base);
  const model = await loadModel(path, { exact: true, contextLength: saved.contextLength });
  try {
    const [tensors, state] = await Promise.all([
      read.lora ? readSafetensors(join(folder, 'adapter_model.safetensors')) : [],
      readSafetensors(join(folder, 'optimizer.safetensors')),
    ]);
    const trainer = new TrainerState(model, read, trainedNetwork(model, read), async (t) => {
      await t.write('value', await valuesOf(t, folder, tensors, ''));
      await t.write('mean', await valuesOf(t, folder, state, 'mean.'));
      await t.write('square', await valuesOf(t, folder, state, 'square.'));
      t.steps = saved.step;
      if (saved.base === OWN_BASE) t.base = undefined;
    });
    await trainer.exclusive(async () => {});
    Object.assign(trainer.notes, saved.notes);
    return trainer;
  } catch (error) {
    await model.dispose();
    throw error;
  }
}

async function valuesOf(
  trainer: TrainerState,
  folder: string,
  stored: readonly StoredTensor[],
  prefix: string,
): Promise<Map<string, Float32Array>> {
  const byName = new Map(stored.map((t) => [t.name, t]));
  const values = new Map<string, Float32Array>();
  if (stored.length === 0) return values;
  if (prefix === '')
    for (const joined of joinedAdapters(trainer.model.modelType, trainer.trained.parameters))
      for (const [name, own] of (await partHalves(joined, byName)) ?? []) values.set(name, own);
  for (const { name, shape: own, table } of trainer.trained.parameters.filter((p) => p.trained)) {
    if (values.has(name)) continue;
    const t = byName.get(prefix + name);
    const shape = table ? own.toReversed() : own;
    if (t?.shape.join() !== shape.join())
      throw new StatespaceError(
        'ERR_CHECKPOINT',
        `${folder}: ${prefix}${name}: expected shape (${shape.join(', ')}), ${t ? `received (${t.shape.join(', ')})` : 'it is missing'}`,
      );
    const read = await readTensorF32(t);
    values.set(name, table ? await turned(read, shape[0]!, shape[1]!) : read);
  }
  return values;
}

/** What trainer.save() wrote beside the weights. */
export async function readState(folder: string): Promise<Saved> {
  const path = join(folder, 'trainer.json');
  const text = await lazyFiles()
    .readFile(path, 'utf8')
    .catch((error: Error) => {
      throw new StatespaceError('ERR_CHECKPOINT', `${path}: no trainer was saved here: ${error.message}`);
    });
  const saved = asObject(readJson(text));
  const sound =
    saved?.version === VERSION &&
    Number.isSafeInteger(saved.step) &&
    saved.step >= 0 &&
    asObject(saved.options) &&
    asObject(saved.notes) &&
    (saved.base === undefined || typeof saved.base === 'string') &&
    (saved.contextLength === undefined || (Number.isSafeInteger(saved.contextLength) && saved.contextLength > 0));
  if (!sound) throw new StatespaceError('ERR_CHECKPOINT', `${path}: of another version, or damaged`);
  return saved;
}

const asObject = (value: unknown): Saved | undefined =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Saved) : undefined;

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

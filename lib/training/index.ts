/** What trains and saves models, loaded at its first use: who only runs one does not wait for it. */
import type { Model } from '../models/model.js';
import type { TrainerOptions } from './options.js';
import type { Trainer } from './trainer.js';

const lazyTrainer = (): typeof import('./trainer.js') => require('./trainer.js');
const lazyResume = (): typeof import('./resume-trainer.js') => require('./resume-trainer.js');
const lazySave = (): typeof import('./save.js') => require('./save.js');

/**
 * Trains a model of tokens by the cross-entropy of its next ones: AdamW on parameters held in f32 (the model's own are read
 * once, it stays as it is), off the event loop, on the CPU. The same batches give the same bits. docs/training.md shows it.
 *
 * @throws StatespaceError ERR_ARGUMENT for wrong options, ERR_UNSUPPORTED_MODEL for a model with an op that has no gradient.
 */
export function createTrainer(model: Model, options: TrainerOptions = {}): Trainer {
  return lazyTrainer().createTrainer(model, options);
}

/**
 * A trainer as Trainer.save() left it: parameters, AdamW's means and the number of steps to the bit. `options` replace those
 * that were saved, but for `lora`. Its `model` is a new one, the caller's to dispose of.
 *
 * @throws StatespaceError ERR_CHECKPOINT for a folder that no trainer saved, or that was damaged.
 */
export async function resumeTrainer(folder: string, options: TrainerOptions = {}): Promise<Trainer> {
  return lazyResume().resumeTrainer(folder, options);
}

/**
 * Writes a model as a folder in Hugging Face's layout, which transformers and loadModel() read: config.json,
 * model.safetensors in the type that the matrices are held in (quantised ones as f32), the tokenizer's files of the folder that
 * the model came from. A folder of a model that is there is replaced as a whole, or stays as it is.
 *
 * @throws StatespaceError ERR_ARGUMENT for a folder of other files, ERR_DISPOSED.
 */
export async function saveModel(model: Model, folder: string, options?: Readonly<Record<never, never>>): Promise<void> {
  return lazySave().saveModel(model, folder, options);
}

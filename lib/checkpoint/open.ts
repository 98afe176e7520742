// A model folder: its config and where its tensors lie. No tensor data is read.

import { join, resolve } from 'node:path';
import { mismatch, show } from '../errors.js';
import { lazyFiles } from '../lazy.js';
import { readConfig } from './config.js';
import { asCheckpointError, fileExists } from './files.js';
import { inferRwkvConfig } from './infer-rwkv.js';
import { readPytorch } from './pickle.js';
import { readSafetensors } from './safetensors.js';
import { readSharded } from './sharded.js';
import { checkpointError, type StoredTensor } from './stored.js';

export { readTensorF32 } from './read.js';
export type { StoredDType, StoredTensor } from './stored.js';

export interface Checkpoint {
  /** Absolute path. */
  folder: string;
  /** Of config.json, or inferred for an official RWKV file; missing where there is neither. */
  config?: Record<string, unknown>;
  generationConfig?: Record<string, unknown>;
  tensors: Map<string, StoredTensor>;
  /** Of all tensors, each counted as often as it is named. */
  totalBytes: number;
}

export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  if (typeof folder !== 'string' || folder === '') {
    throw mismatch('ERR_ARGUMENT', 'loadModel: folder', 'the path of a model folder', show(folder));
  }
  const root = resolve(folder);
  const tensors = new Map((await readTensors(root)).map((tensor) => [tensor.name, tensor]));
  const checkpoint: Checkpoint = { folder: root, tensors, totalBytes: 0 };
  for (const { byteLength } of tensors.values()) checkpoint.totalBytes += byteLength;
  const config = (await readOptionalConfig(root, 'config.json')) ?? inferRwkvConfig(tensors);
  if (config) checkpoint.config = config;
  const generationConfig = await readOptionalConfig(root, 'generation_config.json');
  if (generationConfig) checkpoint.generationConfig = generationConfig;
  return checkpoint;
}

/** From the first of the files that a model may be kept in; the others are copies of the same. */
async function readTensors(root: string): Promise<StoredTensor[]> {
  const files = await list(root);
  const has = (name: string) => files.includes(name);
  if (has('model.safetensors')) return readSafetensors(join(root, 'model.safetensors'));
  if (has('model.safetensors.index.json')) return readSharded(root, 'model.safetensors.index.json', readSafetensors);
  if (has('pytorch_model.bin')) return readPytorch(join(root, 'pytorch_model.bin'));
  if (has('pytorch_model.bin.index.json')) return readSharded(root, 'pytorch_model.bin.index.json', readPytorch);
  const pth = files.filter((name) => name.endsWith('.pth'));
  if (pth.length === 1) return readPytorch(join(root, pth[0]!));
  throw checkpointError(
    root,
    `expected model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json or one .pth file, received ${
      pth.length > 1 ? `${pth.length} .pth files: ${show(pth)}` : 'none of them'
    }`,
  );
}

async function list(root: string): Promise<string[]> {
  try {
    return await lazyFiles().readdir(root);
  } catch (error) {
    throw asCheckpointError(root, error);
  }
}

async function readOptionalConfig(root: string, name: string): Promise<Record<string, unknown> | undefined> {
  const file = join(root, name);
  return (await fileExists(file)) ? readConfig(file) : undefined;
}

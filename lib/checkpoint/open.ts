// A model folder or a GGUF file: its config and where its tensors lie. No tensor data is read.

import { join, resolve } from 'node:path';
import { mismatch, show } from '../errors.js';
import { lazyFiles } from '../lazy.js';
import { Turns } from '../turns.js';
import { readConfig } from './config.js';
import { asCheckpointError, fileExists } from './files.js';
import type { Origin } from './gguf/open.js';
import type { Metadata } from './gguf/values.js';
import { inferRwkvConfig } from './infer-rwkv.js';
import { readPytorch } from './pickle.js';
import { readSafetensors } from './safetensors.js';
import { readSharded } from './sharded.js';
import { type Stamps, stampWeights } from './stamps.js';
import { checkpointError, type StoredTensor } from './stored.js';

export { readTensorF32 } from './read.js';
export { leavesOf, type StoredDType, type StoredTensor } from './stored.js';

const CONFIG = 'config.json';

export interface Checkpoint {
  /** Absolute path of the folder, or of the GGUF file. */
  folder: string;
  /** Of config.json, or inferred for an official RWKV file; missing where there is neither. */
  config?: Record<string, unknown>;
  /** Where its config stands, or would. */
  configFile: string;
  generationConfig?: Record<string, unknown>;
  tensors: Map<string, StoredTensor>;
  /** Of all tensors, each counted as often as it is named. */
  totalBytes: number;
  /** Of the files of weights, before any was read. */
  stamps: Stamps;
  /** Of a GGUF file, which holds a tokenizer as well. */
  metadata?: Metadata;
  /** Of a GGUF file: its tensors by their names there, and the names here of what each holds. */
  origins?: ReadonlyMap<string, Origin>;
}

const lazyGguf = (): typeof import('./gguf/open.js') => require('./gguf/open.js');

/** signal: ends long headers, indexes and pickles early; what is thrown then is an ERR_CHECKPOINT or its reason. */
export async function openCheckpoint(path: string, signal?: AbortSignal): Promise<Checkpoint> {
  if (typeof path !== 'string' || path === '') {
    throw mismatch('ERR_ARGUMENT', 'loadModel: path', 'the path of a model folder or of a .gguf file', show(path));
  }
  const root = resolve(path);
  const gguf = await findGguf(root);
  const stamps = await stampWeights(gguf ?? root);
  if (gguf !== undefined) {
    const opened = await lazyGguf().openGguf(gguf, signal);
    let totalBytes = 0;
    for (const { byteLength } of opened.tensors.values()) totalBytes += byteLength;
    return { folder: gguf, configFile: gguf, ...opened, totalBytes, stamps };
  }
  const tensors = new Map<string, StoredTensor>();
  const checkpoint: Checkpoint = { folder: root, configFile: join(root, CONFIG), tensors, totalBytes: 0, stamps };
  const turns = new Turns(signal);
  for (const tensor of await withoutPrefixes(await readTensors(root, path, signal), turns)) {
    tensors.set(tensor.name, tensor);
    checkpoint.totalBytes += tensor.byteLength;
    const pause = turns.due();
    if (pause) await pause;
  }
  const config = (await readOptionalConfig(root, CONFIG)) ?? inferRwkvConfig(tensors);
  if (config) checkpoint.config = config;
  const generationConfig = await readOptionalConfig(root, 'generation_config.json');
  if (generationConfig) checkpoint.generationConfig = generationConfig;
  return checkpoint;
}

/** What DataParallel and weight averaging put before every name. */
const MODULE = 'module.';
/** What torch.compile, FSDP and checkpointing put before the names of whatever they wrap, at any depth. */
const WRAPPED = /(?<=^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\./g;
/** A counter of averaged weights, which lies beside what it wraps. */
const AVERAGED = 'n_averaged';

/** Names without what wraps them, where no two become one. */
async function withoutPrefixes(tensors: StoredTensor[], turns: Turns): Promise<StoredTensor[]> {
  const names = new Set<string>();
  const bare: StoredTensor[] = [];
  for (const tensor of tensors) {
    const name = tensor.name.replaceAll(WRAPPED, '');
    names.add(name);
    bare.push({ ...tensor, name });
    const pause = turns.due();
    if (pause) await pause;
  }
  if (names.size < bare.length) return tensors;
  const kept = bare.filter(({ name }) => name !== AVERAGED);
  if (kept.length === 0 || !kept.every(({ name }) => name.startsWith(MODULE))) return bare;
  return withoutPrefixes(
    kept.map((t) => ({ ...t, name: t.name.slice(MODULE.length) })),
    turns,
  );
}

/** The GGUF file that is meant: the path itself, or the only model of a folder, split or whole. */
async function findGguf(root: string): Promise<string | undefined> {
  if (/\.gguf$/i.test(root) && !(await isFolder(root))) return root;
  if (!(await isFolder(root))) return undefined;
  const files = await list(root);
  if (files.some((name) => /\.(safetensors|bin|pth|index\.json)$/.test(name))) return undefined;
  const firsts = files.filter((name) => /\.gguf$/i.test(name) && !/-(?!00001)\d{5}-of-\d{5}\.gguf$/i.test(name));
  if (firsts.length > 1)
    throw checkpointError(root, `holds ${firsts.length} GGUF models: ${show(firsts)}; give the path of one of them`);
  return firsts.length === 1 ? join(root, firsts[0]!) : undefined;
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await lazyFiles().stat(path)).isDirectory();
  } catch {
    return false; // what reads it will say why
  }
}

/** From the first of the files that a model may be kept in; the others are copies of the same. */
async function readTensors(root: string, given: string, signal?: AbortSignal): Promise<StoredTensor[]> {
  const files = await list(root).catch((error) => {
    throw asCheckpointError(root, notFolder(given, error) ?? error);
  });
  const has = (name: string) => files.includes(name);
  if (has('model.safetensors')) return readSafetensors(join(root, 'model.safetensors'), signal);
  if (has('model.safetensors.index.json'))
    return readSharded(root, 'model.safetensors.index.json', readSafetensors, signal);
  if (has('pytorch_model.bin')) return readPytorch(join(root, 'pytorch_model.bin'), signal);
  if (has('pytorch_model.bin.index.json'))
    return readSharded(root, 'pytorch_model.bin.index.json', readPytorch, signal);
  if (has('adapter_config.json'))
    throw checkpointError(
      root,
      'holds an adapter and no model: load the model that it is for, with it among `adapters`',
    );
  const pth = files.filter((name) => name.endsWith('.pth'));
  if (pth.length === 1) return readPytorch(join(root, pth[0]!), signal);
  throw checkpointError(
    root,
    `expected model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json or one .gguf or one .pth file, received ${
      pth.length > 1 ? `${pth.length} .pth files: ${show(pth)}` : 'none of them'
    }`,
  );
}

/** What is no folder, in words; undefined where the file system says it all. */
function notFolder(given: string, { cause }: Error): Error | undefined {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ENOTDIR') return new Error('is a file: give the folder that it lies in, with config.json', { cause });
  if (code !== 'ENOENT' || !/^(?!\.\.?\/)[\w.-]+\/[\w.-]+$/.test(given)) return undefined;
  return new Error(`there is no such folder; the repository of that name on the hub is ${show(`hf:${given}`)}`, {
    cause,
  });
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

import { join } from 'node:path';
import { replaceFolder } from '../atomic-folder.js';
import { type Outgoing, writeSafetensors } from '../checkpoint/write-safetensors.js';
import { StatespaceError, show } from '../errors.js';
import { lazyFiles } from '../lazy.js';
import { Model } from '../models/model.js';
import { textConfig } from '../models/registry.js';
import { textName } from '../models/wrapped.js';
import { checkNone, checkPath } from '../options.js';
import type { Tensor } from '../tensor.js';
import { configJson } from './config-json.js';

const lazyGgufFiles = (): typeof import('../checkpoint/gguf/saved/files.js') =>
  require('../checkpoint/gguf/saved/files.js');

/** What belongs to a tokenizer or to generation in a folder of Hugging Face's layout. */
const COMPANIONS =
  /^(tokenizer.*\.(json|model)|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|spiece\.model|rwkv_vocab.*|chat_template\.(json|jinja)|additional_chat_templates|generation_config\.json)$/;

/** Files that say that a folder was saved, and may be replaced. */
export const MARKS = ['config.json', 'adapter_config.json', 'trainer.json'];

const FLOAT_NAMES = { f32: 'float32', f16: 'float16', bf16: 'bfloat16' } as const;

/**
 * The config that a model is saved with, in transformers' words. Of a multimodal one that of its text, which is all that the
 * model has; rotations that GGUF has as a divisor of each frequency become factors, the same for short texts and long ones.
 * @public
 */
export function savedConfig(given: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const config = { ...textConfig(given) };
  const ropes = config.rope_parameters;
  if (typeof ropes !== 'object' || ropes === null) return config;
  const trained = config.max_position_embeddings;
  const ofKinds = Object.entries(ropes).map(([kind, rope]) => [kind, asFactors(rope, trained)]);
  return { ...config, rope_parameters: asFactors(Object.fromEntries(ofKinds), trained) };
}

/** What a tensor is called beside that config: of a multimodal checkpoint, by its place in the text. @public */
export const savedName = (model: Model): ((name: string) => string) =>
  model.blueprint.resolved.wrapped ? textName : (name) => name;

/** Rotations of all layers, or of a kind of them; any other value as it is. */
function asFactors(rope: unknown, original_max_position_embeddings: unknown): unknown {
  if (typeof rope !== 'object' || rope === null || Array.isArray(rope)) return rope;
  const { rope_type, divisors, ...others } = rope as Record<string, unknown>;
  if (rope_type !== 'divisors') return rope;
  const same = { rope_type: 'longrope', short_factor: divisors, long_factor: divisors, factor: 1, attention_factor: 1 };
  return { ...others, ...same, original_max_position_embeddings };
}

/** Copies the files of the model's tokenizer into a folder, from where it was loaded. */
async function copyCompanions(from: string | undefined, to: string): Promise<void> {
  if (!from) return;
  const { cp, readdir } = lazyFiles();
  for (const name of await readdir(from).catch(() => []))
    if (COMPANIONS.test(name)) await cp(join(from, name), join(to, name), { recursive: true });
}

/** What a GGUF file says of its tokenizer, as such files; what cannot be read any more is said, and the model is saved. */
async function writeGgufText(file: string | undefined, to: string): Promise<void> {
  if (file === undefined) return;
  try {
    await lazyGgufFiles().writeTokenizerFiles(file, to);
  } catch (error) {
    if (!(error instanceof StatespaceError)) throw error;
    process.emitWarning(`save: the tokenizer is left out: ${error.message}`, { code: 'STATESPACE_TOKENIZER' });
  }
}

/** Writes config, weights and the tokenizer's files; `values` gives each tensor. */
export async function writeModel(
  model: Model,
  folder: string,
  type: 'held' | 'f32',
  values: (name: string) => Promise<Tensor>,
): Promise<void> {
  const called = savedName(model);
  const tensors = [...model.parameterList.values()].map(({ name: own, shape, words, uses }): Outgoing => {
    const name = called(own);
    if (words) return { name, dtype: 'i64', shape: shape.slice(0, -1), values: () => values(own) };
    const held = uses[0]!.weight.dtype;
    const dtype = type === 'held' && (held === 'f16' || held === 'bf16') ? held : 'f32';
    return { name, dtype, shape, values: () => values(own) };
  });
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  const held = model.heldType;
  const saved = type === 'held' && (held === 'f16' || held === 'bf16') ? held : 'f32';
  const { torch_dtype: _, quantization_config: __, ...config } = savedConfig(model.config);
  const text = configJson({ ...config, dtype: FLOAT_NAMES[saved] });
  await lazyFiles().writeFile(join(folder, 'config.json'), text, { flush: true });
  await copyCompanions(model.companions, folder);
  await writeGgufText(model.companions === undefined ? model.tokenizerIn : undefined, folder);
}

/** @public */
export function checkMerged(op: string, model: Model): void {
  if (model.blueprint.adapted)
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `${op}: the model's adapters stand beside it; load it with mergeAdapters: true`,
    );
}

/** See lib/training/index.ts. @public */
export async function saveModel(model: Model, folder: string, options?: Readonly<Record<never, never>>): Promise<void> {
  checkNone('saveModel', options);
  if (!(model instanceof Model))
    throw new StatespaceError('ERR_ARGUMENT', `saveModel: expected a model, received ${show(model)}`);
  checkMerged('saveModel', model);
  checkPath('saveModel: folder', folder);
  await replaceFolder(folder, MARKS, (to) => writeModel(model, to, 'held', (name) => model.getParameter(name)));
}

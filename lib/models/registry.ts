import { withFloats } from '../checkpoint/config.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import { misspelt } from '../options.js';
import type { Unread } from './bind.js';
import { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';

const lazyFamilies = (): typeof import('./families.js') => require('./families.js');

// biome-ignore lint/suspicious/noExplicitAny: families differ in what their config becomes
const registered: ModelDefinition<any>[] = [];
// biome-ignore lint/suspicious/noExplicitAny: as above
const definitions = (): ModelDefinition<any>[] => [...lazyFamilies().families, ...registered];

/** The model_type values that loadModel and createModel know. */
export function supportedModels(): string[] {
  return definitions()
    .flatMap((d) => [...d.modelTypes, ...Object.keys(d.wrappers ?? {})])
    .sort();
}

/**
 * The definition of a family, by one of its model_type values: what a network of one's own builds its parts with.
 *
 * @throws StatespaceError ERR_UNSUPPORTED_MODEL for one that is not known.
 */
export function modelDefinition(modelType: string): ModelDefinition {
  const found = definitions().find((d) => d.modelTypes.includes(modelType));
  if (found) return found;
  throw new StatespaceError(
    'ERR_UNSUPPORTED_MODEL',
    `modelDefinition: ${show(modelType)} is not supported; supported: ${supportedModels().join(', ')}`,
  );
}

/**
 * Adds a family of one's own, for loadModel and createModel of this process. One that was added before under the same
 * model_type values is replaced: a module that is loaded again registers again.
 *
 * @throws StatespaceError ERR_ARGUMENT where a model_type is another family's.
 */
export function registerModel<C>(definition: ModelDefinition<C>): void {
  checkDefinition(definition);
  const same = registered.findIndex((d) => String(d.modelTypes) === String(definition.modelTypes));
  if (same >= 0) {
    registered[same] = definition;
    return;
  }
  for (const type of definition.modelTypes) {
    if (supportedModels().includes(type)) {
      throw new StatespaceError('ERR_ARGUMENT', `registerModel: model_type ${show(type)} is taken`);
    }
  }
  registered.push(definition);
}

const PARTS = ['modelTypes', 'wrappers', 'config', 'build', 'key', 'unread', 'vocabSize'];

function checkDefinition(definition: unknown): void {
  const { modelTypes, config, build } = (definition ?? {}) as Record<string, unknown>;
  const isList = Array.isArray(modelTypes) && modelTypes.length > 0 && modelTypes.every((t) => typeof t === 'string');
  if (!isList) throw mismatch('ERR_ARGUMENT', 'registerModel: modelTypes', 'a list of texts', show(modelTypes));
  for (const [name, part] of Object.entries({ config, build }))
    if (typeof part !== 'function') throw mismatch('ERR_ARGUMENT', `registerModel: ${name}`, 'a function', show(part));
  const { wrappers, key, unread, vocabSize } = definition as Record<string, unknown>;
  for (const [name, part] of Object.entries({ key, vocabSize }))
    if (part !== undefined && typeof part !== 'function')
      throw mismatch('ERR_ARGUMENT', `registerModel: ${name}`, 'a function', show(part));
  if (unread !== undefined && typeof unread !== 'function' && !Array.isArray(unread))
    throw mismatch('ERR_ARGUMENT', 'registerModel: unread', 'a list, or a function that gives one', show(unread));
  if (wrappers !== undefined && (typeof wrappers !== 'object' || wrappers === null))
    throw mismatch('ERR_ARGUMENT', 'registerModel: wrappers', 'an object of texts', show(wrappers));
  // A definition may hold parts of its own; one that is nearly another's name would be left out in silence.
  for (const name of Object.keys(definition as object)) {
    const meant = PARTS.includes(name) ? undefined : misspelt(name, PARTS);
    if (meant) throw mismatch('ERR_ARGUMENT', 'registerModel', `'${meant}'`, `'${name}'`);
  }
}

export interface ResolvedModel {
  modelType: string;
  /** Whether the config was the text part of a multimodal one. */
  wrapped: boolean;
  definition: ModelDefinition;
  config: unknown;
  /** What errors about the config begin with. */
  where: string;
  /** What LoadOptions said: the length that rotations are those of. */
  contextLength?: number | undefined;
}

/** Tensors of its checkpoints that the family leaves unread. */
export function unreadOf({ definition: { unread = [] }, config }: ResolvedModel): readonly Unread[] {
  return typeof unread === 'function' ? unread(config) : unread;
}

/** The family of a config, and the config as that family read it; file: that it was read from. */
export function resolveModel(
  given: Readonly<Record<string, unknown>>,
  options: { contextLength?: number | undefined } = {},
  file?: string,
): ResolvedModel {
  const where = file === undefined ? 'config' : `${file}: config`;
  if (typeof given !== 'object' || given === null)
    throw new StatespaceError('ERR_ARGUMENT', `${where}: expected an object, received ${show(given)}`);
  const raw = withFloats(given, where);
  const outer = modelTypeOf(raw, where);
  const text = textOf(raw, outer, where);
  const modelType = text ? String(text.model_type) : outer;
  const definition = definitions().find((d) => d.modelTypes.includes(modelType));
  if (!definition) {
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `${where}: model_type ${show(modelType)} is not supported; supported: ${supportedModels().join(', ')}`,
    );
  }
  const reader = new ConfigReader(text ?? raw, modelType, options.contextLength, where);
  const config = definition.config(reader);
  reader.done();
  return { modelType, wrapped: text !== undefined, definition, config, where, contextLength: options.contextLength };
}

/** The config of a multimodal one's text, by itself; any other as it is. */
export function textConfig(raw: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const text = typeof raw.model_type === 'string' ? textOf(raw, raw.model_type, 'config') : undefined;
  if (!text) return raw;
  const ends = ENDS.filter((key) => key in raw).map((key) => [key, raw[key]]);
  return { ...Object.fromEntries(ends), ...text };
}
const ENDS = ['bos_token_id', 'eos_token_id', 'pad_token_id'];

/** The text part of a multimodal config: its own keys, and the outer ones that speak of both. */
function textOf(
  raw: Readonly<Record<string, unknown>>,
  outer: string,
  where: string,
): Record<string, unknown> | undefined {
  const name = definitions()
    .map((d) => d.wrappers?.[outer])
    .find((inner) => inner !== undefined);
  if (name === undefined) return undefined;
  const text = raw.text_config;
  if (typeof text !== 'object' || text === null || Array.isArray(text))
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `${where} (${outer}): text_config: expected an object, received ${show(text)}`,
    );
  const tied = raw.tie_word_embeddings;
  return { ...text, ...(tied !== undefined && { tie_word_embeddings: tied }), model_type: name };
}

function modelTypeOf(raw: Readonly<Record<string, unknown>>, where: string): string {
  if (typeof raw.model_type === 'string') return raw.model_type;
  // Checkpoints of the mamba_ssm package carry no model_type.
  if ('d_model' in raw && 'n_layer' in raw) return 'mamba_ssm';
  throw new StatespaceError(
    'ERR_UNSUPPORTED_MODEL',
    `${where}: model_type is missing; expected one of ${supportedModels().join(', ')}`,
  );
}

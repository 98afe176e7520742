import { isMap } from 'node:util/types';
import { Cancellation, watched } from '../cancellation.js';
import { fingerprintTensors } from '../checkpoint/fingerprint.js';
import type { Checkpoint, StoredTensor } from '../checkpoint/open.js';
import { inPieces } from '../checkpoint/pieces.js';
import { statOf } from '../checkpoint/stamps.js';
import { byteLength, type HeldType, isQuantized } from '../dtype.js';
import { StatespaceError, show } from '../errors.js';
import { encodeGraph } from '../graph/encode.js';
import { Graph, type Value } from '../graph/graph.js';
import type { Init, WeightSource, WeightSpec } from '../graph/weight-spec.js';
import { Weights } from '../graph/weights.js';
import { lazyCrypto } from '../lazy.js';
import { call, type NativeHandle, type WeightEntry } from '../native.js';
import type { TensorLike } from '../tensor.js';
import { Turns } from '../turns.js';
import type { Adapters } from './adapters.js';
import { Binding, underOtherBase } from './bind.js';
import { digestTensors, WeightFiles } from './fingerprint.js';
import { asAsked, checkValues, entriesOf, identityOf, shapesOf } from './from-tensors.js';
import { headAsCopy } from './head-copy.js';
import { matrixType, ownTypes } from './held-types.js';
import { checkOptions, type LoadOptions } from './load-options.js';
import { type Blueprint, Model } from './model.js';
import { type ResolvedModel, resolveModel, unreadOf } from './registry.js';
import { underDictNames } from './state-dict-names.js';
import { tapped } from './tap.js';
import { loadTokenizer } from './tokenizer.js';
import { weightParts } from './weight-parts.js';
import { TOWERS, unwrapped } from './wrapped.js';

// The readers of checkpoints, loaded at their first use: a third of what a cold import of the models costs.
const lazyCheckpoint = (): typeof import('../checkpoint/open.js') => require('../checkpoint/open.js');

const lazyAdapters = (): typeof import('./adapters.js') => require('./adapters.js');
const lazyUnmerged = (): typeof import('./unmerged.js') => require('./unmerged.js');
const lazyGgufText = (): typeof import('../checkpoint/gguf/text.js') => require('../checkpoint/gguf/text.js');
const lazyHub = (): typeof import('../hub/pull.js') => require('../hub/pull.js');

type Built = Blueprint;

/** The graph of a config, its matrices in `dtype`. */
export function buildGraph(
  resolved: ResolvedModel,
  dtype: HeldType,
  tensors?: ReadonlyMap<string, StoredTensor>,
  typeOf?: (spec: WeightSpec) => HeldType | undefined,
): Built {
  const { definition, config } = resolved;
  const graph = new Graph(dtype, typeOf);
  const actual = (name: string) => (resolved.wrapped ? unwrapped(name, tensors) : name);
  const has = (name: string) => tensors?.has(actual(name)) ?? false;
  const output = definition.build(
    graph,
    new Weights(graph, '', {
      rename: (name) => actual(definition.key?.(name, config, has) ?? name),
      shape: (name) => tensors?.get(name)?.shape,
      identity: (name) => tensors?.get(name),
      tensors: tensors?.size,
      config: resolved.where,
    }),
    config,
  );
  graph.own(resolved.where, 'what build gives', output);
  return { graph, output, resolved, originals: new Map(), rebuild: (type) => buildGraph(resolved, type, tensors) };
}

/** The same, with keys and values in f32 where the model is to be exact. */
function heldAs(
  resolved: ResolvedModel,
  dtype: HeldType,
  { exact }: LoadOptions,
  tensors?: ReadonlyMap<string, StoredTensor>,
  own?: (spec: WeightSpec) => HeldType | undefined,
): Built {
  return exact ? buildGraph(resolved, 'f32', tensors, own ?? (() => dtype)) : buildGraph(resolved, dtype, tensors, own);
}

/**
 * Reads a model: a folder with config.json and weights, a GGUF file, or 'hf:owner/name[@revision]', which is brought into the cache
 * first (HF_TOKEN, HF_ENDPOINT, HF_HUB_CACHE, HF_HUB_OFFLINE as everywhere). docs/models.md tells the formats. Or tensors in
 * memory, by their names in a checkpoint, with options.config.
 */
export async function loadModel(
  path: string | ReadonlyMap<string, TensorLike>,
  options: LoadOptions = {},
): Promise<Model> {
  if (isMap(path)) return loadValues('loadModel', path, options.config, options);
  if (typeof path !== 'string')
    throw new StatespaceError('ERR_ARGUMENT', `loadModel: folder: expected a path, received ${show(path)}`);
  checkOptions('loadModel', options, [], ['config']);
  const { signal, onProgress } = options;
  const folder = path.startsWith('hf:') ? await lazyHub().pull(path, { signal, onProgress }) : path;
  const checkpoint = await openedUnless(signal, folder);
  const { config, configFile } = checkpoint;
  if (!config) throw new StatespaceError('ERR_CHECKPOINT', `${configFile}: is missing`);
  const resolved = tapped(resolveModel(config, options, configFile), options);
  let tensors: ReadonlyMap<string, StoredTensor> = await headAsCopy(checkpoint.tensors);
  let trial = buildGraph(resolved, 'f32', tensors);
  for (const rename of [underOtherBase, underDictNames]) {
    const renamed = rename(trial.graph, tensors);
    if (!renamed) continue;
    tensors = renamed;
    trial = buildGraph(resolved, 'f32', tensors);
  }
  const given = options.adapters?.length ? await lazyAdapters().readAdapters(options.adapters, trial.graph) : undefined;
  const adapters = given?.adapters;
  const dtype = options.dtype ?? matrixType(trial.graph, tensors);
  const own = options.dtype === undefined ? ownTypesWith(adapters, trial.graph, tensors, options) : undefined;
  let built = dtype === 'f32' && !own ? trial : heldAs(resolved, dtype, options, tensors, own);
  if (given) tensors = new Map([...tensors, ...given.whole]);
  const apart = adapters ? weightsApart(built.graph, adapters, tensors, options) : [];
  const attached = apart.length ? lazyUnmerged().attachAdapters(built.graph, adapters!, apart) : undefined;
  if (attached) {
    tensors = new Map([...tensors, ...attached.tensors]);
    built = { ...built, adapted: true };
  }

  const files: string[] = [];
  const entries: WeightEntry[] = [];
  const binding = new Binding(folder, built.graph, tensors);
  const found = [...built.graph.weights].map(([value, spec]) => ({
    value,
    spec,
    stored: spec.sources.map((s) => binding.find(s)),
  }));
  warnOfUnread(binding, resolved, options);
  for (const { value, spec, stored } of found) {
    const merged = attached?.weights.has(value) ? undefined : adapters;
    entries.push({ value: value.id, parts: await weightParts(spec, stored, files, built.originals, merged) });
  }
  // The vocabulary is read while native code loads the weights.
  const loading = finish(built, options, files, entries, 0, true);
  const { metadata } = checkpoint;
  const reading = metadata ? lazyGgufText().readText(metadata) : loadTokenizer(folder, signal);
  const [model, tokenizer] = await Promise.all([loading, reading]).catch((error) => {
    loading.then((loaded) => loaded.dispose()).catch(() => {}); // its own failure is the one that is thrown
    throw error;
  });
  const weights = new WeightFiles(binding.used, checkpoint.stamps);
  let identity: string;
  try {
    identity = (await fingerprintTensors(binding.used)) + (await adaptersIdentity(adapters));
    await weights.check();
  } catch (error) {
    await model.dispose();
    throw error;
  }
  return model.open({
    config,
    generationConfig: checkpoint.generationConfig,
    tokenizer,
    identity,
    ...(metadata ? { gguf: checkpoint.folder } : { folder: checkpoint.folder }),
    files: weights,
    asStored:
      !adapters && found.every((w) => w.value.dtype === 'f32' || w.stored.every((t) => t.dtype === w.value.dtype)),
  });
}

/**
 * Weights whose adapters stand beside them: all that can where it is asked for. Where nothing is said, those that keep the
 * blocks of their file: their values are on the grid already, and a change below half a step would be rounded away.
 */
function weightsApart(
  graph: Graph,
  adapters: Adapters,
  tensors: ReadonlyMap<string, StoredTensor>,
  { mergeAdapters }: LoadOptions,
): Value[] {
  if (mergeAdapters) return [];
  const able = lazyUnmerged().besideWeights(graph, adapters);
  if (mergeAdapters === false) return able;
  const onGrid = ({ dtype }: Value, { sources }: WeightSpec) =>
    isQuantized(dtype) && sources.some((s) => tensors.get(s.name)?.dtype === dtype);
  return able.filter((weight) => onGrid(weight, graph.weights.get(weight)!));
}

/** As ownTypes(); what adapters are merged into is f32 where the model is to be exact: in fewer bits it would be rounded again. */
function ownTypesWith(
  adapters: Adapters | undefined,
  trial: Graph,
  tensors: ReadonlyMap<string, StoredTensor>,
  { exact = false, device = 'auto', mergeAdapters }: LoadOptions,
): ReturnType<typeof ownTypes> {
  const own = ownTypes(tensors, exact, device);
  if (!own || !exact || !adapters) return own;
  const idOf = ({ sources }: WeightSpec) => JSON.stringify(sources.map(({ name, span }) => [name, span]));
  const beside = mergeAdapters === false ? lazyUnmerged().besideWeights(trial, adapters) : [];
  const apart = new Set(beside.map((weight) => idOf(trial.weights.get(weight)!)));
  return (spec) => (spec.sources.some((s) => adapters.has(s.name)) && !apart.has(idOf(spec)) ? 'f32' : own(spec));
}

async function openedUnless(signal: AbortSignal | undefined, folder: string): Promise<Checkpoint> {
  signal?.throwIfAborted();
  try {
    return await lazyCheckpoint().openCheckpoint(folder, signal);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** Names what is left unread; what nobody knows is an error where options do not say otherwise. */
function warnOfUnread(binding: Binding, resolved: ResolvedModel, { strict }: LoadOptions): void {
  const note = binding.checkUnread([...unreadOf(resolved), ...(resolved.wrapped ? TOWERS : [])], strict);
  if (note) process.emitWarning(note, { code: 'STATESPACE_UNREAD' });
}

/** A model of tensors in memory. */
async function loadValues(
  op: string,
  weights: ReadonlyMap<string, TensorLike>,
  given: object | undefined,
  options: LoadOptions,
): Promise<Model> {
  checkOptions(op, options, ['weights'], op === 'createModel' ? ['config', 'adapters'] : ['adapters']);
  const values = checkValues(op, weights);
  const config = given as Record<string, unknown> | undefined;
  if (!config) throw new StatespaceError('ERR_ARGUMENT', `${op}: config: tensors alone do not say what they make`);
  const resolved = resolveModel(config, options);
  const held = options.exact ? 'f32' : (options.dtype ?? 'f32');
  let tensors = shapesOf(values);
  let built = buildGraph(resolved, held, tensors);
  let asked = values;
  if (op === 'loadModel') {
    const renamed = underOtherBase(built.graph, tensors);
    if (renamed) {
      tensors = renamed;
      built = buildGraph(resolved, held, tensors);
    }
    const binding = new Binding(op, built.graph, tensors);
    asked = asAsked(built.graph, values, binding);
    warnOfUnread(binding, resolved, options);
  }
  const identity = await identityOf(op, values);
  const entries = await entriesOf(op, built.graph, asked, built.originals);
  const model = await finish(built, options, [], entries, 0);
  return model.open({ config, identity });
}

/** A model from a config (`given`) alone, with random weights drawn from `seed`. */
export async function createModel(
  given: object,
  options: LoadOptions & { seed?: number | undefined } = {},
): Promise<Model> {
  checkOptions('createModel', options, ['seed', 'weights'], ['config', 'adapters']);
  const config = given as Record<string, unknown>;
  if (options.weights) return loadValues('createModel', options.weights, config, options);
  const seed = options.seed ?? 0;
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `createModel: seed: expected a non-negative integer, received ${show(seed)}`,
    );
  }
  const built = heldAs(resolveModel(config, options), options.dtype ?? 'f32', options);
  const random = mulberry32(seed);
  const entries: WeightEntry[] = [];
  const shared = new Map<string, Float32Array>(); // a source of several weights is drawn once
  const turns = new Turns();
  for (const [value, spec] of built.graph.weights) {
    const plain = !spec.transform && spec.init.every((i) => 'uniform' in i);
    if (plain) {
      entries.push({ value: value.id, bound: (spec.init[0] as { uniform: number }).uniform });
      continue;
    }
    const drawn: Float32Array[] = [];
    for (const [i, s] of spec.sources.entries()) {
      const pause = turns.due();
      if (pause) await pause;
      const values = shared.get(s.name) ?? (await drawnOf(spec.init[i]!, s.shape, random));
      shared.set(s.name, values);
      if (spec.transform) built.originals.set(s.name, values);
      drawn.push(partOf(values, s));
    }
    const made = spec.transform ? [await spec.transform(drawn)] : drawn;
    entries.push({ value: value.id, parts: made.map((data) => ({ data })) });
  }
  const model = await finish(built, options, [], entries, seed);
  return model.open({ config, identity: `random:${seed}` });
}

async function drawnOf(init: Init, shape: readonly number[], random: () => number): Promise<Float32Array> {
  if ('values' in init) return init.values(random);
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  await inPieces(values.length, (from, to) => {
    for (let i = from; i < to; i++) values[i] = init.uniform * (2 * random() - 1);
  });
  return values;
}

/** What distinguishes a model with adapters from the one without, and from one with others. */
async function adaptersIdentity(adapters: Adapters | undefined): Promise<string> {
  if (!adapters) return '';
  const halves = [...adapters.values()].flatMap((of) =>
    of.flatMap(({ a, b }) => [a, b].filter((half) => half !== undefined)),
  );
  const scales = [...adapters].map(([name, of]) => [name, of.map(({ scale }) => scale)]);
  return `${JSON.stringify(scales)}${await digestTensors(halves)}`;
}

/** The values of a source, of all that its tensor holds. */
const partOf = (all: Float32Array, { span }: WeightSource): Float32Array =>
  span ? all.subarray(span[0], span[0] + span[1]) : all;

/** Bytes that a weight is read from, as the addon counts them: what was computed at load counts as computed. */
function givenBytes(entry: WeightEntry): number {
  if (!('parts' in entry)) return 0;
  return entry.parts.reduce((n, p) => n + ('data' in p ? p.data.byteLength : byteLength(p.dtype, p.count)), 0);
}

async function finish(
  built: Built,
  options: LoadOptions,
  files: string[],
  entries: WeightEntry[],
  seed: number,
  shared = false,
): Promise<Model> {
  const graph = encodeGraph(built.graph, built.output);
  const handle: NativeHandle = call((n) => n.buildModel(graph, options.device ?? 'auto', options.exact ?? false));
  const key = shared ? await weightsKey(call((n) => n.modelInfo(handle)).backend, graph, files, entries) : undefined;
  const totalBytes = entries.reduce((n, entry) => n + givenBytes(entry), 0);
  const watch = watched(options);
  const report = watch.report && ((loadedBytes: number) => watch.report!({ loadedBytes, totalBytes }));
  try {
    const cancellation = new Cancellation(watch.signal);
    if (key !== undefined && call((n) => n.adoptWeights(handle, key))) report?.(totalBytes);
    else {
      const load = () => call((n) => n.loadWeights(handle, files, entries, seed, cancellation.flag, report));
      await cancellation.run(load);
      if (key !== undefined) call((n) => n.publishWeights(handle, key));
    }
    await undefined; // what an asynchronous callback has come to is known then
    watch.check();
  } catch (error) {
    await call((n) => n.dispose(handle));
    throw error;
  } finally {
    watch.end();
  }
  return new Model(handle, { ...built, exact: options.exact ?? false });
}

/** All that the weights in memory depend on: what they are for, the files as they are now, and which part of them. */
async function weightsKey(
  backend: string,
  graph: Uint8Array,
  files: readonly string[],
  entries: readonly WeightEntry[],
): Promise<string> {
  const hash = lazyCrypto().createHash('sha256').update(backend).update(graph);
  for (const file of files) {
    const { dev, ino, size, mtimeNs, ctimeNs } = await statOf(file);
    hash.update(JSON.stringify([dev, ino, size, mtimeNs, ctimeNs].map(String)));
  }
  for (const entry of entries) {
    hash.update(JSON.stringify(entry, (key, value) => (key === 'data' || key === 'rows' ? undefined : value)));
    if (!('parts' in entry)) continue;
    for (const part of entry.parts) {
      const array = 'data' in part ? part.data : part.rows;
      if (!array) continue;
      const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
      hash.update(await call((n) => n.digest(bytes, false)));
    }
  }
  return hash.digest('hex');
}

/** A small generator for the few values that are drawn in TypeScript; matrices are drawn natively. */
function mulberry32(seed: number): () => number {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = s;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

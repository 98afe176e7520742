import { join } from 'node:path';
import { Cancellation, checkCall } from '../cancellation.js';
import { fingerprintTensors } from '../checkpoint/fingerprint.js';
import type { StoredTensor } from '../checkpoint/open.js';
import { isBlocks } from '../checkpoint/stored.js';
import { byteLength } from '../dtype.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import { checkContext, countParameters, flopsPerToken, layerCounts, sessionBytes } from '../graph/cost.js';
import { encodeGraph } from '../graph/encode.js';
import { Graph, type Value } from '../graph/graph.js';
import { type WeightSource, Weights } from '../graph/weights.js';
import { lazyCrypto, lazyFiles } from '../lazy.js';
import { call, type NativeHandle, type WeightEntry } from '../native.js';
import type { DType } from '../tensor.js';
import { Binding, type Unread, withoutBase } from './bind.js';
import { Model } from './model.js';
import { type ResolvedModel, resolveModel } from './registry.js';
import { loadTokenizer } from './tokenizer.js';
import { weightParts } from './weight-parts.js';

// The readers of checkpoints, loaded at their first use: a third of what a cold import of the models costs.
const lazyCheckpoint = (): typeof import('../checkpoint/open.js') => require('../checkpoint/open.js');

const lazyGgufText = (): typeof import('../checkpoint/gguf/text.js') => require('../checkpoint/gguf/text.js');
const lazyHub = (): typeof import('../hub/pull.js') => require('../hub/pull.js');

/** How a model is loaded or made. */
export interface LoadOptions {
  /**
   * Where weights lie and forwards run. `cuda`: a GPU, else ERR_DEVICE with the reason. Default `auto`: what the
   * environment's STATESPACE_BACKEND names, else a GPU, else the CPU.
   */
  device?: 'auto' | 'cpu' | 'cuda';
  /** Type that the large matrices are held in; default: as in the checkpoint (a new model: f32). */
  dtype?: DType;
  /** loadModel: matrices are held in f32 and multiplied in f32, whatever they are stored in. Default: false. */
  exact?: boolean;
  /** Compute threads of the process, as setThreads(). */
  threads?: number;
  /** loadModel: false loads a checkpoint although no layer asks for some of its tensors, with a warning. Default: true. */
  strict?: boolean;
  /** Stops loading; the promise rejects with its reason. */
  signal?: AbortSignal;
  /** Called as weights are read. */
  onProgress?: (done: { loadedBytes: number; totalBytes: number }) => void;
}

interface Built {
  graph: Graph;
  output: Value;
  resolved: ResolvedModel;
}

/** The name under which a multimodal checkpoint holds a tensor of its text model. */
function unwrapped(name: string, tensors?: ReadonlyMap<string, StoredTensor>): string {
  const inner = name.replace(/^model\./, '');
  const names = [name, `model.language_model.${inner}`, `language_model.${name}`, `model.llm.${inner}`];
  return names.find((n) => tensors?.has(n)) ?? name;
}

/** What a multimodal checkpoint holds besides: its towers, and what joins them to the text. */
const TOWERS: readonly Unread[] = [
  { names: /(^|\.)(visual|vision_\w+|image_\w+|embed_vision)\./, what: 'the vision part' },
  { names: /(^|\.)(audio_\w+|audio|embed_audio|speech_\w+)\./, what: 'the audio part' },
  { names: /(^|\.)(multi_modal_projector|mm_projector|projector|merger)\./, what: 'the projector of other modes' },
];

/** The graph of a config, its matrices in `dtype`. */
function buildGraph(resolved: ResolvedModel, dtype: DType, tensors?: ReadonlyMap<string, StoredTensor>): Built {
  const { definition, config } = resolved;
  const graph = new Graph(dtype);
  const actual = (name: string) => (resolved.wrapped ? unwrapped(name, tensors) : name);
  const has = (name: string) => tensors?.has(actual(name)) ?? false;
  const output = definition.build(
    graph,
    new Weights(graph, '', {
      rename: (name) => actual(definition.key?.(name, config, has) ?? name),
      shape: (name) => tensors?.get(name)?.shape,
      tensors: tensors?.size,
    }),
    config,
  );
  return { graph, output, resolved };
}

const HELD: readonly DType[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0'];

function checkDtype(op: string, dtype: DType | undefined): void {
  if (dtype !== undefined && !HELD.includes(dtype))
    throw mismatch('ERR_DTYPE', `${op}: dtype`, `one of ${HELD.join(', ')}`, show(dtype));
}

function checkOptions(op: string, options: LoadOptions): void {
  checkCall(op, options);
  checkDtype(op, options.dtype);
  if (options.device !== undefined && !['auto', 'cpu', 'cuda'].includes(options.device)) {
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `${op}: device: expected auto, cpu or cuda, received ${show(options.device)}`,
    );
  }
  checkDevice(op, options.device ?? 'auto');
  if (options.exact !== undefined && typeof options.exact !== 'boolean')
    throw mismatch('ERR_ARGUMENT', `${op}: exact`, 'true or false', show(options.exact));
  if (options.strict !== undefined && typeof options.strict !== 'boolean')
    throw mismatch('ERR_ARGUMENT', `${op}: strict`, 'true or false', show(options.strict));
  if (options.threads !== undefined && !(Number.isSafeInteger(options.threads) && options.threads > 0)) {
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `${op}: threads: expected a positive integer, received ${show(options.threads)}`,
    );
  }
  if (options.threads !== undefined) call((n) => n.setThreads(options.threads!));
  options.signal?.throwIfAborted();
}

/** ERR_DEVICE, with the reason, where no model can run on it. */
function checkDevice(op: string, device: 'auto' | 'cpu' | 'cuda'): void {
  try {
    call((n) => n.backendName(device));
  } catch (error) {
    if (error instanceof StatespaceError) throw new StatespaceError(error.code, `${op}: ${error.message}`);
    throw error;
  }
}

/**
 * Reads a model: a folder with config.json and weights, a GGUF file, or 'hf:owner/name[@revision]', which is brought into the cache
 * first (HF_TOKEN, HF_ENDPOINT, HF_HUB_CACHE, HF_HUB_OFFLINE as everywhere). docs/models.md tells the formats.
 */
export async function loadModel(path: string, options: LoadOptions = {}): Promise<Model> {
  if (typeof path !== 'string')
    throw new StatespaceError('ERR_ARGUMENT', `loadModel: folder: expected a path, received ${show(path)}`);
  checkOptions('loadModel', options);
  const folder = path.startsWith('hf:') ? await lazyHub().pull(path, { signal: options.signal }) : path;
  const checkpoint = await lazyCheckpoint().openCheckpoint(folder);
  const config = checkpoint.config;
  if (!config) throw new StatespaceError('ERR_CHECKPOINT', `${join(folder, 'config.json')}: is missing`);
  const resolved = resolveModel(config);
  let tensors: ReadonlyMap<string, StoredTensor> = checkpoint.tensors;
  let trial = buildGraph(resolved, 'f32', tensors);
  const renamed = withoutBase(trial.graph, tensors);
  if (renamed) {
    tensors = renamed;
    trial = buildGraph(resolved, 'f32', tensors);
  }
  const dtype = options.exact ? 'f32' : (options.dtype ?? matrixType(trial.graph, tensors));
  const built = dtype === 'f32' ? trial : buildGraph(resolved, dtype, tensors);

  const files: string[] = [];
  const entries: WeightEntry[] = [];
  const binding = new Binding(folder, built.graph, tensors);
  const found = [...built.graph.weights].map(([value, spec]) => ({
    value,
    spec,
    stored: spec.sources.map((s) => binding.find(s)),
  }));
  const note = binding.checkUnread(
    [...(resolved.definition.unread ?? []), ...(resolved.wrapped ? TOWERS : [])],
    options.strict,
  );
  if (note) process.emitWarning(note, { code: 'STATESPACE_UNREAD' });
  for (const { value, spec, stored } of found) {
    entries.push({ value: value.id, parts: await weightParts(spec, stored, files) });
  }
  // The vocabulary is read while native code loads the weights.
  const [model, tokenizer] = await Promise.all([
    finish(built, options, files, entries, 0, true),
    checkpoint.metadata ? lazyGgufText().readText(checkpoint.metadata) : loadTokenizer(folder),
  ]);
  return model.open({
    config,
    generationConfig: checkpoint.generationConfig,
    tokenizer,
    identity: await fingerprintTensors(binding.used),
  });
}

/** A model from a config alone, with random weights drawn from `seed`. */
export async function createModel(
  config: Record<string, unknown>,
  options: LoadOptions & { seed?: number } = {},
): Promise<Model> {
  checkOptions('createModel', options);
  const seed = options.seed ?? 0;
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `createModel: seed: expected a non-negative integer, received ${show(seed)}`,
    );
  }
  const built = buildGraph(resolveModel(config), options.dtype ?? 'f32');
  const random = mulberry32(seed);
  const entries: WeightEntry[] = [];
  const shared = new Map<string, Float32Array>(); // a source of several weights is drawn once
  for (const [value, spec] of built.graph.weights) {
    const plain = !spec.transform && spec.init.every((i) => 'uniform' in i);
    if (plain) {
      entries.push({ value: value.id, bound: (spec.init[0] as { uniform: number }).uniform });
      continue;
    }
    const drawn = spec.sources.map((s, i) => {
      const known = shared.get(s.name);
      if (known) return partOf(known, s);
      const init = spec.init[i]!;
      const n = s.shape.reduce((a, b) => a * b, 1);
      const values =
        'values' in init
          ? init.values(random)
          : Float32Array.from({ length: n }, () => init.uniform * (2 * random() - 1));
      shared.set(s.name, values);
      return partOf(values, s);
    });
    entries.push({
      value: value.id,
      parts: spec.transform ? [{ data: await spec.transform(drawn) }] : drawn.map((data) => ({ data })),
    });
  }
  const model = await finish(built, options, [], entries, seed);
  return model.open({ config, identity: `random:${seed}` });
}

/** What a model of this config is and costs; nothing is allocated. */
export function describeModel(config: Record<string, unknown>): {
  modelType: string;
  parameters: { total: number; active: number };
  layers: { kind: string; count: number }[];
  /** Floating-point operations of one token after `context` others. */
  flopsPerToken(context: number): number;
  /** Bytes that a session holds after `context` tokens, with the model held in `dtype`. */
  sessionBytes(context: number, dtype?: DType): { state: number; kvCache: number; total: number };
} {
  const resolved = resolveModel(config);
  const { graph } = buildGraph(resolved, configType(config));
  return {
    modelType: resolved.modelType,
    parameters: countParameters(graph),
    layers: layerCounts(graph),
    flopsPerToken: (context) => flopsPerToken(graph, checkContext('flopsPerToken', context)),
    sessionBytes(context, dtype) {
      checkDtype('sessionBytes', dtype);
      const held = dtype === undefined || dtype === graph.dtype ? graph : buildGraph(resolved, dtype).graph;
      return sessionBytes(held, checkContext('sessionBytes', context));
    },
  };
}

/** The type that a config says its checkpoint is in. */
function configType(config: Record<string, unknown>): DType {
  const inner = (config.text_config ?? {}) as Record<string, unknown>;
  const name = config.dtype ?? config.torch_dtype ?? inner.dtype ?? inner.torch_dtype;
  return name === 'float16' ? 'f16' : name === 'bfloat16' ? 'bf16' : 'f32';
}

/** The type that most of a checkpoint's matrix values are in, of those that can be held as they are. */
function matrixType(graph: Graph, tensors: ReadonlyMap<string, StoredTensor>): DType {
  const bytes = { f32: 0, f16: 0, bf16: 0, q8_0: 0, q4_0: 0 };
  const stored = [...graph.weights.values()]
    .filter((spec) => spec.matrix)
    .flatMap((spec) => spec.sources.flatMap((s) => tensors.get(s.name) ?? []));
  // Blocks of one type are held in it where products read that; a mixture is held in f16, which errs less than they do.
  const [only, ...others] = new Set(stored.map((t) => t.dtype).filter(isBlocks));
  const ofBlocks = others.length === 0 && (only === 'q8_0' || only === 'q4_0') ? only : 'f16';
  for (const t of stored) {
    const held = isBlocks(t.dtype) ? ofBlocks : t.dtype;
    if (held in bytes) bytes[held as keyof typeof bytes] += t.byteLength;
  }
  return (Object.keys(bytes) as (keyof typeof bytes)[]).reduce((a, b) => (bytes[b] > bytes[a] ? b : a));
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
  const handle: NativeHandle = call((n) => n.buildModel(graph, options.device ?? 'auto'));
  const cancellation = new Cancellation(options.signal);
  const totalBytes = entries.reduce((n, entry) => n + givenBytes(entry), 0);
  const report = options.onProgress && ((loadedBytes: number) => options.onProgress!({ loadedBytes, totalBytes }));
  const key = shared ? await weightsKey(call((n) => n.modelInfo(handle)).backend, graph, files, entries) : undefined;
  if (key !== undefined && call((n) => n.adoptWeights(handle, key))) {
    report?.(totalBytes);
    return new Model(handle, built.resolved, built.graph);
  }
  await cancellation.run(() => call((n) => n.loadWeights(handle, files, entries, seed, cancellation.flag, report)));
  if (key !== undefined) call((n) => n.publishWeights(handle, key));
  return new Model(handle, built.resolved, built.graph);
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
    const { dev, ino, size, mtimeNs, ctimeNs } = await lazyFiles().stat(file, { bigint: true });
    hash.update(JSON.stringify([dev, ino, size, mtimeNs, ctimeNs].map(String)));
  }
  for (const entry of entries) {
    hash.update(JSON.stringify(entry, (key, value) => (key === 'data' || key === 'rows' ? undefined : value)));
    if (!('parts' in entry)) continue;
    for (const part of entry.parts) {
      const array = 'data' in part ? part.data : part.rows;
      if (!array) continue;
      hash.update(call((n) => n.digest(new Uint8Array(array.buffer, array.byteOffset, array.byteLength))));
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

import { byteLength, type HeldType } from '../dtype.js';
import { StatespaceError } from '../errors.js';
import { checkContext, countParameters, flopsPerToken, layerCounts, sessionBytes } from '../graph/cost.js';
import type { Graph } from '../graph/graph.js';
import { checkKnown } from '../options.js';
import { configType } from './held-types.js';
import { buildGraph, loadModel } from './load.js';
import { checkDtype, checkOptions, type LoadOptions } from './load-options.js';
import { type ResolvedModel, resolveModel } from './registry.js';
import { withTap } from './tap.js';

type SessionBytes = ReturnType<typeof sessionBytes>;

/** What a model is and costs. */
export interface ModelDescription {
  modelType: string;
  parameters: { total: number; active: number };
  layers: { kind: string; count: number }[];
  /** Floating-point operations of one token after `context` others. */
  flopsPerToken(context: number): number;
  /** Bytes that a session holds after `context` tokens; dtype: the model's, by default what it is loaded in, or what its config says. */
  sessionBytes(context: number, dtype?: HeldType): SessionBytes;
}

/** A tensor of a checkpoint, by its name in the file. */
export interface TensorDescription {
  readonly name: string;
  readonly shape: readonly number[];
  /** What it is stored as: f32, bf16, q4_k … */
  readonly stored: string;
  /** What a model holds it in; null where no layer reads it. */
  readonly held: HeldType | null;
}

/** What a folder or a file holds, and what loading it would. */
export interface CheckpointDescription extends ModelDescription {
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: readonly TensorDescription[];
  /** Bytes of the tensors in the files, and of the weights as a model holds them. */
  readonly bytes: { readonly stored: number; readonly held: number };
}

/** What a model of this config is and costs; nothing is allocated. */
export function describeModel(config: object): ModelDescription;
/**
 * The same of a model folder or a GGUF file (the first one of a split one), with its tensors and what each is held in;
 * headers are read, and no large tensor.
 *
 * @throws StatespaceError ERR_CHECKPOINT, ERR_UNSUPPORTED_MODEL as loadModel() does.
 */
export function describeModel(path: string, options?: LoadOptions): Promise<CheckpointDescription>;
export function describeModel(
  model: object | string,
  options: LoadOptions = {},
): ModelDescription | Promise<CheckpointDescription> {
  if (typeof model !== 'string') checkKnown('describeModel', options, []);
  return typeof model === 'string'
    ? describeCheckpoint(model, options)
    : describeConfig(model as Record<string, unknown>);
}

function describeConfig(config: Record<string, unknown>): ModelDescription {
  const resolved = resolveModel(config);
  return describeGraph(resolved, buildGraph(resolved, configType(config)).graph);
}

function describeGraph(resolved: ResolvedModel, graph: Graph): ModelDescription {
  return {
    modelType: resolved.modelType,
    parameters: countParameters(graph),
    layers: layerCounts(graph),
    flopsPerToken: (context) => flopsPerToken(graph, checkContext('flopsPerToken', context)),
    sessionBytes(context, dtype) {
      checkDtype('sessionBytes', dtype);
      checkContext('sessionBytes', context);
      const held = dtype === undefined || dtype === graph.dtype ? graph : buildGraph(resolved, dtype).graph;
      return sessionBytes(held, context);
    },
  };
}

const lazyCheckpoint = (): typeof import('../checkpoint/open.js') => require('../checkpoint/open.js');
const bases = ['model.', 'backbone.'];

async function describeCheckpoint(path: string, options: LoadOptions): Promise<CheckpointDescription> {
  checkOptions('describeModel', options, [], ['config', 'adapters']);
  const checkpoint = await lazyCheckpoint().openCheckpoint(path);
  const { config, tensors, origins } = checkpoint;
  if (config === undefined)
    throw new StatespaceError(
      'ERR_CHECKPOINT',
      `${checkpoint.folder}: has no config.json, and tells no model without it`,
    );
  const graph = await heldGraph(path, options);
  const held = new Map<string, HeldType[]>(); // of a tensor whose parts are held apart several
  let bytes = 0;
  for (const [value, spec] of graph.weights) {
    if (spec.sources.length === 0) continue; // tables that follow from the config
    for (const { name } of spec.sources) {
      const known = held.get(name) ?? [];
      if (known.length === 0 || spec.matrix) held.set(name, [value.dtype, ...known]);
    }
    bytes += byteLength(
      value.dtype,
      value.dims.reduce<number>((n, d) => n * (d as number), 1),
    );
  }
  // A file that was saved without its head lacks the first part of every name; one from within another has more.
  const heldOf = (name: string | undefined, stored: string): HeldType | null => {
    if (name === undefined) return null;
    const inner = name.slice(name.indexOf('.') + 1);
    const names = ['', ...bases].map((base) => base + name);
    const types = [...names, inner, inner.slice(inner.indexOf('.') + 1)].map((n) => held.get(n)).find((t) => t) ?? [];
    return types.find((type) => type === stored) ?? types[0] ?? null;
  };
  const listed = origins ?? new Map([...tensors].map(([name, stored]) => [name, { stored, names: [name] }] as const));
  return {
    ...describeGraph(resolveModel(config), graph),
    config,
    tensors: [...listed].map(([name, { stored, names }]) => ({
      name,
      shape: stored.shape,
      stored: stored.dtype,
      held: heldOf(names[0], stored.dtype),
    })),
    bytes: { stored: checkpoint.totalBytes, held: bytes },
  };
}

/** The graph that loadModel() makes of a checkpoint, of which it then reads no weights. */
async function heldGraph(path: string, options: LoadOptions): Promise<Graph> {
  const enough = new AbortController();
  const graphs: Graph[] = [];
  const signal = options.signal ? AbortSignal.any([options.signal, enough.signal]) : enough.signal;
  const tapped = withTap({ ...options, signal }, (graph, output) => {
    graphs.push(graph);
    enough.abort();
    return output;
  });
  try {
    await (await loadModel(path, tapped)).dispose();
  } catch (error) {
    if (error !== enough.signal.reason) throw error;
  }
  return graphs.at(-1)!; // the first ones were for finding names and types
}

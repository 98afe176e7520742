import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { embedding, head, scaled } from '../layers/linear.js';
import { layerNorm } from '../layers/norms.js';
import { rwkvChannelMix } from '../layers/rwkv.js';
import type { ConfigReader } from './config.js';

/** What the versions of RWKV share around their time mixes. */
export interface RwkvConfig {
  version: 4 | 5 | 6 | 7;
  vocabSize: number;
  dModel: number;
  dFf: number;
  nLayers: number;
  eps: number;
  /** Of the norm before the head; default: as of the others. */
  finalEps?: number;
  tied: boolean;
  /** The residual stream is halved after every so many layers; 0: never. */
  rescaleEvery: number;
  /** The weights that write to the stream are stored divided (GGUF), so it is halved along, and the epsilons with it. */
  rescaled?: boolean;
}

/**
 * The keys of official checkpoints, which record none themselves: versions 5 to 7 differ by their time mixes. head_size
 * and head_size_divisor are for the caller to read.
 */
export function readOfficial(c: ConfigReader, version: RwkvConfig['version']): RwkvConfig {
  const dModel = c.size('n_embd');
  const dFf = version === 5 || version === 6 ? Math.max(32, Math.floor((dModel * 3.5) / 32) * 32) : 4 * dModel;
  c.ignore('note', 'ctx_len', 'head_qk', 'pre_ffn', 'my_pos_emb');
  return {
    version,
    vocabSize: c.size('vocab_size'),
    dModel,
    dFf: c.size('dim_ffn', dFf),
    nLayers: c.size('n_layer'),
    eps: c.number('layer_norm_epsilon', 1e-5),
    tied: c.boolean('tie_word_embeddings', false),
    rescaleEvery: readRescale(c, version === 4 ? 6 : 0),
    rescaled: c.boolean('rescaled', false),
  };
}

export function readRescale(c: ConfigReader, standard: number): number {
  const every = c.integer('rescale_every', standard);
  if (every < 0) throw c.error(`rescale_every: expected 0 (never) or a number of layers, received ${every}`);
  return every;
}

/** Heads of versions 5 to 7, and the epsilon of the group norm behind them. */
export function readHeads(c: ConfigReader, dAtt: number): { nHeads: number; headSize: number; eps: number } {
  const headSize = c.size('head_size', 64);
  if (dAtt % headSize !== 0)
    throw c.error(`${dAtt} channels (n_embd, dim_att) are no multiple of head_size ${headSize}`);
  const divisor = c.number('head_size_divisor', 8);
  if (!(divisor > 0)) throw c.error(`head_size_divisor: expected a positive number, received ${divisor}`);
  return { nHeads: dAtt / headSize, headSize, eps: 1e-5 * divisor ** 2 };
}

/** The keys of checkpoints in the layout of transformers, versions 5 and 6; heads are for the caller to read. */
export function readTransformers(c: ConfigReader, version: 5 | 6): RwkvConfig & { dAtt: number } {
  const dModel = c.size('hidden_size');
  c.ignore('num_attention_heads', 'context_length'); // the published ones give the size of a head there
  return {
    version,
    vocabSize: c.size('vocab_size', 65536),
    dModel,
    dAtt: c.size('attention_hidden_size', dModel),
    dFf: c.size('intermediate_size', Math.floor((dModel * 3.5) / 32) * 32),
    nLayers: c.size('num_hidden_layers'),
    eps: c.number('layer_norm_epsilon', 1e-5),
    tied: c.boolean('tie_word_embeddings', false),
    rescaleEvery: readRescale(c, 6),
  };
}

export type TimeMix = (g: Graph, x: Value, w: Weights, layer: number, residual: Value) => Value;

/** Embedding and its norm, blocks of a time mix and a channel mix, norm and head. */
export function buildRwkv(g: Graph, w: Weights, c: RwkvConfig, timeMix: TimeMix): Value {
  const table = w.tensor('emb.weight', [c.vocabSize, c.dModel]);
  // The reference halves x every few layers against overflow in f16, and the weights that write to it. LayerNorm
  // cannot tell but by its epsilon, so that is what changes here: LN(x/2, eps) = LN(x, 4 eps).
  const norm = (x: Value, scope: Weights, name: string, layer: number, eps = c.eps) => {
    const halvings = c.rescaleEvery > 0 ? Math.floor(layer / c.rescaleEvery) : 0;
    return layerNorm(g, x, scope, name, { eps: eps * 4 ** (c.rescaled ? -halvings : halvings) });
  };
  let x = norm(embedding(g, table), w.scope('blocks', 0), 'ln0', 0); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const block = w.scope('blocks', i);
    x = timeMix(g, norm(x, block, 'ln1', i), block.scope('att'), i, x);
    const { version, dFf } = c;
    x = rwkvChannelMix(g, norm(x, block, 'ln2', i), block.scope('ffn'), { version, dFf, residual: x });
    if (c.rescaled && (i + 1) % c.rescaleEvery === 0) x = scaled(g, x, 0.5);
  }
  x = norm(x, w, 'ln_out', c.nLayers, c.finalEps);
  return head(g, x, c.tied ? table : w.tensor('head.weight', [c.vocabSize, c.dModel]));
}

const WORDS: Readonly<Record<string, string>> = { k: 'key', v: 'value', r: 'receptance', g: 'gate' };

/** An official name as transformers has it. */
function transformersName(name: string): string {
  if (name === 'head.weight') return name;
  const renamed = name
    .replace(/^emb\./, 'embeddings.')
    .replace('.ln0.', '.pre_ln.')
    .replace('.att.', '.attention.')
    .replace('.ffn.', '.feed_forward.')
    .replace(/time_mix_([kvrg])$/, (_, letter: string) => `time_mix_${WORDS[letter]}`);
  return `rwkv.${renamed}`;
}

/** The checkpoint's name of a weight: as its library has it, or as the other one where only that is there. */
export function keyOf(name: string, transformers: boolean, has: (name: string) => boolean): string {
  const other = transformersName(name);
  if (transformers) return has(name) && !has(other) ? name : other;
  return has(other) && !has(name) ? other : name;
}

/** A name that transformersName() gave, as the official one. */
export function officialName(name: string): string {
  const letters = Object.fromEntries(Object.entries(WORDS).map(([letter, word]) => [word, letter]));
  return name
    .replace(/^rwkv\./, '')
    .replace(/^embeddings\./, 'emb.')
    .replace('.pre_ln.', '.ln0.')
    .replace('.attention.', '.att.')
    .replace('.feed_forward.', '.ffn.')
    .replace(/time_mix_(key|value|receptance|gate)$/, (_, word: string) => `time_mix_${letters[word]}`);
}

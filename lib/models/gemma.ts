import type { AttentionLayerOptions } from '../layers/attention.js';
import { activationOf } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { readHeads } from './heads-config.js';
import { readLayerTypes } from './layer-types.js';
import { buildDecoder, dense, type LlamaConfig } from './llama.js';
import { readRope } from './rope-config.js';

type Rope = AttentionLayerOptions['rope'];

/** Rotations of the layers that see all and of those with a window: Gemma 3 turns the latter by a base of their own. */
function readRopes(c: ConfigReader, headDim: number): { full: Rope; sliding: Rope } {
  if (c.modelType === 'gemma2') {
    const rope = readRope(c, headDim);
    return { full: rope, sliding: rope };
  }
  const parameters = c.nested('rope_parameters')?.raw;
  const local = c.positive('rope_local_base_freq', 1e4);
  const byKind = parameters && ('full_attention' in parameters || 'sliding_attention' in parameters);
  if (!byKind) return { full: readRope(c, headDim, { theta: 1e6 }), sliding: { theta: local, rotaryDim: headDim } };
  return {
    full: readRope(c, headDim, { kind: 'full_attention', theta: 1e6 }),
    sliding: readRope(c, headDim, { kind: 'sliding_attention', theta: local }),
  };
}

function readConfig(c: ConfigReader): LlamaConfig {
  const three = c.modelType === 'gemma3_text';
  const dModel = c.size('hidden_size', 2304);
  const nLayers = c.size('num_hidden_layers', 26);
  const eps = c.number('rms_norm_eps', 1e-6);
  const heads = readHeads(c, dModel, { nHeads: 8, nHeadsKv: 4, headDim: 256 });
  const bias = c.boolean('attention_bias', false);
  const ropes = readRopes(c, heads.headDim);
  const window = c.has('sliding_window') || !('sliding_window' in c.raw) ? c.size('sliding_window', 4096) : undefined;
  const pattern = three ? c.size('sliding_window_pattern', 6) : 2;
  const kinds = readLayerTypes(c, ['layer_types'], nLayers, ['full_attention', 'sliding_attention'], (i) =>
    (i + 1) % pattern === 0 ? 'full_attention' : 'sliding_attention',
  );
  c.only('use_bidirectional_attention', false);
  // Of the first releases; hidden_activation and sliding_window are what counts.
  c.ignore('hidden_act', 'sliding_window_size');
  const cap = (key: string, standard?: number) => {
    const off = key in c.raw ? !c.has(key) : standard === undefined;
    return off ? undefined : c.positive(key, standard);
  };
  // Gemma 3 holds the attention's cap and does not apply it.
  const attentionCap = cap('attn_logit_softcapping', three ? undefined : 50);
  return {
    vocabSize: c.size('vocab_size', three ? 262208 : 256000),
    dModel,
    dFf: c.size('intermediate_size', 9216),
    nLayers,
    eps,
    tied: c.boolean('tie_word_embeddings', true),
    mlpBias: false,
    activation: activationOf(c, 'hidden_activation', 'gelu_pytorch_tanh'),
    attention: {
      ...heads,
      qkvBias: bias,
      outBias: bias,
      scale: 1 / Math.sqrt(c.positive('query_pre_attn_scalar', 256)),
      softcap: three ? undefined : attentionCap,
      qkNorm: three ? { eps, over: 'head', unitOffset: true } : undefined,
    },
    kinds,
    attentionOf: (i) => (kinds[i] === 'sliding_attention' ? { window, rope: ropes.sliding } : { rope: ropes.full }),
    norms: 'both',
    unitOffset: true,
    embeddingScale: Math.sqrt(dModel),
    softcap: cap('final_logit_softcapping', three ? undefined : 30),
  };
}

/** Gemma 2 and the text model of Gemma 3 (Google 2024, 2025): windows in most layers, norms on both sides of each part. */
export const gemma: ModelDefinition<LlamaConfig> = {
  modelTypes: ['gemma2', 'gemma3_text'],
  wrappers: { gemma3: 'gemma3_text' },
  config: readConfig,
  build(g, w, c) {
    // The reference holds the factor in the type of its embedding.
    const embeddingScale = g.dtype === 'bf16' ? roundToBf16(c.embeddingScale!) : c.embeddingScale;
    return buildDecoder(g, w, { ...c, embeddingScale }, dense);
  },
  vocabSize: (c) => c.vocabSize,
};

/** The nearest value of 8 significant bits, ties to even. */
export function roundToBf16(x: number): number {
  const bits = new Uint32Array(Float32Array.of(x).buffer);
  bits[0] = (bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) & 0xffff0000;
  return new Float32Array(bits.buffer)[0]!;
}

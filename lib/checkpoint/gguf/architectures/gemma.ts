// Gemma 2 and the text model of Gemma 3: a file's norms have the 1 that the models add.
import { type Architecture, type Config, pair, shifted, type Tensors } from '../architecture.js';
import type { ArchitectureKeys } from '../keys.js';
import { ropeParameters } from './llama.js';
import { layerNumbers } from './mamba.js';
import { attentionOf, decoderConfig, gatedMlp, hasBias } from './transformers.js';

const WINDOWS = 'attention.sliding_window_pattern';

/** What llama.cpp knows of an architecture that its files need not say. */
interface Standard {
  /** Distance of the layers that see all, the first of them at its end. */
  readonly period: number;
  /** Layers of the 27B, whose queries are divided by the root of the model's width over its heads. */
  readonly layersByWidth: number;
}
const STANDARDS: Readonly<Record<GemmaName, Standard>> = {
  gemma2: { period: 2, layersByWidth: 46 },
  gemma3: { period: 6, layersByWidth: 62 },
};
type GemmaName = 'gemma2' | 'gemma3';

/** Base of the rotations of Gemma 3's windows where a file does not say it. */
export const LOCAL_BASE = 10_000;

/** Layers that see all, by their distance; 0: none does. */
export const seesAll = (layer: number, period: number): boolean => (layer + 1) % period === 0;

export const standardPeriod = (name: GemmaName): number => STANDARDS[name].period;

/** query_pre_attn_scalar of the published models, which no key says: a head's width, and of the 27B another. */
export const standardScalar = (
  name: GemmaName,
  m: { layers: number; dModel: number; nHeads: number; headDim: number },
): number => (m.layers === STANDARDS[name].layersByWidth ? m.dModel / m.nHeads : m.headDim);

function layerTypes(keys: ArchitectureKeys, period: number): string[] {
  const listed = keys.isList(WINDOWS) ? keys.perLayer(WINDOWS) : undefined;
  const every = listed ? 0 : keys.count(WINDOWS, period);
  const slides = (i: number) => (listed ? listed[i] !== 0 : !seesAll(i, every));
  return layerNumbers(keys.layers).map((i) => (slides(i) ? 'sliding_attention' : 'full_attention'));
}

const gemma = (
  name: GemmaName,
  own: (keys: ArchitectureKeys, tensors: Tensors) => Config | Promise<Config>,
  headNorms: boolean,
): Architecture => ({
  name,
  modelTypes: [name === 'gemma2' ? 'gemma2' : 'gemma3_text'],
  async config(keys, tensors) {
    const common = decoderConfig(keys, tensors);
    return {
      model_type: name === 'gemma2' ? 'gemma2' : 'gemma3_text',
      ...common,
      query_pre_attn_scalar: standardScalar(name, {
        layers: keys.layers,
        dModel: common.hidden_size as number,
        nHeads: common.num_attention_heads as number,
        headDim: common.head_dim as number,
      }),
      attention_bias: hasBias(tensors),
      ...(await own(keys, tensors)),
    };
  },
  pairings: (_, layers) => [
    pair('token_embd.weight', 'model.embed_tokens.weight'),
    shifted('output_norm.weight', 'model.norm.weight', 1),
    pair('output.weight', 'lm_head.weight'),
    ...layerNumbers(layers).flatMap((i) => {
      const [blk, hf] = [`blk.${i}`, `model.layers.${i}`];
      const norms = {
        attn_norm: 'input_layernorm',
        post_attention_norm: 'post_attention_layernorm',
        ffn_norm: 'pre_feedforward_layernorm',
        post_ffw_norm: 'post_feedforward_layernorm',
        ...(headNorms && { attn_q_norm: 'self_attn.q_norm', attn_k_norm: 'self_attn.k_norm' }),
      };
      return [
        ...Object.entries(norms).map(([x, norm]) => shifted(`${blk}.${x}.weight`, `${hf}.${norm}.weight`, 1)),
        ...attentionOf(blk, `${hf}.self_attn`),
        ...gatedMlp(blk, `${hf}.mlp`),
      ];
    }),
  ],
});

export const gemma2 = gemma(
  'gemma2',
  async (keys, tensors) => ({
    layer_types: layerTypes(keys, STANDARDS.gemma2.period),
    sliding_window: keys.count('attention.sliding_window', 4096),
    attn_logit_softcapping: keys.number('attn_logit_softcapping', 50),
    final_logit_softcapping: keys.number('final_logit_softcapping', 30),
    rope_parameters: await ropeParameters(keys, tensors),
  }),
  false,
);

export const gemma3 = gemma(
  'gemma3',
  async (keys, tensors) => {
    const window = keys.count('attention.sliding_window', 0);
    const cap = keys.number('final_logit_softcapping', 0);
    const grown = keys.number('rope.scaling.attn_factor', 1);
    if (grown !== 1 && window > 0)
      // llama.cpp scales the rotations of windows by it too
      throw keys.error('rope.scaling.attn_factor', `expected 1 beside layers with windows, received ${grown}`);
    return {
      ...(window > 0
        ? { sliding_window: window, layer_types: layerTypes(keys, STANDARDS.gemma3.period) }
        : { layer_types: layerNumbers(keys.layers).map(() => 'full_attention') }),
      final_logit_softcapping: cap > 0 ? cap : null,
      rope_parameters: {
        full_attention: await ropeParameters(keys, tensors, 1e6),
        sliding_attention: { rope_type: 'default', rope_theta: keys.number('rope.freq_base_swa', LOCAL_BASE) },
      },
    };
  },
  true,
);

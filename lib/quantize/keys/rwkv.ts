import { f32, u32 } from '../../checkpoint/gguf/pairs.js';
import { StatespaceError } from '../../errors.js';
import type { rwkv6 as rwkv6Model } from '../../models/rwkv6.js';
import type { rwkv7 as rwkv7Model } from '../../models/rwkv7.js';
import { type ConfigOf, contextLength, type Written } from './written.js';

/** Columns of a tensor of the checkpoint. */
type Columns = (name: string) => number;

/** Epsilon of the norm behind the heads, which llama.cpp does not read. */
const HEAD_EPS = 64e-5;

function common(
  c: Pick<ConfigOf<typeof rwkv6Model>, 'nLayers' | 'dModel' | 'dFf' | 'eps' | 'rescaleEvery' | 'rescaled'>,
  heads: { headSize: number; eps: number },
) {
  const otherEps = Math.abs(heads.eps - HEAD_EPS) > 1e-9;
  // Halving the stream was for f16; where the weights are the model's own it is in the epsilons alone.
  const scales = c.rescaleEvery > 0 && !c.rescaled;
  return {
    layers: c.nLayers,
    keys: {
      context_length: contextLength({}),
      embedding_length: u32(c.dModel),
      block_count: u32(c.nLayers),
      'attention.layer_norm_epsilon': f32(c.eps),
      'wkv.head_size': u32(heads.headSize),
      feed_forward_length: u32(c.dFf),
      'attention.head_count': u32(0),
    },
    beyond: {
      ...(otherEps && { head_size_divisor: Math.sqrt(heads.eps / 1e-5) }),
      ...(scales && { rescale_every: c.rescaleEvery, rescaled: false }),
    },
    notes: [
      ...(otherEps ? [`it norms the heads with an epsilon of ${HEAD_EPS}, the model with ${heads.eps}`] : []),
      ...(heads.headSize % 64 === 0
        ? []
        : [`on machines with AVX-512 it gives wrong logits for heads of ${heads.headSize} channels`]),
    ],
  };
}

export function rwkv6(c: ConfigOf<typeof rwkv6Model>, columns: Columns): Written {
  const { nHeads, headSize } = c.mixer;
  if (c.version !== 6 || nHeads * headSize !== c.dModel)
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `quantize: GGUF holds RWKV 6 with heads as wide as the model, received RWKV ${c.version} with ${nHeads * headSize} of ${c.dModel} channels`,
    );
  const { keys, ...rest } = common(c, c.mixer);
  return {
    architecture: 'rwkv6',
    ...rest,
    keys: {
      ...keys,
      rescale_every_n_layers: u32(c.rescaled ? c.rescaleEvery : 0),
      time_mix_extra_dim: u32(columns('blocks.0.att.time_maa_w1') / 5),
      time_decay_extra_dim: u32(columns('blocks.0.att.time_decay_w1')),
    },
    config: {},
  };
}

export function rwkv7(c: ConfigOf<typeof rwkv7Model>, columns: Columns): Written {
  if ('fla' in c && !(c.normFirst && c.normBias))
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      'quantize: GGUF holds RWKV-7 with a norm behind the embedding and biases of norms: norm_first and norm_bias must be true',
    );
  const { keys, beyond, ...rest } = common('fla' in c ? { ...c, rescaleEvery: 0 } : c, c.mixer);
  const rank = (name: string) => u32(columns(`blocks.0.att.${name}`));
  const mixed = c.nLayers > 1 ? 'blocks.1.att.v1' : 'blocks.0.att.a1';
  return {
    architecture: 'rwkv7',
    ...rest,
    keys: {
      ...keys,
      'attention.decay_lora_rank': rank('w1'),
      'attention.iclr_lora_rank': rank('a1'),
      'attention.value_residual_mix_lora_rank': u32(columns(mixed)),
      'attention.gate_lora_rank': rank('g1'),
    },
    config: { head_size: c.mixer.headSize },
    beyond: { ...beyond, ...(c.mixer.roundedKeys && { fuse_norm: true }) },
  };
}

import { bool, f32, u32 } from '../../checkpoint/gguf/pairs.js';
import type { mamba as mambaModel } from '../../models/mamba.js';
import type { mamba2 as mamba2Model } from '../../models/mamba2.js';
import {
  askedConvBias,
  biasNotes,
  type ConfigOf,
  contextLength,
  layersOf,
  mamba2Channels,
  mamba2Keys,
  type Written,
} from './written.js';

const noAttention = { feed_forward_length: u32(0), 'attention.head_count': u32(0) };

/** Mamba and FalconMamba. */
export function mamba(c: ConfigOf<typeof mambaModel>): Written {
  const { mixer: m } = c;
  const otherEps = m.innerNorms !== undefined && m.innerNorms.eps !== c.eps;
  return {
    architecture: 'mamba',
    layers: c.nLayers,
    keys: {
      context_length: contextLength({}),
      embedding_length: u32(c.dModel),
      ...noAttention,
      block_count: u32(c.nLayers),
      'ssm.conv_kernel': u32(m.dConv),
      'ssm.inner_size': u32(m.dInner),
      'ssm.state_size': u32(m.dState),
      'ssm.time_step_rank': u32(m.dtRank),
      'attention.layer_norm_rms_epsilon': f32(c.eps),
      'ssm.dt_b_c_rms': bool(m.innerNorms !== undefined),
    },
    config: {},
    beyond: otherEps ? { mixer_rms_eps: m.innerNorms!.eps } : {},
    notes: [
      ...(otherEps ? [`it norms dt, B and C with an epsilon of ${c.eps}, the model with ${m.innerNorms!.eps}`] : []),
      ...(m.dInner === 2 * c.dModel ? [] : [`it refuses the file: it asks for twice ${c.dModel} channels`]),
      ...biasNotes(m),
    ],
    asked: askedConvBias(m, m.dInner, layersOf(c.nLayers)),
  };
}

export function mamba2(c: ConfigOf<typeof mamba2Model>): Written {
  const { keys, beyond, notes } = mamba2Keys(c.mixer);
  return {
    architecture: 'mamba2',
    layers: c.nLayers,
    keys: {
      context_length: contextLength({}),
      embedding_length: u32(c.dModel),
      ...noAttention,
      block_count: u32(c.nLayers),
      ...keys,
      'attention.layer_norm_rms_epsilon': f32(c.eps),
    },
    config: { n_groups: c.mixer.nGroups },
    beyond,
    notes,
    asked: askedConvBias(c.mixer, mamba2Channels(c.mixer), layersOf(c.nLayers)),
  };
}

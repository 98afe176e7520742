import { f32, u32 } from '../../checkpoint/gguf/pairs.js';
import type { falconH1 as falconModel } from '../../models/falcon-h1.js';
import {
  askedConvBias,
  type ConfigOf,
  contextLength,
  layersOf,
  mamba2Channels,
  mamba2Keys,
  type Raw,
  ropeKeys,
  type Written,
} from './written.js';

/** Falcon-H1, whose multipliers become part of the weights: a file has no keys for them. */
export function falconH1(c: ConfigOf<typeof falconModel>, raw: Raw): Written {
  const { attention: a, mamba, multipliers: m } = c;
  const mixer = mamba2Keys({ ...mamba, bias: mamba.bias });
  const rope = ropeKeys(a, raw);
  const before = mamba.norm?.normBeforeGate === true;
  return {
    architecture: 'falcon-h1',
    layers: c.nLayers,
    keys: {
      vocab_size: u32(c.vocabSize),
      context_length: contextLength(raw, 8192),
      embedding_length: u32(c.dModel),
      feed_forward_length: u32(c.mlp.dFf),
      block_count: u32(c.nLayers),
      'attention.head_count': u32(a.nHeads),
      'attention.head_count_kv': u32(a.nHeadsKv),
      'attention.key_length': u32(a.headDim),
      'attention.value_length': u32(a.headDim),
      'attention.layer_norm_rms_epsilon': f32(c.eps),
      ...mixer.keys,
      ...rope.keys,
    },
    config: { mamba_n_groups: mamba.nGroups },
    beyond: {
      ...mixer.beyond,
      ...rope.beyond,
      ...(before && { mamba_norm_before_gate: true }),
    },
    notes: [
      ...mixer.notes,
      ...rope.notes,
      ...(a.qkvBias || a.outBias ? ['it does not add all biases of attention'] : []),
      ...(before ? ['it gates before the norm of the mixer, the model behind it'] : []),
    ],
    asked: askedConvBias(mamba, mamba2Channels(mamba), layersOf(c.nLayers)),
    ropeDivisors: rope.ropeDivisors,
    factor: (name) => factorOf(c, name),
    untied: c.tied && m.embedding !== m.head,
  };
}

/** What a weight or a bias is multiplied by for a runtime that knows no multipliers. */
function factorOf(c: ConfigOf<typeof falconModel>, name: string): number | readonly number[] {
  const { multipliers: m, mamba } = c;
  const isWeight = name.endsWith('.weight');
  const [gate, down] = c.mlp.multipliers ?? [1, 1];
  const part = /([a-z_]+)\.(?:weight|bias)$/.exec(name)?.[1];
  switch (part) {
    case 'embed_tokens':
      return m.embedding;
    case 'lm_head':
      return m.head;
    case 'q_proj':
    case 'v_proj':
      return isWeight ? m.attentionIn : 1;
    case 'k_proj':
      return (c.attention.keyScale ?? 1) * (isWeight ? m.attentionIn : 1);
    case 'o_proj':
      return m.attentionOut;
    case 'in_proj': {
      const states = mamba.nGroups * mamba.dState;
      const widths = [mamba.dInner, mamba.dInner, states, states, mamba.nHeads]; // z, x, B, C, dt
      return widths.flatMap((width, i) =>
        new Array<number>(width).fill((isWeight ? m.ssmIn : 1) * (mamba.multipliers?.[i] ?? 1)),
      );
    }
    case 'out_proj':
      return m.ssmOut;
    case 'gate_proj':
      return gate;
    case 'down_proj':
      return down;
    default:
      return 1;
  }
}

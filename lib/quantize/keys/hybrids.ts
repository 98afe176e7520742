// Jamba, Granite 4, Bamba, LFM2, Nemotron-H, Qwen3-Next.
import { bool, bools, f32, i32s, u32 } from '../../checkpoint/gguf/pairs.js';
import type { AttentionLayerOptions } from '../../layers/attention.js';
import type { bamba as bambaModel } from '../../models/bamba.js';
import type { graniteMoeHybrid } from '../../models/granitemoehybrid.js';
import type { jamba as jambaModel } from '../../models/jamba.js';
import type { lfm2 as lfm2Model } from '../../models/lfm2.js';
import type { nemotronH as nemotronModel } from '../../models/nemotron-h.js';
import type { qwen3Next as qwenModel } from '../../models/qwen3-next.js';
import {
  askedConvBias,
  biasNotes,
  type ConfigOf,
  checkPairs,
  contextLength,
  expertCounts,
  headSizes,
  headsKv,
  layersOf,
  mamba2Channels,
  mamba2Keys,
  NO_DIVISORS,
  type Raw,
  ropeKeys,
  type Written,
} from './written.js';

export function jamba(c: ConfigOf<typeof jambaModel>, raw: Raw): Written {
  const { attention: a, mamba: m } = c;
  const otherHeads = a.headDim * a.nHeads !== c.dModel;
  return {
    architecture: 'jamba',
    layers: c.nLayers,
    keys: {
      block_count: u32(c.nLayers),
      context_length: contextLength(raw, 262144),
      embedding_length: u32(c.dModel),
      feed_forward_length: u32(c.dFf),
      'attention.head_count': u32(a.nHeads),
      'attention.head_count_kv': headsKv(layersOf(c.nLayers).map(c.isAttention), a.nHeadsKv),
      ...headSizes(a, c.dModel, raw),
      'ssm.conv_kernel': u32(m.dConv),
      'ssm.inner_size': u32(m.dInner),
      'ssm.state_size': u32(m.dState),
      'ssm.time_step_rank': u32(m.dtRank),
      'attention.layer_norm_rms_epsilon': f32(c.eps),
      ...expertCounts(c.experts, c.topK),
    },
    config: { num_experts: c.experts },
    beyond: otherHeads ? { head_dim: a.headDim } : {},
    notes: biasNotes(m),
    asked: askedConvBias(
      m,
      m.dInner,
      layersOf(c.nLayers).filter((i) => !c.isAttention(i)),
    ),
  };
}

export function granite(c: ConfigOf<typeof graniteMoeHybrid>, raw: Raw): Written {
  const { attention: a } = c;
  const mixer = mamba2Keys(c.mamba);
  const rope = ropeKeys(a, raw);
  const layers = c.kinds.length;
  return {
    architecture: 'granitehybrid',
    layers,
    keys: {
      ...hybridKeys(c, a, raw, a.rope === undefined),
      'attention.head_count_kv': headsKv(
        c.kinds.map((kind) => kind === 'full_attention'),
        a.nHeadsKv,
      ),
      feed_forward_length: u32(c.experts > 0 ? c.dExpert : c.dShared),
      'rope.freq_base': f32(10000),
      ...rope.keys,
      'rope.dimension_count': u32(a.headDim),
      'rope.scaling.finetuned': bool(a.rope !== undefined),
      'attention.scale': f32(a.scale ?? 1 / Math.sqrt(a.headDim)),
      embedding_scale: f32(c.embeddingMultiplier),
      residual_scale: f32(c.residualMultiplier),
      logit_scale: f32(c.logitsScaling),
      expert_shared_feed_forward_length: u32(c.dShared),
      expert_count: u32(c.experts),
      expert_used_count: u32(c.experts > 0 ? c.topK : 0),
      ...mixer.keys,
    },
    config: {
      model_type: 'granitemoehybrid',
      head_dim: a.headDim,
      mamba_n_groups: c.mamba.nGroups,
      num_local_experts: c.experts,
    },
    beyond: { ...mixer.beyond, ...rope.beyond },
    notes: [...mixer.notes, ...rope.notes],
    asked: askedConvBias(
      c.mamba,
      mamba2Channels(c.mamba),
      layersOf(layers).filter((i) => c.kinds[i] !== 'full_attention'),
    ),
    ropeDivisors: rope.ropeDivisors,
  };
}

export function bamba(c: ConfigOf<typeof bambaModel>, raw: Raw): Written {
  const { attention: a } = c;
  if (c.attentionLayers.size > 0) checkPairs('granitehybrid', a.headDim);
  const mixer = mamba2Keys(c.mamba);
  const rotaryDim = a.rope?.rotaryDim ?? a.headDim;
  const partial = rotaryDim < a.headDim;
  const rope = ropeKeys(a, raw);
  return {
    architecture: 'granitehybrid',
    layers: c.nLayers,
    keys: {
      ...hybridKeys(c, a, raw),
      'attention.head_count_kv': headsKv(
        layersOf(c.nLayers).map((i) => c.attentionLayers.has(i)),
        a.nHeadsKv,
      ),
      feed_forward_length: u32(c.dFf),
      ...rope.keys,
      'rope.dimension_count': u32(rotaryDim),
      'rope.scaling.finetuned': bool(true),
      ...mixer.keys,
    },
    config: { model_type: 'bamba', head_dim: a.headDim, mamba_n_groups: c.mamba.nGroups },
    beyond: {
      ...mixer.beyond,
      // Where a file says the whole head, readers take Bamba's half.
      ...((!partial || 'rope_parameters' in rope.beyond) && {
        rope_parameters: {
          ...a.rope!.scaling,
          rope_theta: a.rope!.theta,
          partial_rotary_factor: rotaryDim / a.headDim,
          ...(rope.beyond.rope_parameters as object | undefined),
        },
      }),
    },
    notes: [
      ...mixer.notes,
      ...rope.notes,
      ...(partial ? [`it turns other channels than the first ${rotaryDim} of ${a.headDim} of each head`] : []),
    ],
    asked: askedConvBias(
      c.mamba,
      mamba2Channels(c.mamba),
      layersOf(c.nLayers).filter((i) => !c.attentionLayers.has(i)),
    ),
    ropeDivisors: rope.ropeDivisors,
  };
}

/** Keys that the hybrids begin with. */
function hybridKeys(
  c: { dModel: number; eps: number; vocabSize: number; kinds?: readonly unknown[]; nLayers?: number },
  a: AttentionLayerOptions,
  raw: Raw,
  endless = false,
) {
  return {
    block_count: u32(c.kinds?.length ?? c.nLayers!),
    context_length: contextLength(endless ? {} : raw),
    embedding_length: u32(c.dModel),
    vocab_size: u32(c.vocabSize),
    'attention.head_count': u32(a.nHeads),
    ...headSizes(a, c.dModel, raw),
    'attention.layer_norm_rms_epsilon': f32(c.eps),
  };
}

export function lfm2(c: ConfigOf<typeof lfm2Model>, raw: Raw): Written {
  const { attention: a, moe } = c;
  const rope = ropeKeys(a, raw);
  return {
    architecture: moe ? 'lfm2moe' : 'lfm2',
    layers: c.kinds.length,
    keys: {
      ...hybridKeys(c, a, { max_position_embeddings: 128000, ...raw }),
      'attention.head_count_kv': headsKv(
        c.kinds.map((kind) => kind === 'full_attention'),
        a.nHeadsKv,
      ),
      feed_forward_length: u32(c.dFf),
      'shortconv.l_cache': u32(c.conv.dConv),
      ...rope.keys,
      ...(moe && {
        ...expertCounts(moe.experts, moe.topK),
        expert_feed_forward_length: u32(moe.dFf),
        leading_dense_block_count: u32(c.moeFrom),
        expert_gating_func: u32(2),
        expert_weights_norm: bool(moe.renormalize),
        ...(moe.routing!.scale !== 1 && { expert_weights_scale: f32(moe.routing!.scale!) }),
      }),
    },
    config: { num_experts: moe?.experts ?? 0 },
    beyond: rope.beyond,
    asked: layersOf(moe ? c.kinds.length : 0)
      .filter((i) => i >= c.moeFrom)
      .map((i) => ({ name: `blk.${i}.exp_probs_b.bias`, length: moe!.experts })),
    notes: [
      ...rope.notes,
      ...(c.conv.bias ? ['it refuses the file: it knows no biases of the short convolutions'] : []),
      ...(rope.ropeDivisors ? [NO_DIVISORS] : []),
      ...(moe && !moe.renormalize ? ["it divides the experts' weights by their sum, the model does not"] : []),
      ...(moe && moe.routing!.scale !== 1
        ? [`it does not multiply the experts' weights by ${moe.routing!.scale}, the model does`]
        : []),
    ],
    ropeDivisors: rope.ropeDivisors,
  };
}

export function nemotronH(c: ConfigOf<typeof nemotronModel>, raw: Raw): Written {
  const { attention: a, moe } = c;
  if (c.kinds.includes('full_attention')) checkPairs('nemotron_h', a.headDim);
  const routed = c.kinds.includes('moe');
  const mixer = mamba2Keys({ ...c.mamba, dtLimit: undefined });
  const low = c.mamba.dtLimit![0];
  const relu2 = c.activation === 'relu2';
  const width = { mlp: c.dFf, moe: moe.dFf, full_attention: 0, linear_attention: 0 };
  return {
    architecture: routed ? 'nemotron_h_moe' : 'nemotron_h',
    layers: c.kinds.length,
    keys: {
      ...hybridKeys(c, a, raw, true),
      'attention.layer_norm_rms_epsilon': undefined,
      'attention.layer_norm_epsilon': f32(c.eps),
      'attention.head_count_kv': headsKv(
        c.kinds.map((kind) => kind === 'full_attention'),
        a.nHeadsKv,
      ),
      'attention.key_length': u32(a.headDim),
      'attention.value_length': u32(a.headDim),
      feed_forward_length: i32s(c.kinds.map((kind) => width[kind])),
      'rope.dimension_count': u32(Math.floor(c.dModel / a.nHeads)), // nothing is turned
      'rope.scaling.finetuned': bool(false),
      ...mixer.keys,
      ...(routed && {
        ...expertCounts(moe.experts, moe.topK),
        expert_group_count: u32(moe.routing!.groups ?? 1),
        expert_group_used_count: u32(moe.routing!.topkGroups ?? 1),
        expert_feed_forward_length: u32(moe.dFf),
        expert_shared_feed_forward_length: u32(c.dShared),
        expert_shared_count: u32(1),
        moe_latent_size: c.dLatent === undefined ? undefined : u32(c.dLatent),
        expert_weights_norm: bool(moe.renormalize),
        expert_weights_scale: f32(moe.routing!.scale ?? 1),
      }),
    },
    config: { n_routed_experts: routed ? moe.experts : 0, n_groups: c.mamba.nGroups, head_dim: a.headDim },
    beyond: {
      ...(low !== 0.001 && { time_step_min: low }),
      ...(!relu2 && { mlp_hidden_act: raw.mlp_hidden_act }),
    },
    notes: [
      ...mixer.notes,
      ...(low > 0 && c.kinds.includes('linear_attention') ? [`it does not hold dt to ${low} at least`] : []),
      ...(relu2 ? [] : [`it takes relu squared for the model's ${String(raw.mlp_hidden_act)}`]),
      ...(routed && c.mlpBias ? ['it refuses the file: it knows no biases of the shared expert'] : []),
      ...(routed && c.kinds.includes('mlp')
        ? ['it refuses the file: it knows no layers without experts beside layers with them']
        : []),
    ],
    asked: askedConvBias(
      c.mamba,
      mamba2Channels(c.mamba),
      layersOf(c.kinds.length).filter((i) => c.kinds[i] === 'linear_attention'),
    ),
  };
}

export function qwen3Next(c: ConfigOf<typeof qwenModel>, raw: Raw): Written {
  const { attention: a, delta, moe } = c;
  const rope = ropeKeys(a, raw);
  const attends = c.kinds.map((kind) => kind === 'full_attention');
  const first = attends.indexOf(true);
  return {
    architecture: 'qwen3next',
    layers: c.kinds.length,
    keys: {
      ...hybridKeys(c, a, raw),
      'attention.key_length': u32(a.headDim),
      'attention.value_length': u32(a.headDim),
      'attention.head_count_kv': u32(a.nHeadsKv),
      feed_forward_length: u32(c.dFf),
      ...rope.keys,
      'rope.dimension_count': u32(a.rope!.rotaryDim ?? a.headDim),
      ...expertCounts(moe.experts, moe.topK),
      expert_feed_forward_length: u32(moe.dFf),
      expert_shared_feed_forward_length: u32(c.dShared),
      'ssm.conv_kernel': u32(delta.dConv),
      'ssm.state_size': u32(delta.keyDim),
      'ssm.group_count': u32(delta.nKeyHeads),
      'ssm.time_step_rank': u32(delta.nValueHeads),
      'ssm.inner_size': u32(delta.nValueHeads * delta.valueDim),
      'attention.recurrent_layers': bools(attends.map((is) => !is)),
      full_attention_interval: u32(first < 0 ? c.kinds.length + 1 : first + 1),
    },
    config: {
      num_experts: moe.experts,
      linear_num_key_heads: delta.nKeyHeads,
      linear_num_value_heads: delta.nValueHeads,
      linear_key_head_dim: delta.keyDim,
      linear_value_head_dim: delta.valueDim,
    },
    beyond: { ...rope.beyond, ...(!moe.renormalize && { norm_topk_prob: false }) },
    notes: [
      ...rope.notes,
      ...(moe.renormalize ? [] : ["it divides the experts' weights by their sum"]),
      ...(rope.ropeDivisors ? [NO_DIVISORS] : []),
      ...(delta.valueDim === delta.keyDim ? [] : ['it refuses the file: it takes values to be as wide as keys']),
      ...(a.bias ? ['it refuses the file: it knows no biases of attention'] : []),
      ...(c.kinds.some((_, i) => !c.isMoe(i)) ? ['it refuses the file: it knows no layers without experts'] : []),
    ],
    ropeDivisors: rope.ropeDivisors,
  };
}

// What builders of layers are told: a name that is none would be left out in silence, and a value that is none of its kind
// would be seen in some shape that follows from it.
import type { AttentionLayerOptions, AttentionOptions, RopeOptions } from './attention.js';
import type { BidirectionalOptions } from './bidirectional.js';
import type { CcaOptions } from './cca.js';
import type { DeltaNetOptions } from './delta-net.js';
import type { HyenaOptions } from './hyena.js';
import type { KdaOptions } from './kda.js';
import {
  bounds,
  checkKinds,
  even,
  finite,
  flag,
  integer,
  type Kinds,
  name,
  names,
  needed,
  nested,
  notNegative,
  numbers,
  object,
  oneOf,
  positive,
  size,
  twoSizes,
  value,
} from './kinds.js';
import type { Activation, HeadOptions, LinearOptions, LowRank } from './linear.js';
import type { Conv1dOptions, MambaOptions } from './mamba.js';
import type { Mamba2Options } from './mamba2.js';
import type { Mamba3Options } from './mamba3.js';
import type { MlaOptions } from './mla.js';
import type { MlpLayerOptions, MlpOptions } from './mlp.js';
import type { MoeOptions, RoutingOptions } from './moe.js';
import type { HeadRmsNormOptions, LayerNormOptions, RmsNormOptions } from './norms.js';
import type { RetentionOptions } from './retention.js';
import type { ChannelMixOptions, MixOptions } from './rwkv.js';
import type { Rwkv4Options } from './rwkv4.js';
import type { Rwkv5Options, Rwkv6Options } from './rwkv6.js';
import type { Rwkv7Options } from './rwkv7.js';
import type { S4dOptions } from './s4d.js';
import type { ShortConvOptions } from './short-conv.js';
import type { SelectiveSsmOptions, SimpleSsmOptions } from './simple-ssm.js';

interface Builders {
  rope: RopeOptions;
  attend: AttentionOptions;
  attention: AttentionLayerOptions;
  bidirectional: BidirectionalOptions;
  cca: CcaOptions;
  deltaNet: DeltaNetOptions;
  hyena: HyenaOptions;
  kda: KdaOptions;
  linear: LinearOptions;
  linearBy: LinearOptions;
  adapted: LowRank;
  head: HeadOptions;
  conv1d: Conv1dOptions;
  mamba: MambaOptions;
  mamba2: Mamba2Options;
  mamba3: Mamba3Options;
  mla: MlaOptions;
  gatedMlp: MlpOptions;
  mlp: MlpLayerOptions;
  moe: MoeOptions;
  rmsNorm: RmsNormOptions;
  headRmsNorm: HeadRmsNormOptions;
  layerNorm: LayerNormOptions;
  retention: RetentionOptions;
  rwkvChannelMix: ChannelMixOptions;
  tokenMixes: MixOptions;
  rwkv4: Rwkv4Options;
  rwkv5: Rwkv5Options;
  rwkv6: Rwkv6Options;
  rwkv7: Rwkv7Options;
  s4d: S4dOptions;
  shortConv: ShortConvOptions;
  simpleSSM: SimpleSsmOptions;
  selectiveSSM: SelectiveSsmOptions;
}

const activation = oneOf(
  ...([
    'none',
    'silu',
    'gelu',
    'gelu-tanh',
    'sigmoid',
    'tanh',
    'relu',
    'relu2',
    'exp',
    'softplus',
  ] satisfies Activation[]),
);
const mode = oneOf('auto', 'recurrent', 'convolution');
/** What is built one by one. */
const MOST_PARTS = 1024;
const part = integer(1, MOST_PARTS);
const residual = value;
const eps = needed(notNegative);

const LOW_RANK: Kinds<LowRank> = { rank: needed(size), down: needed(name), up: needed(name) };
const lowRank = nested<LowRank>(LOW_RANK);

const ROPE: Kinds<RopeOptions> = {
  theta: needed(positive),
  rotaryDim: size,
  exponentDim: size,
  interleaved: flag,
  scaling: object,
  length: size,
};

const ATTEND: Kinds<AttentionOptions> = {
  nHeads: needed(size),
  nHeadsKv: needed(size),
  headDim: needed(size),
  scale: finite,
  window: integer(0),
  softcap: notNegative,
  causal: flag,
  rope: nested<AttentionOptions['rope']>(ROPE),
};

const LINEAR: Kinds<LinearOptions> = { bias: flag, residual, activation };

const RWKV5: Kinds<Rwkv5Options> = { nHeads: needed(size), headSize: needed(size), eps, residual };

const KINDS: { readonly [B in keyof Builders]: Kinds<Builders[B]> } = {
  rope: ROPE,
  attend: ATTEND,
  attention: {
    ...ATTEND,
    qkvBias: flag,
    outBias: flag,
    names: nested<AttentionLayerOptions['names']>({
      q: needed(name),
      k: needed(name),
      v: needed(name),
      out: needed(name),
    }),
    fused: name,
    qkNorm: nested<AttentionLayerOptions['qkNorm']>({
      eps,
      over: needed(oneOf('head', 'projection')),
      unitOffset: flag,
      names: nested<{ q: string; k: string }>({ q: needed(name), k: needed(name) }),
    }),
    keyScale: finite,
    adapters: nested<AttentionLayerOptions['adapters']>({
      q: needed(lowRank),
      k: needed(lowRank),
      v: needed(lowRank),
    }),
    dOut: size,
    residual,
  },
  bidirectional: { merge: oneOf('sum', 'concat'), residual },
  cca: { ...ATTEND, taps: needed(twoSizes), bias: needed(flag), residual },
  deltaNet: {
    nKeyHeads: needed(size),
    nValueHeads: needed(size),
    keyDim: needed(size),
    valueDim: needed(size),
    dConv: needed(size),
    betaFactor: needed(finite),
    eps,
    residual,
    convolves: flag,
    gated: flag,
  },
  hyena: {
    lMax: needed(size),
    order: part,
    filterOrder: size,
    embDim: size,
    innerMlps: integer(0, MOST_PARTS),
    shortFilterOrder: size,
    modulate: flag,
    shift: finite,
    trainedPositions: flag,
    filterBias: flag,
    initial: nested<HyenaOptions['initial']>({ w: finite, fastDecay: finite, slowDecay: finite, target: finite }),
    residual,
  },
  kda: {
    nHeads: needed(size),
    headDim: needed(size),
    dConv: needed(size),
    eps,
    lowerBound: finite,
    residual,
  },
  linear: LINEAR,
  linearBy: LINEAR,
  adapted: LOW_RANK,
  head: { bias: value, scale: finite, softcap: positive },
  conv1d: { dConv: needed(size), bias: flag, activation: oneOf('none', 'silu'), name },
  mamba: {
    dInner: needed(size),
    dState: needed(size),
    dConv: needed(size),
    dtRank: needed(size),
    bias: flag,
    convBias: flag,
    innerNorms: nested<MambaOptions['innerNorms']>({
      eps,
      names: nested<{ dt: string; B: string; C: string }>({ dt: needed(name), B: needed(name), C: needed(name) }),
    }),
    residual,
  },
  mamba2: {
    dInner: needed(size),
    dMlp: integer(0),
    nHeads: needed(size),
    headDim: needed(size),
    dState: needed(size),
    nGroups: needed(size),
    dConv: needed(size),
    bias: flag,
    outBias: flag,
    convBias: flag,
    dtLimit: bounds,
    dPerChannel: flag,
    multipliers: numbers(5),
    norm: nested<Mamba2Options['norm']>({ eps, groupSize: size, normBeforeGate: flag }),
    residual,
  },
  mamba3: {
    nHeads: needed(size),
    headDim: needed(size),
    nGroups: needed(size),
    dState: needed(size),
    angles: needed(size),
    rank: size,
    aFloor: needed(notNegative),
    outNorm: needed(flag),
    eps,
    residual,
  },
  mla: {
    nHeads: needed(size),
    kvRank: needed(size),
    qRank: size,
    nopeDim: needed(size),
    ropeDim: needed(integer(0)),
    valueDim: needed(size),
    eps,
    bias: flag,
    residual,
  },
  gatedMlp: {
    dFf: needed(size),
    activation,
    bias: flag,
    names: nested<MlpOptions['names']>({ gate: needed(name), up: needed(name), down: needed(name) }),
    fused: name,
    adapter: lowRank,
    multipliers: numbers(2),
    limit: notNegative,
    residual,
  },
  mlp: {
    dFf: needed(size),
    activation,
    bias: flag,
    names: nested<MlpLayerOptions['names']>({ up: needed(name), down: needed(name) }),
    residual,
  },
  moe: {
    experts: needed(size),
    topK: needed(size),
    dFf: needed(size),
    renormalize: needed(flag),
    routing: nested<RoutingOptions>({
      score: needed(oneOf('softmax', 'sigmoid')),
      eps: notNegative,
      scale: finite,
      groups: size,
      topkGroups: size,
      bias: name,
    }),
    routerInput: value,
    activation,
    limit: notNegative,
    names: needed(
      nested<MoeOptions['names']>({
        router: needed(name),
        experts: needed(name),
        gate: name,
        up: needed(name),
        down: needed(name),
      }),
    ),
    packed: nested<MoeOptions['packed']>({ gateUp: needed(name), down: needed(name) }),
  },
  rmsNorm: { eps, weight: flag, groupSize: size, z: value, normBeforeGate: flag, unitOffset: flag },
  headRmsNorm: { eps, unitOffset: flag, z: value, normBeforeGate: flag },
  layerNorm: { eps, groupSize: size, bias: flag },
  retention: { nHeads: needed(size), dValue: needed(size), eps, residual },
  rwkvChannelMix: { dFf: needed(size), version: needed(oneOf(4, 5, 6, 7)), residual: needed(residual) },
  tokenMixes: { names: needed(names), of: oneOf('current', 'previous') },
  rwkv4: { dAtt: needed(size), residual },
  rwkv5: RWKV5,
  rwkv6: { ...RWKV5, mixRank: size, decayRank: size },
  rwkv7: {
    ...RWKV5,
    layout: oneOf('official', 'fla'),
    roundedKeys: flag,
    firstValues: value,
    ranks: nested<Rwkv7Options['ranks']>({ decay: size, rate: size, value: size, gate: size }),
  },
  s4d: { dState: even, mode, residual },
  shortConv: { dConv: needed(size), bias: flag, residual },
  simpleSSM: { dState: needed(size), mode, residual },
  selectiveSSM: { dState: needed(size), dConv: size, residual },
};

/** ERR_ARGUMENT for an option that this builder does not know, with the one that was meant, or whose value cannot be. */
export function checkLayer<B extends keyof Builders>(builder: B, options: Builders[B]): void {
  checkKinds(`layers.${builder}`, options, KINDS[builder]);
}

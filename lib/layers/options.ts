// What builders of layers are told: a name that is none would be left out in silence.
import { checkOptions } from '../options.js';
import type { AttentionLayerOptions, AttentionOptions, RopeOptions } from './attention.js';
import type { BidirectionalOptions } from './bidirectional.js';
import type { CcaOptions } from './cca.js';
import type { DeltaNetOptions } from './delta-net.js';
import type { HyenaOptions } from './hyena.js';
import type { KdaOptions } from './kda.js';
import type { HeadOptions, LinearOptions, LowRank } from './linear.js';
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

/** The keys of T, every one of them: the compiler refuses a list that lacks one. */
const every =
  <T>() =>
  <const K extends readonly (keyof T)[]>(...keys: K & ([keyof T] extends [K[number]] ? unknown : never)) =>
    keys as readonly string[];

const ATTEND = ['nHeads', 'nHeadsKv', 'headDim', 'scale', 'window', 'softcap', 'causal', 'rope'] as const;

const KNOWN: Readonly<Record<keyof Builders, readonly string[]>> = {
  rope: every<Builders['rope']>()('theta', 'rotaryDim', 'exponentDim', 'interleaved', 'scaling', 'length'),
  attend: every<Builders['attend']>()(...ATTEND),
  attention: every<Builders['attention']>()(
    ...ATTEND,
    'qkvBias',
    'outBias',
    'names',
    'fused',
    'qkNorm',
    'keyScale',
    'adapters',
    'dOut',
    'residual',
  ),
  bidirectional: every<Builders['bidirectional']>()('merge', 'residual'),
  cca: every<Builders['cca']>()(...ATTEND, 'taps', 'bias', 'residual'),
  deltaNet: every<Builders['deltaNet']>()(
    'nKeyHeads',
    'nValueHeads',
    'keyDim',
    'valueDim',
    'dConv',
    'betaFactor',
    'eps',
    'residual',
    'convolves',
    'gated',
  ),
  hyena: every<Builders['hyena']>()(
    'lMax',
    'order',
    'filterOrder',
    'embDim',
    'innerMlps',
    'shortFilterOrder',
    'modulate',
    'shift',
    'trainedPositions',
    'filterBias',
    'initial',
    'residual',
  ),
  kda: every<Builders['kda']>()('nHeads', 'headDim', 'dConv', 'eps', 'lowerBound', 'residual'),
  linear: every<Builders['linear']>()('bias', 'residual', 'activation'),
  linearBy: every<Builders['linearBy']>()('bias', 'residual', 'activation'),
  adapted: every<Builders['adapted']>()('rank', 'down', 'up'),
  head: every<Builders['head']>()('bias', 'scale', 'softcap'),
  conv1d: every<Builders['conv1d']>()('dConv', 'bias', 'activation', 'name'),
  mamba: every<Builders['mamba']>()(
    'dInner',
    'dState',
    'dConv',
    'dtRank',
    'bias',
    'convBias',
    'innerNorms',
    'residual',
  ),
  mamba2: every<Builders['mamba2']>()(
    'dInner',
    'dMlp',
    'nHeads',
    'headDim',
    'dState',
    'nGroups',
    'dConv',
    'bias',
    'outBias',
    'convBias',
    'dtLimit',
    'dPerChannel',
    'multipliers',
    'norm',
    'residual',
  ),
  mamba3: every<Builders['mamba3']>()(
    'nHeads',
    'headDim',
    'nGroups',
    'dState',
    'angles',
    'rank',
    'aFloor',
    'outNorm',
    'eps',
    'residual',
  ),
  mla: every<Builders['mla']>()(
    'nHeads',
    'kvRank',
    'qRank',
    'nopeDim',
    'ropeDim',
    'valueDim',
    'eps',
    'bias',
    'residual',
  ),
  gatedMlp: every<Builders['gatedMlp']>()(
    'dFf',
    'activation',
    'bias',
    'names',
    'fused',
    'adapter',
    'multipliers',
    'limit',
    'residual',
  ),
  mlp: every<Builders['mlp']>()('dFf', 'activation', 'bias', 'names', 'residual'),
  moe: every<Builders['moe']>()(
    'experts',
    'topK',
    'dFf',
    'renormalize',
    'routing',
    'routerInput',
    'activation',
    'limit',
    'names',
    'packed',
  ),
  rmsNorm: every<Builders['rmsNorm']>()('eps', 'weight', 'groupSize', 'z', 'normBeforeGate', 'unitOffset'),
  headRmsNorm: every<Builders['headRmsNorm']>()('eps', 'unitOffset', 'z', 'normBeforeGate'),
  layerNorm: every<Builders['layerNorm']>()('eps', 'groupSize', 'bias'),
  retention: every<Builders['retention']>()('nHeads', 'dValue', 'eps', 'residual'),
  rwkvChannelMix: every<Builders['rwkvChannelMix']>()('dFf', 'version', 'residual'),
  tokenMixes: every<Builders['tokenMixes']>()('names', 'of'),
  rwkv4: every<Builders['rwkv4']>()('dAtt', 'residual'),
  rwkv5: every<Builders['rwkv5']>()('nHeads', 'headSize', 'eps', 'residual'),
  rwkv6: every<Builders['rwkv6']>()('nHeads', 'headSize', 'eps', 'residual', 'mixRank', 'decayRank'),
  rwkv7: every<Builders['rwkv7']>()(
    'nHeads',
    'headSize',
    'eps',
    'layout',
    'roundedKeys',
    'firstValues',
    'ranks',
    'residual',
  ),
  s4d: every<Builders['s4d']>()('dState', 'mode', 'residual'),
  shortConv: every<Builders['shortConv']>()('dConv', 'bias', 'residual'),
  simpleSSM: every<Builders['simpleSSM']>()('dState', 'mode', 'residual'),
  selectiveSSM: every<Builders['selectiveSSM']>()('dState', 'dConv', 'residual'),
};

/** Of options that are options themselves, by their names. */
const NESTED: Readonly<Record<string, readonly string[]>> = {
  rope: KNOWN.rope,
  adapter: KNOWN.adapted,
  routing: every<RoutingOptions>()('score', 'eps', 'scale', 'groups', 'topkGroups', 'bias'),
  qkNorm: every<NonNullable<AttentionLayerOptions['qkNorm']>>()('eps', 'over', 'unitOffset', 'names'),
  innerNorms: every<NonNullable<MambaOptions['innerNorms']>>()('eps', 'names'),
  norm: every<NonNullable<Mamba2Options['norm']>>()('eps', 'groupSize', 'normBeforeGate'),
  ranks: every<NonNullable<Rwkv7Options['ranks']>>()('decay', 'rate', 'value', 'gate'),
  initial: every<NonNullable<HyenaOptions['initial']>>()('w', 'fastDecay', 'slowDecay', 'target'),
};

/** ERR_ARGUMENT for an option that this builder does not know, with the one that was meant. */
export function checkLayer<B extends keyof Builders>(builder: B, options: Builders[B]): void {
  checkOptions(`layers.${builder}`, options, KNOWN[builder]);
  for (const [key, value] of Object.entries(options)) {
    const known = NESTED[key];
    if (known && value !== undefined) checkOptions(`layers.${builder}: ${key}`, value, known);
  }
}

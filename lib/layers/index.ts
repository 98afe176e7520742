/** The building blocks of networks: what model files are made of, and what networks of one's own are. */
export {
  type AttentionLayerOptions,
  type AttentionOptions,
  attend,
  attention,
  type RopeOptions,
  rope,
} from './attention.js';
export { type BidirectionalOptions, bidirectional } from './bidirectional.js';
export { type CcaOptions, cca } from './cca.js';
export { type DeltaNetOptions, deltaNet } from './delta-net.js';
export { type HyenaOptions, hyena } from './hyena.js';
export { type KdaOptions, kda } from './kda.js';
export {
  type Activation,
  adapted,
  addScaled,
  concat,
  embedding,
  type HeadOptions,
  head,
  type LinearOptions,
  type LowRank,
  linear,
  linearBy,
  scaled,
} from './linear.js';
export { type Conv1dOptions, conv1d, type MambaOptions, mamba } from './mamba.js';
export { type Mamba2Options, mamba2 } from './mamba2.js';
export { type Mamba3Options, mamba3 } from './mamba3.js';
export { type MlaOptions, mla } from './mla.js';
export { gatedMlp, type MlpLayerOptions, type MlpOptions, mlp } from './mlp.js';
export { type MoeOptions, moe, weightedExpert } from './moe.js';
export {
  type HeadRmsNormOptions,
  headRmsNorm,
  type LayerNormOptions,
  layerNorm,
  type RmsNormOptions,
  rmsNorm,
} from './norms.js';
export { activate, multiply, relu } from './pointwise.js';
export { maxPool, meanPool } from './pooling.js';
export { type RetentionOptions, retention } from './retention.js';
export { type ChannelMixOptions, type MixOptions, rwkvChannelMix, tokenMixes } from './rwkv.js';
export { type Rwkv4Options, rwkv4 } from './rwkv4.js';
export { type Rwkv5Options, type Rwkv6Options, rwkv5, rwkv6 } from './rwkv6.js';
export { type Rwkv7Options, rwkv7 } from './rwkv7.js';
export { type S4dOptions, s4d } from './s4d.js';
export { type ShortConvOptions, shortConv } from './short-conv.js';
export { type SelectiveSsmOptions, type SimpleSsmOptions, selectiveSSM, simpleSSM } from './simple-ssm.js';

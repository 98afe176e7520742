// The public eager ops: each is asynchronous and has a synchronous twin under the same name + "Sync".
export {
  type AttentionArgs,
  type AttentionBackwardArgs,
  type AttentionGradients,
  type AttentionResult,
  attention,
  attentionBackward,
  attentionBackwardSync,
  attentionSync,
} from './attention.js';
export {
  type CausalConv1dArgs,
  type CausalConv1dBackwardArgs,
  type CausalConv1dGradients,
  type CausalConv1dResult,
  causalConv1d,
  causalConv1dBackward,
  causalConv1dBackwardSync,
  causalConv1dSync,
} from './causal-conv1d.js';
export {
  type CrossEntropyArgs,
  type CrossEntropyBackwardArgs,
  type CrossEntropyGradients,
  type CrossEntropyResult,
  crossEntropy,
  crossEntropyBackward,
  crossEntropyBackwardSync,
  crossEntropySync,
  type LinearCrossEntropyArgs,
  type LinearCrossEntropyResult,
  linearCrossEntropy,
  linearCrossEntropySync,
} from './cross-entropy.js';
export { type DeltaRuleArgs, type DeltaRuleResult, deltaRule, deltaRuleSync } from './delta-rule.js';
export {
  type DiscretizeArgs,
  type DiscretizeMethod,
  type DiscretizeResult,
  discretize,
  discretizeSync,
} from './discretize.js';
export {
  type DiscretizeDenseArgs,
  type DiscretizeDenseResult,
  discretizeDense,
  discretizeDenseSync,
} from './discretize-dense.js';
export {
  type EmbeddingArgs,
  type EmbeddingBackwardArgs,
  type EmbeddingGradients,
  type EmbeddingResult,
  embedding,
  embeddingBackward,
  embeddingBackwardSync,
  embeddingSync,
} from './embedding.js';
export {
  type FftConvArgs,
  type FftConvBackwardArgs,
  type FftConvGradients,
  type FftConvResult,
  fftConv,
  fftConvBackward,
  fftConvBackwardSync,
  fftConvSync,
} from './fft-conv.js';
export {
  type GatedDeltaRuleArgs,
  type GatedDeltaRuleBackwardArgs,
  type GatedDeltaRuleGradients,
  type GatedDeltaRuleResult,
  gatedDeltaRule,
  gatedDeltaRuleBackward,
  gatedDeltaRuleBackwardSync,
  gatedDeltaRuleSync,
} from './gated-delta-rule.js';
export {
  type GlaArgs,
  type GlaBackwardArgs,
  type GlaGradients,
  type GlaResult,
  gla,
  glaBackward,
  glaBackwardSync,
  glaSync,
} from './gla.js';
export type { GradientCall, GradientCallSync, Gradients } from './gradient.js';
export type { HeadRecurrenceArgs, HeadRecurrenceResult } from './head-recurrence.js';
export { type HippoArgs, type HippoResult, hippo, hippoSync } from './hippo.js';
export { type KdaArgs, type KdaResult, kda, kdaSync } from './kda.js';
export {
  type LayerNormArgs,
  type LayerNormBackwardArgs,
  type LayerNormGradients,
  type LayerNormResult,
  layerNorm,
  layerNormBackward,
  layerNormBackwardSync,
  layerNormSync,
} from './layer-norm.js';
export {
  type LightningAttentionArgs,
  type LightningAttentionResult,
  lightningAttention,
  lightningAttentionSync,
} from './lightning-attention.js';
export {
  type LinearArgs,
  type LinearBackwardArgs,
  type LinearGradients,
  type LinearResult,
  linear,
  linearBackward,
  linearBackwardSync,
  linearSync,
} from './linear.js';
export {
  type Mamba3Args,
  type Mamba3BackwardArgs,
  type Mamba3Gradients,
  type Mamba3Result,
  type Mamba3State,
  mamba3,
  mamba3Backward,
  mamba3BackwardSync,
  mamba3Sync,
} from './mamba3.js';
export {
  type MoeArgs,
  type MoeBackwardArgs,
  type MoeGradients,
  type MoeResult,
  moe,
  moeBackward,
  moeBackwardSync,
  moeSync,
} from './moe.js';
export {
  type RetentionArgs,
  type RetentionBackwardArgs,
  type RetentionGradients,
  type RetentionResult,
  retention,
  retentionBackward,
  retentionBackwardSync,
  retentionSync,
} from './retention.js';
export {
  type RgLruArgs,
  type RgLruBackwardArgs,
  type RgLruGradients,
  type RgLruResult,
  rgLru,
  rgLruBackward,
  rgLruBackwardSync,
  rgLruSync,
} from './rg-lru.js';
export {
  type RmsNormArgs,
  type RmsNormBackwardArgs,
  type RmsNormGradients,
  type RmsNormResult,
  rmsNorm,
  rmsNormBackward,
  rmsNormBackwardSync,
  rmsNormSync,
} from './rms-norm.js';
export {
  type RopeArgs,
  type RopeBackwardArgs,
  type RopeGradients,
  type RopeResult,
  rope,
  ropeBackward,
  ropeBackwardSync,
  ropeSync,
} from './rope.js';
export { type S4KernelArgs, type S4KernelResult, s4Kernel, s4KernelSync } from './s4-kernel.js';
export { type S4RecurrentArgs, type S4RecurrentResult, s4Recurrent, s4RecurrentSync } from './s4-recurrent.js';
export type { S4System } from './s4-system.js';
export { type S4dInitArgs, type S4dInitResult, s4dInit, s4dInitSync } from './s4d-init.js';
export {
  type SelectiveScanArgs,
  type SelectiveScanBackwardArgs,
  type SelectiveScanGradients,
  type SelectiveScanResult,
  selectiveScan,
  selectiveScanBackward,
  selectiveScanBackwardSync,
  selectiveScanSync,
} from './selective-scan.js';
export {
  type SelectiveStateUpdateArgs,
  type SelectiveStateUpdateResult,
  selectiveStateUpdate,
  selectiveStateUpdateSync,
} from './selective-state-update.js';
export { type ShortConvArgs, type ShortConvResult, shortConv, shortConvSync } from './short-conv.js';
export {
  type SsdArgs,
  type SsdBackwardArgs,
  type SsdGradients,
  type SsdResult,
  ssd,
  ssdBackward,
  ssdBackwardSync,
  ssdSync,
} from './ssd.js';
export {
  type Wkv4Args,
  type Wkv4BackwardArgs,
  type Wkv4Gradients,
  type Wkv4Result,
  wkv4,
  wkv4Backward,
  wkv4BackwardSync,
  wkv4Sync,
} from './wkv4.js';
export {
  type Wkv6Args,
  type Wkv6BackwardArgs,
  type Wkv6Gradients,
  type Wkv6Result,
  wkv6,
  wkv6Backward,
  wkv6BackwardSync,
  wkv6Sync,
} from './wkv6.js';
export {
  type Wkv7Args,
  type Wkv7BackwardArgs,
  type Wkv7Gradients,
  type Wkv7Result,
  wkv7,
  wkv7Backward,
  wkv7BackwardSync,
  wkv7Sync,
} from './wkv7.js';

// The public eager ops: each is asynchronous and has a synchronous twin under the same name + "Sync".
export { type AttentionArgs, type AttentionResult, attention, attentionSync } from './attention.js';
export { type CausalConv1dArgs, type CausalConv1dResult, causalConv1d, causalConv1dSync } from './causal-conv1d.js';
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
export { type LayerNormArgs, type LayerNormResult, layerNorm, layerNormSync } from './layer-norm.js';
export { type LinearArgs, type LinearResult, linear, linearSync } from './linear.js';
export { type RmsNormArgs, type RmsNormResult, rmsNorm, rmsNormSync } from './rms-norm.js';
export { type RopeArgs, type RopeResult, rope, ropeSync } from './rope.js';
export {
  type SelectiveScanArgs,
  type SelectiveScanResult,
  selectiveScan,
  selectiveScanSync,
} from './selective-scan.js';
export {
  type SelectiveStateUpdateArgs,
  type SelectiveStateUpdateResult,
  selectiveStateUpdate,
  selectiveStateUpdateSync,
} from './selective-state-update.js';

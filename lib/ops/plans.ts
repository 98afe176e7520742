/** Calls prepared but not made, by op: benchmarks time the kernel alone, on memory that is there. */
export { plan as attention } from './attention.js';
export { plan as causalConv1d } from './causal-conv1d.js';
export { plan as fftConv } from './fft-conv.js';
export { plan as gatedDeltaRule } from './gated-delta-rule.js';
export { plan as linear } from './linear.js';
export { plan as moe } from './moe.js';
export { plan as retention } from './retention.js';
export { plan as rmsNorm } from './rms-norm.js';
export { plan as selectiveScan } from './selective-scan.js';
export { plan as ssd } from './ssd.js';
export { plan as wkv6 } from './wkv6.js';
export { plan as wkv7 } from './wkv7.js';

import { gla, kda, mamba3, rgLru } from './hybrids.js';
import type { Kernel } from './kernel.js';
import { linear, moe } from './matrices.js';
import { layerNorm, rmsNorm, rope, wkv4 } from './pointwise.js';
import { gatedDelta, retention, ssd, wkv6, wkv7 } from './recurrences.js';
import { attention, conv, fftConv, scan } from './sequence.js';

/** Every kernel that is measured, in the order in which it is shown. */
export const KERNELS: readonly Kernel[] = [
  scan,
  conv,
  linear,
  attention,
  ssd,
  retention,
  wkv4,
  wkv6,
  wkv7,
  gatedDelta,
  kda,
  gla,
  mamba3,
  rgLru,
  moe,
  fftConv,
  rmsNorm,
  layerNorm,
  rope,
];

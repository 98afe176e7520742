import { gla, kda, mamba3, rgLru } from './hybrids.js';
import type { Kernel } from './kernel.js';
import { linear, moe } from './matrices.js';
import { layerNorm, rmsNorm, rope, wkv4 } from './pointwise.js';
import { deltaRule, gatedDelta, lightning, retention, ssd, wkv6, wkv7 } from './recurrences.js';
import { attention, conv, fftConv, scan, shortConv } from './sequence.js';

/** Every kernel that is measured, in the order in which it is shown. */
export const KERNELS: readonly Kernel[] = [
  scan,
  conv,
  linear,
  attention,
  ssd,
  retention,
  lightning,
  wkv4,
  wkv6,
  wkv7,
  gatedDelta,
  deltaRule,
  kda,
  gla,
  mamba3,
  rgLru,
  shortConv,
  moe,
  fftConv,
  rmsNorm,
  layerNorm,
  rope,
];

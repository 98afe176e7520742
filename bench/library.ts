/**
 * The package's public face. It is loaded on first use: help and arithmetic must not wait for (or need) the native
 * addon.
 */
import type * as statespace from '../lib/index.js';

export type {
  CheckpointDescription,
  DType,
  Engine,
  GenerateOptions,
  LoadOptions,
  Model,
  ModelDescription,
  Session,
  SystemInfo,
  Tensor,
  TensorLike,
} from '../lib/index.js';

export type Library = typeof statespace;

/** The ops that benchmarks are made of. */
export type Ops = Pick<
  typeof statespace.ops,
  'attentionSync' | 'causalConv1dSync' | 'linearSync' | 'rmsNormSync' | 'selectiveScanSync'
>;

/** Those of the preset mixers. */
export type MixerOps = Pick<
  typeof statespace.ops,
  | 'attentionSync'
  | 'fftConvSync'
  | 'gatedDeltaRuleSync'
  | 'glaSync'
  | 'kdaSync'
  | 'mamba3Sync'
  | 'retentionSync'
  | 'rgLruSync'
  | 'shortConvSync'
  | 'ssdSync'
  | 'wkv4Sync'
  | 'wkv6Sync'
  | 'wkv7Sync'
>;

export function library(): Library {
  return require('../lib/index.js') as Library;
}

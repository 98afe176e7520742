import type { AttentionOptions } from '../layers/attention.js';
import type { RopeScaling } from '../layers/rope-frequencies.js';
import type { ConfigReader } from './config.js';

const TYPES = ['default', 'linear', 'llama3', 'yarn'] as const;

/** rope_parameters of transformers 5, or the older rope_theta and rope_scaling. */
export function readRope(c: ConfigReader, headDim: number): NonNullable<AttentionOptions['rope']> {
  const nested = c.nested('rope_parameters') ?? c.nested('rope_scaling');
  c.ignore('rope_parameters', 'rope_scaling');
  const partial = nested?.has('partial_rotary_factor')
    ? nested.number('partial_rotary_factor')
    : c.number('partial_rotary_factor', 1);
  const topTheta = c.number('rope_theta', 10000);
  const theta = nested ? nested.number('rope_theta', topTheta) : topTheta;
  const rope = { theta, rotaryDim: Math.floor(headDim * partial) };
  if (!nested) return rope;
  const type = nested.oneOf(nested.has('rope_type') ? 'rope_type' : 'type', TYPES, 'default');
  if (type === 'default') return rope;
  const original = c.raw.max_position_embeddings;
  const scaling = { original_max_position_embeddings: original, ...nested.raw, type } as RopeScaling;
  return { ...rope, scaling };
}

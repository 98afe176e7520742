import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, flag, type Kinds, needed, size, value } from './kinds.js';
import { linear } from './linear.js';
import { conv1d } from './mamba.js';

/** Of {@link shortConv}. */
export interface ShortConvOptions {
  /** Taps. */
  dConv: number;
  /** Default: false. */
  bias?: boolean | undefined;
  residual?: Value | undefined;
}

const SHORT_CONV: Kinds<ShortConvOptions> = { dConv: needed(size), bias: flag, residual: value };

/**
 * The gated short convolution of LFM2 (Liquid AI 2025): [b, c, u] = in_proj x; out_proj(c · conv(b · u)), plus
 * `residual`; x (tokens, d_model), same shape out.
 *
 * Weights: `in_proj` (3D, D), `conv` (D, 1, K), `out_proj` (D, D), with biases where `bias` says so.
 */
export function shortConv(g: Graph, x: Value, w: Weights, o: ShortConvOptions): Value {
  checkKinds('layers.shortConv', o, SHORT_CONV);
  const d = x.dims[1] as number;
  const bias = o.bias ?? false;
  const [b, c, u] = g.split(linear(g, x, w, 'in_proj', 3 * d, { bias }), 3) as [Value, Value, Value];
  const mixed = conv1d(g, g.op('gate', { x: u, gate: b }), w, {
    dConv: o.dConv,
    bias,
    activation: 'none',
    name: 'conv',
  });
  g.layers.push('short-conv');
  return linear(g, g.op('gate', { x: mixed, gate: c }), w, 'out_proj', d, { bias, residual: o.residual });
}

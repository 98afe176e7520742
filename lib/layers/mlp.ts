import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type Activation, linear } from './linear.js';

export interface MlpOptions {
  dFf: number;
  activation?: Activation;
  bias?: boolean;
  /** Names of the three projections. */
  names?: { gate: string; up: string; down: string };
  residual?: Value;
}

export interface MlpLayerOptions {
  dFf: number;
  /** Default: gelu, the exact one. */
  activation?: Activation;
  /** Default: true. */
  bias?: boolean;
  names?: { up: string; down: string };
  residual?: Value;
}

/**
 * Feed-forward of two layers, down(act(up x)) + residual: x (tokens, d_model) to (tokens, d_model). Weights: `fc1`
 * (dFf, D) and `fc2` (D, dFf), with biases.
 */
export function mlp(g: Graph, x: Value, w: Weights, o: MlpLayerOptions): Value {
  const { up, down } = o.names ?? { up: 'fc1', down: 'fc2' };
  const bias = o.bias ?? true;
  const h = linear(g, x, w, up, o.dFf, { bias, activation: o.activation ?? 'gelu' }); // (tokens, d_ff)
  return linear(g, h, w, down, x.dims[1] as number, { bias, residual: o.residual });
}

/**
 * Gated feed-forward (Shazeer 2020), down(act(gate x) · up x) + residual: x (tokens, d_model) to (tokens, d_model).
 * Weights: `gate_proj` and `up_proj` (dFf, D), `down_proj` (D, dFf).
 */
export function gatedMlp(g: Graph, x: Value, w: Weights, o: MlpOptions): Value {
  const names = o.names ?? { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };
  const dModel = x.dims[1] as number;
  const weight = w.stacked([`${names.gate}.weight`, `${names.up}.weight`], [o.dFf, dModel]);
  const bias = o.bias ? w.stacked([`${names.gate}.bias`, `${names.up}.bias`], [o.dFf], { init: 'zeros' }) : undefined;
  const [gate, up] = g.split(g.op('linear', { x, weight, bias }), 2); // (tokens, d_ff) each
  const h = g.op('gate', { x: up, gate }, { activation: o.activation ?? 'silu' });
  return linear(g, h, w, names.down, dModel, { bias: o.bias, residual: o.residual });
}

import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, flag, type Kinds, name, needed, nested, notNegative, numbers, size, value } from './kinds.js';
import {
  type Activation,
  activation,
  adapted,
  addScaled,
  type LowRank,
  linear,
  linearJoined,
  lowRank,
  scaled,
} from './linear.js';

/** Of {@link gatedMlp}. */
export interface MlpOptions {
  dFf: number;
  activation?: Activation | undefined;
  bias?: boolean | undefined;
  /** Names of the three projections. */
  names?: { gate: string; up: string; down: string } | undefined;
  /** The name of one projection that holds the rows of gate and up. */
  fused?: string | undefined;
  /** Low-rank addition to the fused projection. */
  adapter?: LowRank | undefined;
  /** Factors of the gate before its activation, and of the result. */
  multipliers?: readonly [number, number] | undefined;
  /** > 0: clamps the gate from above and up from both sides. */
  limit?: number | undefined;
  residual?: Value | undefined;
}

const GATED_MLP: Kinds<MlpOptions> = {
  dFf: needed(size),
  activation,
  bias: flag,
  names: nested<MlpOptions['names']>({ gate: needed(name), up: needed(name), down: needed(name) }),
  fused: name,
  adapter: lowRank,
  multipliers: numbers(2),
  limit: notNegative,
  residual: value,
};

/** Of {@link mlp}. */
export interface MlpLayerOptions {
  dFf: number;
  /** Default: gelu, the exact one. */
  activation?: Activation | undefined;
  /** Default: true. */
  bias?: boolean | undefined;
  names?: { up: string; down: string } | undefined;
  residual?: Value | undefined;
}

const MLP: Kinds<MlpLayerOptions> = {
  dFf: needed(size),
  activation,
  bias: flag,
  names: nested<MlpLayerOptions['names']>({ up: needed(name), down: needed(name) }),
  residual: value,
};

/**
 * Feed-forward of two layers, down(act(up x)) + residual: x (tokens, d_model) to (tokens, d_model). Weights: `fc1`
 * (dFf, D) and `fc2` (D, dFf), with biases.
 */
export function mlp(g: Graph, x: Value, w: Weights, o: MlpLayerOptions): Value {
  checkKinds('layers.mlp', o, MLP);
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
  checkKinds('layers.gatedMlp', o, GATED_MLP);
  const names = o.names ?? { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };
  const dModel = x.dims[1] as number;
  const sources = (what: 'weight' | 'bias', inner: number[]) =>
    o.fused
      ? [{ name: `${o.fused}.${what}`, shape: [2 * o.dFf, ...inner] }]
      : [names.gate, names.up].map((name) => ({ name: `${name}.${what}`, shape: [o.dFf, ...inner] }));
  const both = linearJoined(g, x, w, sources, o.bias);
  const [gate, up] = g.split(o.adapter ? adapted(g, both, x, w, o.adapter) : both, 2) as [Value, Value]; // (tokens, d_ff)
  const [ofGate, ofResult] = o.multipliers ?? [1, 1];
  const h = g.op(
    'gate',
    { x: up, gate: scaled(g, gate, ofGate) },
    { activation: o.activation ?? 'silu', limit: o.limit },
  );
  if (ofResult === 1 || !o.residual)
    return scaled(g, linear(g, h, w, names.down, dModel, { bias: o.bias, residual: o.residual }), ofResult);
  return addScaled(g, o.residual, linear(g, h, w, names.down, dModel, { bias: o.bias }), ofResult);
}

import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';

const width = (x: Value): number => x.dims.slice(1).reduce<number>((n, d) => n * (d as number), 1);

export interface RmsNormOptions {
  eps: number;
  /** False: without a weight. */
  weight?: boolean;
  /** Mean over groups of this many channels. */
  groupSize?: number;
  /** Gate: norm(x · silu(z)), or norm(x) · silu(z) with normBeforeGate. */
  z?: Value;
  normBeforeGate?: boolean;
  unitOffset?: boolean;
}

/**
 * RMSNorm (Zhang & Sennrich 2019), x (rows, channels), same shape out: x / rms(x) · w, over all channels or groups of
 * them, with an optional gate. Weight: `name.weight` (channels).
 */
export function rmsNorm(g: Graph, x: Value, w: Weights, name: string, o: RmsNormOptions): Value {
  const weight =
    o.weight === false ? undefined : w.tensor(`${name}.weight`, [width(x)], { init: o.unitOffset ? 'zeros' : 'ones' });
  return g.op(
    'rmsNorm',
    { x, weight, z: o.z },
    { eps: o.eps, groupSize: o.groupSize, normBeforeGate: o.normBeforeGate, unitOffset: o.unitOffset },
  );
}

/**
 * LayerNorm (Ba et al. 2016), x (rows, channels), same shape out; with groupSize, the group norm over heads. Weights:
 * `name.weight` and `name.bias` (channels).
 */
export function layerNorm(g: Graph, x: Value, w: Weights, name: string, o: { eps: number; groupSize?: number }): Value {
  const weight = w.tensor(`${name}.weight`, [width(x)], { init: 'ones' });
  const bias = w.tensor(`${name}.bias`, [width(x)], { init: 'zeros' });
  return g.op('layerNorm', { x, weight, bias }, { eps: o.eps, groupSize: o.groupSize });
}

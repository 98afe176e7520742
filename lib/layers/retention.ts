import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { checkDivides, checkKinds, eps, type Kinds, needed, size, value } from './kinds.js';
import { linear, linearBy } from './linear.js';
import { rmsNorm } from './norms.js';

/** Of {@link retention}. */
export interface RetentionOptions {
  nHeads: number;
  /** Width of the values, all heads together; d_model is that of queries and keys. */
  dValue: number;
  /** Of the weightless norm over each head's output. */
  eps: number;
  residual?: Value | undefined;
}

const RETENTION: Kinds<RetentionOptions> = { nHeads: needed(size), dValue: needed(size), eps, residual: value };

/** ln γ_h = ln(1 − 2^(−5−h)). */
export const retentionDecays = (nHeads: number): Float32Array =>
  Float32Array.from({ length: nHeads }, (_, h) => Math.log1p(-(2 ** (-5 - h))));

/** Angles per position, 10000^(−j/(n−1)) for j < n = keys/2: the last one is 1/10000 itself, unlike in RoPE. */
export const retentionAngles = (keyDim: number): Float32Array => {
  const n = keyDim / 2;
  return Float32Array.from({ length: n }, (_, j) => 10000 ** (n > 1 ? -j / (n - 1) : 0));
};

const constant = (g: Graph, values: () => Float32Array, length: number): Value =>
  g.weight({ sources: [], matrix: false, transform: values, init: [], activeShare: 1 }, [length]);

/** Multi-scale retention (Sun et al. 2023, section 2.2) as torchscale has it: x (tokens, d_model) to the same. */
export function retention(g: Graph, x: Value, w: Weights, o: RetentionOptions): Value {
  checkKinds('layers.retention', o, RETENTION);
  const { nHeads, dValue } = o;
  const dModel = x.dims[1] as number;
  checkDivides('layers.retention', ['2 · nHeads', 2 * nHeads], ['d_model', dModel]);
  checkDivides('layers.retention', ['nHeads', nHeads], ['dValue', dValue]);
  const [keyDim, valueDim] = [dModel / nHeads, dValue / nHeads];
  const rows = { q_proj: dModel, k_proj: dModel, v_proj: dValue, g_proj: dValue };
  const weight = w.combined(
    Object.entries(rows).map(([name, n]) => ({ name: `${name}.weight`, shape: [n, dModel] })),
    [2 * dModel + 2 * dValue, dModel],
  );
  const projected = linearBy(g, x, weight); // rows [q | k | v | g]
  const invFreq = constant(g, () => retentionAngles(keyDim), keyDim / 2);
  const rotated = (first: number) =>
    g.op('rope', { x: g.view(projected, first, nHeads, keyDim), invFreq }, { interleaved: true });
  const logDecay = constant(g, () => retentionDecays(nHeads), nHeads);
  const y = g.op('retention', {
    q: rotated(0),
    k: rotated(dModel),
    v: g.view(projected, 2 * dModel, nHeads, valueDim),
    logDecay,
    state: g.state([nHeads, keyDim, valueDim]),
  }); // (tokens, nheads, value)
  const scaled = g.reshape(g.op('retentionScale', { x: y, logDecay }), dValue);
  const normed = rmsNorm(g, scaled, w, '', { eps: o.eps, weight: false, groupSize: valueDim });
  const gate = g.view(projected, 2 * dModel + dValue, dValue);
  const gated = g.op('gate', { x: normed, gate }, { activation: 'silu' });
  return linear(g, gated, w, 'out_proj', dModel, { residual: o.residual });
}

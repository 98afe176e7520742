import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, type Kinds, needed, size, value } from './kinds.js';
import { linear } from './linear.js';
import { ramp, tokenMixes, vector } from './rwkv.js';

/** Of {@link rwkv4}. */
export interface Rwkv4Options {
  /** Width of the mixer. */
  dAtt: number;
  residual?: Value | undefined;
}

const RWKV4: Kinds<Rwkv4Options> = { dAtt: needed(size), residual: value };

/** RWKV-4's time mix (Peng et al. 2023, section 3): x (tokens, d_model) to (tokens, d_model). */
export function rwkv4(g: Graph, x: Value, w: Weights, o: Rwkv4Options): Value {
  checkKinds('layers.rwkv4', o, RWKV4);
  const { dAtt, residual } = o;
  const [xk, xv, xr] = tokenMixes(g, x, w, { names: ['time_mix_k', 'time_mix_v', 'time_mix_r'] });
  const y = g.op('wkv4', {
    k: linear(g, xk!, w, 'key', dAtt),
    v: linear(g, xv!, w, 'value', dAtt),
    timeDecay: vector(w, 'time_decay', [dAtt], ramp(dAtt, -5, 3), undefined, [dAtt]),
    timeFirst: vector(w, 'time_first', [dAtt], ramp(dAtt, Math.log(0.3), Math.log(0.3)), undefined, [dAtt]),
    state: g.state([3, dAtt], [0, 0, -1e38]), // numerator, denominator, the exponent both are divided by
  }); // (tokens, d_att)
  const r = linear(g, xr!, w, 'receptance', dAtt);
  const gated = g.op('gate', { x: y, gate: r }, { activation: 'sigmoid' });
  return linear(g, gated, w, 'output', x.dims[1] as number, { residual });
}

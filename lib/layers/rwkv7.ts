import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { linear, scaled } from './linear.js';
import { headNorm, lora, loraRank, ramp, tokenMixes, vector } from './rwkv.js';

export interface Rwkv7Options {
  nHeads: number;
  headSize: number;
  /** Of the group norm over heads; 64e-5 in the published models. */
  eps: number;
  /** The first layer's values, which later layers mix theirs with; undefined: this is the first layer. */
  firstValues?: Value;
  /** Ranks of the low-rank products; default: the checkpoint's, else what the published models have at this width. */
  ranks?: { decay?: number; rate?: number; value?: number; gate?: number };
  residual?: Value;
}

const multipleOf32 = (x: number): number => Math.max(32, Math.round(x / 32) * 32);

/**
 * The time mix of RWKV-7, Goose (Peng et al. 2025, section 4): x (tokens, d_model) to (tokens, d_model), and the
 * values, as the first layer's are used by all.
 */
export function rwkv7(g: Graph, x: Value, w: Weights, o: Rwkv7Options): { y: Value; values: Value } {
  const { nHeads, headSize, ranks = {} } = o;
  const d = nHeads * headSize; // d_model as well
  const names = ['x_r', 'x_w', 'x_k', 'x_v', 'x_a', 'x_g'];
  const [xr, xw, xk, xv, xa, xg] = tokenMixes(g, x, w, { names, of: 'previous' }) as [
    Value,
    Value,
    Value,
    Value,
    Value,
    Value,
  ];
  const perHead = (v: Value) => g.reshape(v, nHeads, headSize);
  const headVector = (name: string, value: number) => vector(w, name, [nHeads, headSize], ramp(d, value, value));
  const root = Math.sqrt(d);

  // log w = -e^{-1/2} σ(w0 + tanh(x_w w1) w2), so that w lies in (0.545, 1)
  const decay = lora(g, xw, w, {
    names: ['w1', 'w2'],
    rank: loraRank(w, 'w1', ranks.decay, multipleOf32(1.8 * root)),
    inner: 'tanh',
    out: d,
    bias: vector(w, 'w0', [d], ramp(d, -6.5, -1.5)),
    activation: 'sigmoid',
  });
  const logDecay = perHead(scaled(g, decay, -Math.exp(-0.5)));
  const rate = lora(g, xa, w, {
    names: ['a1', 'a2'],
    rank: loraRank(w, 'a1', ranks.rate, multipleOf32(1.8 * root)),
    out: d,
    bias: vector(w, 'a0', [d], 'zeros'),
    activation: 'sigmoid',
  });
  const gate = lora(g, xg, w, {
    names: ['g1', 'g2'],
    rank: loraRank(w, 'g1', ranks.gate, multipleOf32(0.6 * d ** 0.8)),
    inner: 'sigmoid',
    out: d,
  });

  const r = perHead(linear(g, xr, w, 'receptance', d));
  let values = linear(g, xv, w, 'value', d);
  if (o.firstValues) {
    const share = lora(g, xv, w, {
      names: ['v1', 'v2'],
      rank: loraRank(w, 'v1', ranks.value, multipleOf32(1.3 * root)),
      out: d,
      bias: vector(w, 'v0', [d], 'ones'),
      activation: 'sigmoid',
    });
    values = g.op('lerp', { a: values, b: o.firstValues, w: share });
  }
  const keys = g.op('wkv7Keys', {
    k: perHead(linear(g, xk, w, 'key', d)),
    a: perHead(rate),
    kk: headVector('k_k', 0.85),
    ka: headVector('k_a', 1),
  }); // (tokens, 3, nheads, head_size)
  const [k, remove, add] = [0, 1, 2].map((i) => g.view(keys, i * d, nHeads, headSize)) as [Value, Value, Value];
  const v = perHead(values);
  const state = g.state([nHeads, headSize, headSize]);
  const y = g.op('wkv7', { r, w: logDecay, k, v, a: remove, b: add, state }); // (tokens, nheads, head_size)
  const normed = perHead(headNorm(g, y, w, o.eps));
  const whole = g.reshape(g.op('wkv7Bonus', { x: normed, r, k, v, u: headVector('r_k', 0) }), d);
  const gated = g.op('gate', { x: whole, gate });
  return { y: linear(g, gated, w, 'output', d, { residual: o.residual }), values };
}

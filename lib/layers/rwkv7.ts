import type { Graph, Value } from '../graph/graph.js';
import type { Init } from '../graph/weight-spec.js';
import type { Weights } from '../graph/weights.js';
import { unitHeads } from './delta-net.js';
import { checkKinds, flag, type Kinds, nested, oneOf, size, value } from './kinds.js';
import { type Activation, linear, linearBy, scaled } from './linear.js';
import { headNorm, lora, loraRank, ramp, tokenMixes, vector } from './rwkv.js';
import { RWKV5 } from './rwkv6.js';

/** Of {@link rwkv7}. */
export interface Rwkv7Options {
  nHeads: number;
  headSize: number;
  /** Of the group norm over heads; 64e-5 in the published models. */
  eps: number;
  /**
   * Names and shapes of the weights: of the official releases (default), or of flash-linear-attention, whose low-rank
   * products are Linear layers.
   */
  layout?: 'official' | 'fla' | undefined;
  /** A key's length is sqrt(Σ + 1e-6), as flash-linear-attention's fused norm has it, and not at least 1e-12. */
  roundedKeys?: boolean | undefined;
  /** The first layer's values, which later layers mix theirs with; undefined: this is the first layer. */
  firstValues?: Value | undefined;
  /** Ranks of the low-rank products; default: the checkpoint's, else what the published models have at this width. */
  ranks?: { decay?: number; rate?: number; value?: number; gate?: number } | undefined;
  residual?: Value | undefined;
}

const RWKV7: Kinds<Rwkv7Options> = {
  ...RWKV5,
  layout: oneOf('official', 'fla'),
  roundedKeys: flag,
  firstValues: value,
  ranks: nested<Rwkv7Options['ranks']>({ decay: size, rate: size, value: size, gate: size }),
};

const NAMES = {
  official: { receptance: 'receptance', key: 'key', value: 'value', output: 'output', norm: 'ln_x' },
  fla: { receptance: 'r_proj', key: 'k_proj', value: 'v_proj', output: 'o_proj', norm: 'g_norm' },
};

interface LowRankOptions {
  inner?: Activation | undefined;
  bias?: Init | 'ones' | 'zeros' | undefined;
  activation?: Activation | undefined;
}

/** act(inner(x W1) W2 + bias) by its letter: `w1`, `w2`, `w0` of the releases, or `w_lora.lora.{0,2}`. */
function lowRank(g: Graph, w: Weights, d: number, layout: 'official' | 'fla') {
  return (x: Value, letter: string, configured: number | undefined, standard: number, o: LowRankOptions): Value => {
    if (layout === 'official') {
      return lora(g, x, w, {
        names: [`${letter}1`, `${letter}2`],
        rank: loraRank(w, `${letter}1`, configured, standard),
        inner: o.inner,
        out: d,
        bias: o.bias && vector(w, `${letter}0`, [d], o.bias),
        activation: o.activation,
      });
    }
    const names = w.scope(`${letter}_lora`, 'lora');
    const rank = configured ?? names.stored('0.weight')?.[0] ?? standard;
    const inner = linear(g, x, names, '0', rank, { activation: o.inner });
    const bias = o.bias && names.tensor('2.bias', [d], { init: o.bias });
    return linearBy(g, inner, names.tensor('2.weight', [d, rank]), bias, { activation: o.activation });
  };
}

const multipleOf32 = (x: number): number => Math.max(32, Math.round(x / 32) * 32);

type KeyVectors = { kk: Value; ka: Value };

/** The key that is added, the one that is removed along, and the one that is written back along: (tokens, heads, size). */
function threeKeys(g: Graph, k: Value, a: Value, vectors: KeyVectors): [Value, Value, Value] {
  const [heads, size] = k.dims.slice(1) as [number, number];
  const keys = g.op('wkv7Keys', { k, a, ...vectors }); // (tokens, 3, nheads, head_size)
  return [0, 1, 2].map((i) => g.view(keys, i * heads * size, heads, size)) as [Value, Value, Value];
}

/** The same keys, for lengths that are rounded: k and a (tokens, d_model). */
function roundedKeys(
  g: Graph,
  w: Weights,
  k: Value,
  a: Value,
  o: { nHeads: number; headSize: number },
): [Value, Value, Value] {
  const d = k.dims[1] as number;
  const perHead = (v: Value) => g.reshape(v, o.nHeads, o.headSize);
  const scaledBy = (name: string, start: number) =>
    g.op('affine', { x: k, scale: vector(w, name, [d], ramp(d, start, start)) });
  const kappa = unitHeads(g, w, scaledBy('k_k', 0.85), o.headSize);
  // k + (a - 1)∘k∘ka
  const change = scaledBy('k_a', 1);
  const rest = g.op('add', { a: k, b: change }, { beta: -1 });
  const key = g.op('add', { a: rest, b: g.op('gate', { x: change, gate: a }) });
  return [key, scaled(g, kappa, -1), g.op('gate', { x: kappa, gate: a })].map(perHead) as [Value, Value, Value];
}

/**
 * The time mix of RWKV-7, Goose (Peng et al. 2025, section 4): x (tokens, d_model) to (tokens, d_model), and the
 * values, as the first layer's are used by all.
 */
export function rwkv7(g: Graph, x: Value, w: Weights, o: Rwkv7Options): { y: Value; values: Value } {
  checkKinds('layers.rwkv7', o, RWKV7);
  const { nHeads, headSize, ranks = {} } = o;
  const d = nHeads * headSize; // d_model as well
  const names = NAMES[o.layout ?? 'official'];
  const mixes = ['x_r', 'x_w', 'x_k', 'x_v', 'x_a', 'x_g'];
  const [xr, xw, xk, xv, xa, xg] = tokenMixes(g, x, w, { names: mixes, of: 'previous' }) as [
    Value,
    Value,
    Value,
    Value,
    Value,
    Value,
  ];
  const perHead = (v: Value) => g.reshape(v, nHeads, headSize);
  const headVector = (name: string, value: number, release?: number[]) =>
    vector(w, name, [nHeads, headSize], ramp(d, value, value), undefined, release);
  const root = Math.sqrt(d);

  const low = lowRank(g, w, d, o.layout ?? 'official');
  // log w = -e^{-1/2} σ(w0 + tanh(x_w w1) w2), so that w lies in (0.545, 1)
  const decay = low(xw, 'w', ranks.decay, multipleOf32(1.8 * root), {
    inner: 'tanh',
    bias: ramp(d, -6.5, -1.5),
    activation: 'sigmoid',
  });
  const logDecay = perHead(scaled(g, decay, -Math.exp(-0.5)));
  const rate = low(xa, 'a', ranks.rate, multipleOf32(1.8 * root), { bias: 'zeros', activation: 'sigmoid' });
  const gate = low(xg, 'g', ranks.gate, multipleOf32(0.6 * d ** 0.8), { inner: 'sigmoid' });

  const r = perHead(linear(g, xr, w, names.receptance, d));
  let values = linear(g, xv, w, names.value, d);
  if (o.firstValues) {
    const share = low(xv, 'v', ranks.value, multipleOf32(1.3 * root), { bias: 'ones', activation: 'sigmoid' });
    values = g.op('lerp', { a: values, b: o.firstValues, w: share });
  }
  const projected = linear(g, xk, w, names.key, d);
  const [k, remove, add] = o.roundedKeys
    ? roundedKeys(g, w, projected, rate, o)
    : threeKeys(g, perHead(projected), perHead(rate), {
        kk: headVector('k_k', 0.85, [1, 1, d]),
        ka: headVector('k_a', 1, [1, 1, d]),
      });
  const v = perHead(values);
  const state = g.state([nHeads, headSize, headSize]);
  const y = g.op('wkv7', { r, w: logDecay, k, v, a: remove, b: add, state }); // (tokens, nheads, head_size)
  const normed = perHead(headNorm(g, y, w, o.eps, names.norm));
  const whole = g.reshape(g.op('wkv7Bonus', { x: normed, r, k, v, u: headVector('r_k', 0) }), d);
  const gated = g.op('gate', { x: whole, gate });
  return { y: linear(g, gated, w, names.output, d, { residual: o.residual }), values };
}

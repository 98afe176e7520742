import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, eps, type Kinds, needed, size, value } from './kinds.js';
import { linear, linearBy, scaled } from './linear.js';
import { negativeExp } from './mamba.js';
import { headNorm, lora, loraRank, ramp, rightProduct, tokenMixes, transposed, vector } from './rwkv.js';

/** Of {@link rwkv5}. */
export interface Rwkv5Options {
  nHeads: number;
  headSize: number;
  /** Of the group norm over heads, on the undivided output: 1e-5 · head_size_divisor². */
  eps: number;
  residual?: Value | undefined;
}

export const RWKV5: Kinds<Rwkv5Options> = { nHeads: needed(size), headSize: needed(size), eps, residual: value };

/** Of {@link rwkv6}. */
export interface Rwkv6Options extends Rwkv5Options {
  /** Ranks of the low-rank products; default: the checkpoint's, else 32 and 64 (64 and 128 from width 4096). */
  mixRank?: number | undefined;
  decayRank?: number | undefined;
}

const RWKV6: Kinds<Rwkv6Options> = { ...RWKV5, mixRank: size, decayRank: size };

interface Mixed {
  r: Value;
  k: Value;
  v: Value;
  g: Value;
}

/** What versions 5 and 6 do with their mixed inputs and log decays: wkv per head, group norm, gate, output. */
function heads(g: Graph, mixed: Mixed, logDecay: Value, w: Weights, dModel: number, o: Rwkv5Options): Value {
  const { nHeads, headSize } = o;
  const dAtt = nHeads * headSize;
  const project = (x: Value, name: string) => g.reshape(linear(g, x, w, name, dAtt), nHeads, headSize);
  const y = g.op('wkv6', {
    r: project(mixed.r, 'receptance'),
    k: project(mixed.k, 'key'),
    v: project(mixed.v, 'value'),
    w: logDecay,
    u: vector(w, 'time_faaaa', [nHeads, headSize], ramp(dAtt, 0, 1)),
    state: g.state([nHeads, headSize, headSize]),
  }); // (tokens, nheads, head_size)
  const gate = linear(g, mixed.g, w, 'gate', dAtt);
  const gated = g.op('gate', { x: headNorm(g, y, w, o.eps), gate }, { activation: 'silu' });
  return linear(g, gated, w, 'output', dModel, { residual: o.residual });
}

/** The time mix of RWKV-5.2, Eagle (Peng et al. 2024, section 4.1): x (tokens, d_model) to (tokens, d_model). */
export function rwkv5(g: Graph, x: Value, w: Weights, o: Rwkv5Options): Value {
  checkKinds('layers.rwkv5', o, RWKV5);
  const names = ['time_mix_r', 'time_mix_k', 'time_mix_v', 'time_mix_g'];
  const [xr, xk, xv, xg] = tokenMixes(g, x, w, { names });
  const dAtt = o.nHeads * o.headSize;
  const logDecay = vector(w, 'time_decay', [o.nHeads, o.headSize], ramp(dAtt, -6, -1), negativeExp);
  return heads(g, { r: xr!, k: xk!, v: xv!, g: xg! }, logDecay, w, x.dims[1] as number, o);
}

/** The five data-dependent mixes of a token with its predecessor, in the order of the checkpoint's matrices. */
function dynamicMixes(g: Graph, x: Value, w: Weights, rank: number): [Value, Value, Value, Value, Value] {
  const dModel = x.dims[1] as number;
  const previous = g.op('tokenShift', { x, state: g.state([dModel]) });
  const base = g.op('lerp', { a: x, b: previous, w: vector(w, 'time_maa_x', [dModel], ramp(dModel, 0, 1)) });
  const inner = rightProduct(g, base, w, 'time_maa_w1', 5 * rank, { activation: 'tanh' }); // (tokens, 5 rank)
  const mix = (j: number, name: string): Value => {
    const weight = w.tensor('time_maa_w2', [dModel, rank], {
      stored: [5, rank, dModel],
      matrix: true,
      init: { uniform: 0.01 },
      transform: transposed(rank, dModel, j * rank * dModel),
      part: j,
    });
    const bias = vector(w, `time_maa_${name}`, [dModel], ramp(dModel, 0, 1));
    return g.op('lerp', { a: x, b: previous, w: linearBy(g, g.view(inner, j * rank, rank), weight, bias) });
  };
  return [mix(0, 'w'), mix(1, 'k'), mix(2, 'v'), mix(3, 'r'), mix(4, 'g')];
}

/** The time mix of RWKV-6, Finch (Peng et al. 2024, section 4.2): x (tokens, d_model) to (tokens, d_model). */
export function rwkv6(g: Graph, x: Value, w: Weights, o: Rwkv6Options): Value {
  checkKinds('layers.rwkv6', o, RWKV6);
  const dModel = x.dims[1] as number;
  const dAtt = o.nHeads * o.headSize;
  const large = dModel >= 4096;
  const mixed = w.stored('time_maa_w1')?.[1];
  const mixRank = o.mixRank ?? (mixed ? Math.floor(mixed / 5) : large ? 64 : 32);
  const [xw, xk, xv, xr, xg] = dynamicMixes(g, x, w, mixRank);
  const exponent = lora(g, xw, w, {
    names: ['time_decay_w1', 'time_decay_w2'],
    rank: loraRank(w, 'time_decay_w1', o.decayRank, large ? 128 : 64),
    inner: 'tanh',
    out: dAtt,
    bias: vector(w, 'time_decay', [dAtt], ramp(dAtt, -6, -1)),
    activation: 'exp',
  });
  const logDecay = g.reshape(scaled(g, exponent, -1), o.nHeads, o.headSize); // (tokens, nheads, head_size)
  return heads(g, { r: xr, k: xk, v: xv, g: xg }, logDecay, w, dModel, o);
}

import type { Graph, Value } from '../graph/graph.js';
import type { Init } from '../graph/weight-spec.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, type Kinds, names, needed, oneOf, size, value } from './kinds.js';
import { type Activation, linear, linearBy } from './linear.js';
import { layerNorm } from './norms.js';

/** What the versions of RWKV share. Names of weights are those of the official releases. */

const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** The releases keep vectors in several shapes; `release` is that of a model that is new. */
const storedAs = (w: Weights, name: string, release: readonly number[]): readonly number[] => {
  const stored = w.stored(name);
  return stored && count(stored) === count(release) ? stored : release;
};

/** As the releases from version 5 on keep a vector of channels. */
const row = (channels: number): readonly number[] => [1, 1, channels];

/** A vector of `shape`, laid out in the checkpoint in any way; that of a new one is `release`. */
export function vector(
  w: Weights,
  name: string,
  shape: readonly number[],
  init: Init | 'ones' | 'zeros',
  transform?: (sources: Float32Array[]) => Float32Array,
  release: readonly number[] = shape.length === 1 ? row(shape[0]!) : shape,
): Value {
  return w.tensor(name, shape, { stored: storedAs(w, name, release), matrix: false, init, transform });
}

/** Values that go from `from` in the first channel to `to` in the last, as channels are made to differ in the papers. */
export const ramp = (channels: number, from: number, to: number): Init => ({
  values: () => Float32Array.from({ length: channels }, (_, i) => from + ((to - from) * i) / Math.max(1, channels - 1)),
});

/** Of {@link tokenMixes}. */
export interface MixOptions {
  /** Of the weights, one for each mix. */
  names: readonly string[];
  /** What the weights weigh: the token itself (`time_mix_*`, default), or the one before it (`time_maa_*`, `x_*`). */
  of?: 'current' | 'previous' | undefined;
}

const TOKEN_MIXES: Kinds<MixOptions> = { names: needed(names), of: oneOf('current', 'previous') };

/** Token shift: mixes of each token with its predecessor, one (tokens, channels) per name; the session keeps the last. */
export function tokenMixes(g: Graph, x: Value, w: Weights, o: MixOptions): Value[] {
  checkKinds('layers.tokenMixes', o, TOKEN_MIXES);
  const channels = x.dims[1] as number;
  const parts = o.names.map((name) => ({ name, shape: storedAs(w, name, row(channels)) }));
  const weighsPrevious = o.of === 'previous';
  const mix = w.combined(parts, [parts.length, channels], {
    matrix: false,
    init: ramp(channels, 0, 1),
    transform: (mixes) =>
      Float32Array.from(
        mixes.flatMap((m) => Array.from(m)),
        (m) => (weighsPrevious ? m : 1 - m),
      ),
  });
  return g.split(g.op('tokenShiftMix', { x, mix, state: g.state([channels]) }), parts.length);
}

/** (inFeatures, outFeatures) of the checkpoint as the (outFeatures, inFeatures) of a product. */
export const transposed =
  (inFeatures: number, outFeatures: number, first = 0) =>
  ([m]: Float32Array[]): Float32Array => {
    const t = new Float32Array(inFeatures * outFeatures);
    for (let i = 0; i < inFeatures; i++)
      for (let j = 0; j < outFeatures; j++) t[j * inFeatures + i] = m![first + i * outFeatures + j]!;
    return t;
  };

/** x @ name, for a matrix kept as (inFeatures, outFeatures). */
export function rightProduct(
  g: Graph,
  x: Value,
  w: Weights,
  name: string,
  outFeatures: number,
  o: { bias?: Value | undefined; activation?: Activation | undefined } = {},
): Value {
  const inFeatures = x.dims[1] as number;
  const weight = w.tensor(name, [outFeatures, inFeatures], {
    stored: [inFeatures, outFeatures],
    matrix: true,
    init: { uniform: 1 / Math.sqrt(inFeatures) },
    transform: transposed(inFeatures, outFeatures),
  });
  return linearBy(g, x, weight, o.bias, { activation: o.activation });
}

/** The rank of `name` (inFeatures, rank): as configured, else as the checkpoint has it, else the family's default. */
export const loraRank = (w: Weights, name: string, configured: number | undefined, standard: number): number =>
  configured ?? w.stored(name)?.[1] ?? standard;

/** act(x @ w1) @ w2 + bias: the low-rank products of RWKV-6 and 7. */
export function lora(
  g: Graph,
  x: Value,
  w: Weights,
  o: {
    names: [string, string];
    rank: number;
    inner?: Activation | undefined;
    out: number;
    bias?: Value | undefined;
    activation?: Activation | undefined;
  },
): Value {
  const inner = rightProduct(g, x, w, o.names[0], o.rank, { activation: o.inner });
  return rightProduct(g, inner, w, o.names[1], o.out, { bias: o.bias, activation: o.activation });
}

/** The group norm over heads, `name`: y (tokens, nheads, headSize) to (tokens, nheads · headSize). */
export function headNorm(g: Graph, y: Value, w: Weights, eps: number, name = 'ln_x'): Value {
  const [, nHeads, headSize] = y.dims as [unknown, number, number];
  return layerNorm(g, g.reshape(y, nHeads * headSize), w, name, { eps, groupSize: headSize });
}

/** Of {@link rwkvChannelMix}. */
export interface ChannelMixOptions {
  dFf: number;
  version: 4 | 5 | 6 | 7;
  residual: Value;
}

const RWKV_CHANNEL_MIX: Kinds<ChannelMixOptions> = {
  dFf: needed(size),
  version: needed(oneOf(4, 5, 6, 7)),
  residual: needed(value),
};

/**
 * RWKV's channel mix (Peng et al. 2023, equations 14 to 16): x (tokens, d_model) to residual + σ(r)·W_v relu(W_k k)²,
 * in version 7 without the gate.
 */
export function rwkvChannelMix(g: Graph, x: Value, w: Weights, o: ChannelMixOptions): Value {
  checkKinds('layers.rwkvChannelMix', o, RWKV_CHANNEL_MIX);
  const dModel = x.dims[1] as number;
  if (o.version === 7) {
    const [xk] = tokenMixes(g, x, w, { names: ['x_k'], of: 'previous' });
    const k = linear(g, xk!, w, 'key', o.dFf, { activation: 'relu2' });
    return linear(g, k, w, 'value', dModel, { residual: o.residual });
  }
  const [xk, xr] =
    o.version === 6
      ? tokenMixes(g, x, w, { names: ['time_maa_k', 'time_maa_r'], of: 'previous' })
      : tokenMixes(g, x, w, { names: ['time_mix_k', 'time_mix_r'] });
  const k = linear(g, xk!, w, 'key', o.dFf, { activation: 'relu2' });
  const gate = linear(g, xr!, w, 'receptance', dModel);
  const y = g.op('gate', { x: linear(g, k, w, 'value', dModel), gate }, { activation: 'sigmoid' });
  return g.op('add', { a: o.residual, b: y });
}

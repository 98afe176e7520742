import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, eps, flag, type Kinds, size, value } from './kinds.js';

const width = (x: Value): number => x.dims.slice(1).reduce<number>((n, d) => n * (d as number), 1);

/** Of {@link rmsNorm} and {@link headRmsNorm}. */
export interface RmsNormOptions {
  eps: number;
  /** False: without a weight. */
  weight?: boolean | undefined;
  /** Mean over groups of this many channels. */
  groupSize?: number | undefined;
  /** Gate: norm(x · silu(z)), or norm(x) · silu(z) with normBeforeGate. */
  z?: Value | undefined;
  normBeforeGate?: boolean | undefined;
  unitOffset?: boolean | undefined;
}

const RMS_NORM: Kinds<RmsNormOptions> = {
  eps,
  weight: flag,
  groupSize: size,
  z: value,
  normBeforeGate: flag,
  unitOffset: flag,
};

/**
 * RMSNorm (Zhang & Sennrich 2019), x (rows, channels), same shape out: x / rms(x) · w, over all channels or groups of
 * them, with an optional gate. Weight: `name.weight` (channels).
 */
export function rmsNorm(g: Graph, x: Value, w: Weights, name: string, o: RmsNormOptions): Value {
  checkKinds('layers.rmsNorm', o, RMS_NORM);
  const weight =
    o.weight === false ? undefined : w.tensor(`${name}.weight`, [width(x)], { init: o.unitOffset ? 'zeros' : 'ones' });
  return g.op(
    'rmsNorm',
    { x, weight, z: o.z },
    { eps: o.eps, groupSize: o.groupSize, normBeforeGate: o.normBeforeGate, unitOffset: o.unitOffset },
  );
}

/** A vector of one head for `times` of them, as norms over all heads at once read it. */
export const repeated = (times: number) => ({
  part: `×${times}`,
  transform: ([head]: Float32Array[]): Float32Array => {
    const all = new Float32Array(times * head!.length);
    for (let i = 0; i < times; i++) all.set(head!, i * head!.length);
    return all;
  },
});

/** Of {@link headRmsNorm}. */
export type HeadRmsNormOptions = Pick<RmsNormOptions, 'eps' | 'unitOffset' | 'z' | 'normBeforeGate'>;

const HEAD_RMS_NORM: Kinds<HeadRmsNormOptions> = { eps, unitOffset: flag, z: value, normBeforeGate: flag };

/**
 * RMSNorm of every head by itself, all with one weight: x (tokens, nheads, headdim), same shape out. Weight:
 * `name.weight` (headdim).
 */
export function headRmsNorm(g: Graph, x: Value, w: Weights, name: string, o: HeadRmsNormOptions): Value {
  checkKinds('layers.headRmsNorm', o, HEAD_RMS_NORM);
  const [nHeads, headDim] = x.dims.slice(1) as [number, number];
  const weight = w.tensor(`${name}.weight`, [nHeads * headDim], {
    stored: [headDim],
    init: o.unitOffset ? 'zeros' : 'ones',
    ...repeated(nHeads),
  });
  const { eps, unitOffset, z, normBeforeGate } = o;
  const rows = g.reshape(x, nHeads * headDim);
  const y = g.op('rmsNorm', { x: rows, weight, z }, { eps, unitOffset, normBeforeGate, groupSize: headDim });
  return g.reshape(y, nHeads, headDim);
}

/** Of {@link layerNorm}. */
export interface LayerNormOptions {
  eps: number;
  /** Channels that are normalised together. Default: all. */
  groupSize?: number | undefined;
  /** Default: true. */
  bias?: boolean | undefined;
}

const LAYER_NORM: Kinds<LayerNormOptions> = { eps, groupSize: size, bias: flag };

/**
 * LayerNorm (Ba et al. 2016), x (rows, channels), same shape out; with groupSize, the group norm over heads. Weights:
 * `name.weight` and, but for `bias: false`, `name.bias` (channels).
 */
export function layerNorm(g: Graph, x: Value, w: Weights, name: string, o: LayerNormOptions): Value {
  checkKinds('layers.layerNorm', o, LAYER_NORM);
  const weight = w.tensor(`${name}.weight`, [width(x)], { init: 'ones' });
  const bias = o.bias === false ? undefined : w.tensor(`${name}.bias`, [width(x)], { init: 'zeros' });
  return g.op('layerNorm', { x, weight, bias }, { eps: o.eps, groupSize: o.groupSize });
}

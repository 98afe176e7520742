import type { Graph, Value } from '../graph/graph.js';
import type { Part, Weights } from '../graph/weights.js';
import { filled, normal } from './initial.js';
import { checkKinds, finite, flag, integer, type Kinds, needed, nested, size, value } from './kinds.js';
import { linear } from './linear.js';
import { conv1d } from './mamba.js';

/** Of {@link hyena}. */
export interface HyenaOptions {
  /** Tokens that the filters are made for, and the most that a sequence can have. */
  lMax: number;
  /** Gates, one long convolution between two of them. Default 2. */
  order?: number | undefined;
  /** Width of the filter's network. Default 64. */
  filterOrder?: number | undefined;
  /** Values that encode a position: its time, then sines and cosines; odd, at least 3. Default 3. */
  embDim?: number | undefined;
  /** Inner layers of the filter's network. Default 2. */
  innerMlps?: number | undefined;
  /** Width of the short convolution. Default 3. */
  shortFilterOrder?: number | undefined;
  /** The filter's window: taps times e^{-t·|deltas|} + shift. Default: on, with shift 0. */
  modulate?: boolean | undefined;
  shift?: number | undefined;
  /** Whether the encoding of positions is trained, and so a parameter. Default: true. */
  trainedPositions?: boolean | undefined;
  /** Skip term of the long convolutions. Default: true. */
  filterBias?: boolean | undefined;
  /** How a new filter starts: frequency of its sines, and the window's decays. */
  initial?: { w?: number; fastDecay?: number; slowDecay?: number; target?: number } | undefined;
  residual?: Value | undefined;
}

/** What is built one by one. */
const MOST_PARTS = 1024;
const part = integer(1, MOST_PARTS);

const HYENA: Kinds<HyenaOptions> = {
  lMax: needed(size),
  order: part,
  filterOrder: size,
  embDim: size,
  innerMlps: integer(0, MOST_PARTS),
  shortFilterOrder: size,
  modulate: flag,
  shift: finite,
  trainedPositions: flag,
  filterBias: flag,
  initial: nested<HyenaOptions['initial']>({ w: finite, fastDecay: finite, slowDecay: finite, target: finite }),
  residual: value,
};

type Source = { name: string; shape: number[]; init: { values: () => Float32Array } };

/** Encoding of the positions 0 … lMax - 1: t, then Re and Im of e^{-i f w} for each band f, w = 2π·position/lMax. */
function positions(lMax: number, embDim: number): { z: Source; t: Source } {
  const bands = (embDim - 1) / 2;
  const time = (l: number) => (lMax > 1 ? l / (lMax - 1) : 0);
  const band = (b: number) => (bands > 1 ? 1e-4 + (b * (bands - 1 - 1e-4)) / (bands - 1) : 1e-4);
  const encode = (l: number, e: number) => {
    if (e === 0) return time(l);
    const angle = band((e - 1) % bands) * ((2 * Math.PI * l) / lMax);
    return e <= bands ? Math.cos(angle) : -Math.sin(angle);
  };
  const z = () => Float32Array.from({ length: lMax * embDim }, (_, i) => encode(Math.floor(i / embDim), i % embDim));
  const t = () => Float32Array.from({ length: lMax }, (_, l) => time(l));
  return {
    z: { name: 'pos_emb.z', shape: [1, lMax, embDim], init: { values: z } },
    t: { name: 'pos_emb.t', shape: [1, lMax, 1], init: { values: t } },
  };
}

/** Row or value `stage` of every group of `stages`: what a stage's long convolution has of what is stored for all. */
function ofStage(values: Float32Array, stage: number, stages: number, width: number): Float32Array {
  const rows = values.length / width / stages;
  const out = new Float32Array(rows * width);
  for (let v = 0; v < rows; v++) {
    const row = (v * stages + stage) * width;
    out.set(values.subarray(row, row + width), v * width);
  }
  return out;
}

/** Taps (lMax, channels) of one stage's long convolution: the implicit filter, evaluated once at load. */
function filter(w: Weights, channels: number, stage: number, o: HyenaOptions): Value {
  const { lMax, order = 2, filterOrder: width = 64, embDim = 3, innerMlps = 2, modulate = true, shift = 0 } = o;
  const { w: freq = 1, fastDecay = 0.3, slowDecay = 1.5, target = 1e-2 } = o.initial ?? {};
  const stages = order - 1;
  const all = channels * stages;
  const decay = (c: number) => {
    const [slow, fast] = [Math.log(target) / slowDecay, Math.log(target) / fastDecay];
    return all > 1 ? slow + (c * (fast - slow)) / (all - 1) : slow;
  };
  const { z, t } = positions(lMax, embDim);
  const layer = (i: number, out: number, inputs: number): Part[] => [
    { name: `implicit_filter.${i}.weight`, shape: [out, inputs] },
    { name: `implicit_filter.${i}.bias`, shape: [out], init: 'zeros' as const },
  ];
  const inner = Array.from({ length: innerMlps }, (_, i) => layer(2 + 2 * i, width, width));
  const deltas = { values: () => Float32Array.from({ length: all }, (_, c) => decay(c)) };
  /** Of what is stored for all stages. */
  const own = (of: number) =>
    stages > 1 ? { transform: ([values]: Float32Array[]) => ofStage(values!, stage, stages, of) } : {};
  return w.made(
    'implicitFilter',
    {
      z: { parts: [{ ...z, buffer: o.trainedPositions === false }], shape: [lMax, embDim] },
      t: { parts: [{ ...t, buffer: true }], shape: [lMax] },
      // One sine with one frequency per unit serves all layers; it is stored once for each.
      freq: {
        parts: [{ name: 'implicit_filter.1.freq', shape: [1, width], init: filled(width, freq) }],
        shape: [width],
      },
      inWeight: { parts: [layer(0, width, embDim)[0]!], shape: [width, embDim] },
      inBias: { parts: [layer(0, width, embDim)[1]!], shape: [width] },
      outWeight: {
        parts: [{ name: `implicit_filter.${2 + 2 * innerMlps}.weight`, shape: [all, width] }],
        shape: [channels, width],
        ...own(width),
      },
      hiddenWeight:
        innerMlps > 0 ? { parts: inner.map(([weight]) => weight!), shape: [innerMlps, width, width] } : undefined,
      hiddenBias: innerMlps > 0 ? { parts: inner.map(([, bias]) => bias!), shape: [innerMlps, width] } : undefined,
      deltas: modulate
        ? {
            parts: [{ name: 'modulation.deltas', shape: [1, 1, all], init: deltas, buffer: true }],
            shape: [channels],
            ...own(1),
          }
        : undefined,
    },
    { output: 'kernel', outputs: { kernel: [lMax, channels] }, attrs: { shift }, part: stage },
  );
}

/**
 * The Hyena operator (Poli et al. 2023) as the safari repository has it, x (tokens, d_model) to (tokens, d_model), plus
 * `residual`: [x_0 … x_{order-1}, v] = short convolution of in_proj x; v ← longconv(v · x_i) for i = order-1 … 1;
 * out_proj(v · x_0). The long convolutions have as many taps as the sequence has tokens, made by a small network of the
 * position and evaluated once at load: they hold lMax · d_model f32 values each.
 *
 * A session keeps the f32 inputs of every long convolution, (order − 1) · d_model values a token, in pages as a KV
 * cache does: a step reads all of them, O(N). A prompt goes in chunks of T tokens through transforms, N/T · O(N log T).
 * A sequence has at most lMax tokens; more is ERR_ARGUMENT.
 *
 * Weights: `in_proj` ((order+1)·D, D) and `out_proj` (D, D) with biases, `short_filter` ((order+1)·D, 1, K) with bias,
 * `filter_fn.{bias, pos_emb.z, pos_emb.t, implicit_filter.N.{weight, bias, freq}, modulation.deltas}`.
 */
export function hyena(g: Graph, x: Value, w: Weights, o: HyenaOptions): Value {
  checkKinds('layers.hyena', o, HYENA);
  const d = x.dims[1] as number;
  const { order = 2, shortFilterOrder = 3, filterBias = true } = o;
  const stages = order - 1;
  const filters = w.scope('filter_fn');
  const u = linear(g, x, w, 'in_proj', (order + 1) * d, { bias: true }); // (tokens, (order + 1) d_model)
  const short = conv1d(g, u, w, { dConv: shortFilterOrder, activation: 'none', name: 'short_filter' });
  const parts = g.split(short, order + 1);
  let v = parts[order]!;
  for (let stage = 0; stage < stages; stage++) {
    const D = filterBias
      ? filters.combined([{ name: 'bias', shape: [d * stages], init: normal(d * stages) }], [d], {
          ...(stages > 1 && { part: stage, transform: ([bias]) => ofStage(bias!, stage, stages, 1) }),
        })
      : undefined;
    v = g.op('longConv', {
      x: g.op('gate', { x: v, gate: parts[order - 1 - stage]! }),
      kernel: filter(filters, d, stage, o),
      D,
      history: g.cache(1, d, 'f32'),
    });
  }
  g.layers.push('hyena');
  return linear(g, g.op('gate', { x: v, gate: parts[0]! }), w, 'out_proj', d, { bias: true, residual: o.residual });
}

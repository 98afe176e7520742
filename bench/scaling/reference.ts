/**
 * The definitions in plain TypeScript and double precision, on samples of the output: what the contenders are checked
 * against before anything is timed.
 */
import type { Heads } from './materialised.js';

/** Rows of causal attention: y of token t, head h. */
export function attentionRow(a: Heads, b: number, t: number, h: number): Float64Array {
  const { length, heads, headDim } = a;
  const at = (token: number) => ((b * length + token) * heads + h) * headDim;
  const weights = new Float64Array(t + 1);
  for (let j = 0; j <= t; j++) {
    let dot = 0;
    for (let p = 0; p < headDim; p++) dot += a.q[at(t) + p]! * a.k[at(j) + p]!;
    weights[j] = dot / Math.sqrt(headDim);
  }
  const max = weights.reduce((m, w) => Math.max(m, w), Number.NEGATIVE_INFINITY);
  const y = new Float64Array(headDim);
  let sum = 0;
  for (let j = 0; j <= t; j++) {
    const e = Math.exp(weights[j]! - max);
    sum += e;
    for (let p = 0; p < headDim; p++) y[p]! += e * a.v[at(j) + p]!;
  }
  return y.map((value) => value / sum);
}

export interface Scan {
  u: Float32Array; // (batch, length, dInner); so are delta, z
  delta: Float32Array;
  z: Float32Array;
  A: Float32Array; // (dInner, dState)
  B: Float32Array; // (batch, length, dState); so is C
  C: Float32Array;
  D: Float32Array; // (dInner)
  deltaBias: Float32Array;
  batch: number;
  length: number;
  dInner: number;
  dState: number;
}

/** One channel of Mamba's selective scan from its first token to the last, one step at a time. */
export function scanChannel(s: Scan, b: number, channel: number, length = s.length): Float64Array {
  const { dInner, dState } = s;
  const h = new Float64Array(dState);
  const y = new Float64Array(length);
  for (let t = 0; t < length; t++) {
    const row = (b * s.length + t) * dInner + channel;
    const bc = (b * s.length + t) * dState;
    const delta = softplus(s.delta[row]! + s.deltaBias[channel]!);
    const u = s.u[row]!;
    let sum = s.D[channel]! * u;
    for (let n = 0; n < dState; n++) {
      h[n] = Math.exp(delta * s.A[channel * dState + n]!) * h[n]! + delta * s.B[bc + n]! * u;
      sum += s.C[bc + n]! * h[n]!;
    }
    y[t] = sum * silu(s.z[row]!);
  }
  return y;
}

export function softplus(x: number): number {
  return x > 20 ? x : Math.log1p(Math.exp(x));
}

export function silu(x: number): number {
  return x / (1 + Math.exp(-x));
}

/** Rows of x (rows, inFeatures) times weightᵀ (outFeatures, inFeatures). */
export function matmul(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  rows: number,
  inFeatures: number,
): Float32Array {
  const outFeatures = weight.length / inFeatures;
  const y = new Float32Array(rows * outFeatures);
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outFeatures; o++) {
      let sum = 0;
      for (let i = 0; i < inFeatures; i++) sum += x[r * inFeatures + i]! * weight[o * inFeatures + i]!;
      y[r * outFeatures + o] = sum;
    }
  }
  return y;
}

export function rmsNormRows(x: ArrayLike<number>, weight: ArrayLike<number>, rows: number, eps: number): Float32Array {
  const width = weight.length;
  const y = new Float32Array(rows * width);
  for (let r = 0; r < rows; r++) {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += x[r * width + i]! ** 2;
    const scale = 1 / Math.sqrt(squares / width + eps);
    for (let i = 0; i < width; i++) y[r * width + i] = x[r * width + i]! * scale * weight[i]!;
  }
  return y;
}

/** Causal depthwise convolution and SiLU over rows of x (rows, channels); weight (channels, width). */
export function convSilu(x: Float32Array, weight: Float32Array, bias: Float32Array, rows: number): Float32Array {
  const channels = bias.length;
  const width = weight.length / channels;
  const y = new Float32Array(rows * channels);
  for (let t = 0; t < rows; t++) {
    for (let c = 0; c < channels; c++) {
      let sum = bias[c]!;
      for (let j = 0; j < width; j++) {
        const from = t - width + 1 + j;
        if (from >= 0) sum += weight[c * width + j]! * x[from * channels + c]!;
      }
      y[t * channels + c] = silu(sum);
    }
  }
  return y;
}

// Networks in f64, token by token, over tensors that are drawn as a layer asks for them: what the formats' descriptions say
// (docs/compatibility.md), written once more without the package. The tensors make the checkpoint that it then loads.
import type { Random } from '../../conformance/random.js';

export type Row = Float64Array;
/** Of one sequence, (tokens, width). */
export type Rows = Row[];
export type Config = Record<string, unknown>;

type Tensors = Record<string, { data: Float32Array; shape: readonly number[] }>;

export const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
export const silu = (x: number) => x * sigmoid(x);
export const softplus = (x: number) => (x > 20 ? x : Math.log1p(Math.exp(x)));
export const relu2 = (x: number) => Math.max(0, x) ** 2;

export const row = (n: number, value: (i: number) => number): Row =>
  Float64Array.from({ length: n }, (_, i) => value(i));
export const part = (x: Rows, from: number, width: number): Rows => x.map((r) => r.subarray(from, from + width));
export const each = (x: Rows, value: (x: number, t: number, i: number) => number): Rows =>
  x.map((r, t) => r.map((v, i) => value(v, t, i)));
export const sum = (a: Rows, b: Rows): Rows => each(a, (x, t, i) => x + b[t]![i]!);
export const product = (a: Rows, b: Rows): Rows => each(a, (x, t, i) => x * b[t]![i]!);
export const joined = (...parts: Rows[]): Rows =>
  parts[0]!.map((_, t) => Float64Array.from(parts.flatMap((p) => [...p[t]!])));
/** Each row's predecessor; zeros before the first. */
export const previous = (x: Rows): Rows => x.map((r, t) => (t === 0 ? new Float64Array(r.length) : x[t - 1]!));
export const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let n = 0;
  for (let i = 0; i < a.length; i++) n += a[i]! * b[i]!;
  return n;
};

/** x / √(mean x² + eps) over groups of `width` channels. */
export function unitRms(x: Row, eps: number, width = x.length): Row {
  return x.map((v, i) => {
    const group = x.subarray(i - (i % width), i - (i % width) + width);
    return v / Math.sqrt(dot(group, group) / width + eps);
  });
}

function standardised(x: Row, eps: number, width = x.length): Row {
  return x.map((v, i) => {
    const group = x.subarray(i - (i % width), i - (i % width) + width);
    const mean =
      dot(
        group,
        group.map(() => 1),
      ) / width;
    const centred = group.map((g) => g - mean);
    return (v - mean) / Math.sqrt(dot(centred, centred) / width + eps);
  });
}

export class Net {
  constructor(
    readonly random: Random,
    readonly tensors: Tensors = {},
    private readonly prefix = '',
  ) {}

  at(...names: (string | number)[]): Net {
    return new Net(this.random, this.tensors, `${this.prefix}${names.join('.')}.`);
  }
  one<T>(...of: T[]): T {
    return of[Math.floor(this.random.next() * of.length)]!;
  }
  coin(): boolean {
    return this.one(true, false);
  }
  /** Uniform in [low, high), drawn where it is first asked for. */
  tensor(name: string, shape: readonly number[], low = -0.4, high = 0.4): Float32Array {
    const key = this.prefix + name;
    this.tensors[key] ??= { data: this.random.tensor(shape, low, high).data as Float32Array, shape };
    return this.tensors[key].data;
  }
  matrix(name: string, out: number, width: number): Float32Array {
    const most = Math.sqrt(3 / width);
    return this.tensor(name, [out, width], -most, most);
  }
  linear(x: Rows, name: string, out: number, bias = false): Rows {
    const width = x[0]!.length;
    const W = this.matrix(`${name}.weight`, out, width);
    const b = bias ? this.tensor(`${name}.bias`, [out]) : undefined;
    return x.map((r) => row(out, (o) => dot(W.subarray(o * width, (o + 1) * width), r) + (b?.[o] ?? 0)));
  }
  /** x W, W stored as (width, out). */
  right(x: Rows, name: string, out: number, shape: readonly number[] = [x[0]!.length, out], from = 0): Rows {
    const width = x[0]!.length;
    const most = Math.sqrt(3 / width);
    const W = this.tensor(name, shape, -most, most).subarray(from);
    return x.map((r) => row(out, (o) => r.reduce((n, v, i) => n + v * W[i * out + o]!, 0)));
  }
  embedding(ids: Int32Array, name: string, rows: number, width: number): Rows {
    const table = this.tensor(name, [rows, width], -1, 1);
    return Array.from(ids, (id) => Float64Array.from(table.subarray(id * width, (id + 1) * width)));
  }
  /** The head; or by the embedding's table. */
  logits(x: Rows, name: string, rows: number): Rows {
    const W = this.matrix(name, rows, x[0]!.length);
    return x.map((r) => row(rows, (o) => dot(W.subarray(o * r.length, (o + 1) * r.length), r)));
  }
  rms(x: Rows, name: string, eps: number, width = x[0]!.length): Rows {
    const w = this.tensor(`${name}.weight`, [width], 0.6, 1.4);
    return x.map((r) => unitRms(r, eps, width).map((v, i) => v * w[i % width]!));
  }
  /** Over groups of `width` channels, all of which have weights of their own. */
  layerNorm(x: Rows, name: string, eps: number, bias = true, width = x[0]!.length): Rows {
    const all = x[0]!.length;
    const w = this.tensor(`${name}.weight`, [all], 0.6, 1.4);
    const b = bias ? this.tensor(`${name}.bias`, [all]) : undefined;
    return x.map((r) => standardised(r, eps, width).map((v, i) => v * w[i]! + (b?.[i] ?? 0)));
  }
  /** y_t = Σ_j w_j x_{t-K+1+j} + b of each channel, zeros before the start. */
  conv(x: Rows, name: string, taps: number, bias: boolean): Rows {
    const width = x[0]!.length;
    const w = this.tensor(`${name}.weight`, [width, 1, taps], -0.7, 0.7);
    const b = bias ? this.tensor(`${name}.bias`, [width]) : undefined;
    return each(x, (_, t, c) => {
      let n = b?.[c] ?? 0;
      for (let j = Math.max(0, taps - 1 - t); j < taps; j++) n += w[c * taps + j]! * x[t - taps + 1 + j]![c]!;
      return n;
    });
  }
}

// Linear time-invariant systems and their filters in f64, from their definitions. S4's complex pairs are real states: a
// pair is two of them, and so all of them are a dense system.
import { type Args, fftConv, type Values } from './reference.js';

type Matrix = number[][];

const rows = (n: number, columns: number, value: (i: number, j: number) => number): Matrix =>
  Array.from({ length: n }, (_, i) => Array.from({ length: columns }, (_, j) => value(i, j)));
const identity = (n: number) => rows(n, n, (i, j) => Number(i === j));
const product = (a: Matrix, b: Matrix): Matrix =>
  rows(a.length, b[0]?.length ?? 0, (i, j) => b.reduce((sum, row, k) => sum + a[i]![k]! * row[j]!, 0));
const combined = (a: Matrix, b: Matrix, by: number) => rows(a.length, a.length, (i, j) => a[i]![j]! + by * b[i]![j]!);

/** a⁻¹ b, by Gauss and Jordan. */
function solved(a: Matrix, b: Matrix): Matrix {
  const all = a.map((row, i) => [...row, ...b[i]!]);
  for (let k = 0; k < a.length; k++) {
    const pivot = all.reduce((best, row, i) => (i >= k && Math.abs(row[k]!) > Math.abs(all[best]![k]!) ? i : best), k);
    [all[k], all[pivot]] = [all[pivot]!, all[k]!];
    for (const [i, row] of all.entries()) {
      const factor = i === k ? 0 : row[k]! / all[k]![k]!;
      for (let j = k; factor !== 0 && j < row.length; j++) row[j]! -= factor * all[k]![j]!;
    }
  }
  return all.map((row, k) => row.slice(a.length).map((v) => v / row[k]!));
}

function exponential(m: Matrix): Matrix {
  const norm = Math.max(...m.map((row) => row.reduce((sum, v) => sum + Math.abs(v), 0)));
  const halvings = Math.max(0, Math.ceil(Math.log2(norm + 1)) + 1);
  const small = m.map((row) => row.map((v) => v / 2 ** halvings));
  let [sum, term] = [identity(m.length), identity(m.length)];
  for (let k = 1; k < 20; k++) {
    term = product(term, small).map((row) => row.map((v) => v / k));
    sum = combined(sum, term, 1);
  }
  for (let i = 0; i < halvings; i++) sum = product(sum, sum);
  return sum;
}

/** Ā and B̄ of X = delta·A and delta·B. */
function discretized(X: Matrix, B: Matrix, method: string): [Matrix, Matrix] {
  const n = X.length;
  if (method === 'bilinear') {
    const left = combined(identity(n), X, -0.5);
    return [solved(left, combined(identity(n), X, 0.5)), solved(left, B)];
  }
  if (method === 'zoh-euler') return [exponential(X), B];
  const inputs = B[0]!.length;
  const both = exponential(rows(n + inputs, n + inputs, (i, j) => (i < n ? (j < n ? X[i]![j]! : B[i]![j - n]!) : 0)));
  return [both.slice(0, n).map((row) => row.slice(0, n)), both.slice(0, n).map((row) => row.slice(n))];
}

const matrixOf = (t: Args, by = 1) => rows(t.shape[0], t.shape[1], (i, j) => by * t.data[i * t.shape[1] + j]);
const flat = (m: Matrix) => Float64Array.from(m.flat());

/** (channels, length) of f64. */
function kernels({ A, B, C, P, logDt, method }: Args, length: number): Args {
  const [channels, n] = A.shape as [number, number];
  const real = A.shape.length === 2;
  const part = (t: Args, c: number, i: number) => (real ? (i % 2 ? 0 : t.data[c * n + i / 2]) : t.data[2 * c * n + i]);
  const data = new Float64Array(channels * length);
  for (let c = 0; c < channels; c++) {
    const dt = Math.exp(logDt.data[c]);
    const X = rows(2 * n, 2 * n, (i, j) => {
      const [re, im] = [part(A, c, i - (i % 2)), part(A, c, i - (i % 2) + 1)];
      const own = i >> 1 !== j >> 1 ? 0 : i === j ? re : i < j ? -im : im;
      return dt * (own - (P ? 2 * part(P, c, i) * part(P, c, j) : 0));
    });
    const into = rows(2 * n, 1, (i) => dt * part(B, c, i));
    let [step, h] = discretized(X, into, method);
    for (let l = 0; l < length; l++, h = product(step, h))
      data[c * length + l] = 2 * h.reduce((sum, [v], i) => sum + (i % 2 ? -1 : 1) * part(C, c, i) * v!, 0);
  }
  return { data, shape: [channels, length] };
}

/** Each packed sequence for itself, from zeros; (tokens, width) in and out. */
function overSequences({ cuSeqlens }: Args, x: Args, work: (x: Args) => ArrayLike<number>): Float64Array {
  const width = x.shape[1];
  return Float64Array.from(
    Array.from(cuSeqlens.data as Int32Array).flatMap((end, s, all) => {
      const [from, count] = [all[s - 1] ?? end, end - (all[s - 1] ?? end)];
      if (count === 0) return [];
      return Array.from(work({ data: x.data.slice(from * width, end * width), shape: [count, width] }));
    }),
  );
}

const convolved = (a: Args, kernel: Args): Values => ({
  y: overSequences(a, a.x, (x) => fftConv({ x: { data: x.data, shape: [1, ...x.shape] }, kernel, D: a.D }).y!),
});

function states(a: Args, v: Args, A: Matrix): Float64Array {
  return overSequences(a, v, (own) => {
    let h = rows(A.length, 1, () => 0);
    return Array.from({ length: own.shape[0] }, (_, t) => {
      h = product(A, h).map(([x], i) => [x! + own.data[t * A.length + i]]);
      return h.flat();
    }).flat();
  });
}

/** By the native ops' names and tensors, (tokens, …) packed. */
export const systems: Record<string, (a: Args) => Values> = {
  s4Kernel: (a) => ({ K: kernels(a, a.dK.shape[1]).data }),
  s4Conv: (a) => convolved(a, kernels(a, a.x.shape[0])),
  wholeConv(a) {
    const [taps, channels] = a.kernel.shape as [number, number];
    const turned = rows(channels, taps, (c, l) => a.kernel.data[l * channels + c]);
    return convolved(a, { data: flat(turned), shape: [channels, taps] });
  },
  reverse: (a) => ({
    y: overSequences(a, a.x, ({ data, shape: [count, width] }) =>
      flat(rows(count, width, (t, c) => data[(count - 1 - t) * width + c])),
    ),
  }),
  denseScan: (a) => ({ h: states(a, a.v, matrixOf(a.A)) }),
  denseConv(a) {
    const v = product(
      matrixOf(a.x),
      rows(a.B.shape[1], a.B.shape[0], (i, j) => a.B.data[j * a.B.shape[1] + i]),
    );
    const h = states(a, { data: flat(v), shape: [v.length, a.A.shape[0]] }, matrixOf(a.A));
    const n = a.A.shape[0];
    return {
      y: flat(rows(v.length, a.C.shape[0], (t, o) => matrixOf(a.C)[o]!.reduce((s, c, i) => s + c * h[t * n + i]!, 0))),
    };
  },
  discretizeDense(a) {
    const delta = Math.fround(a.delta);
    const [Abar, Bbar] = discretized(matrixOf(a.A, delta), matrixOf(a.B, delta), a.method);
    return { Abar: flat(Abar), Bbar: flat(Bbar) };
  },
  implicitFilter(a) {
    const width = a.freq.data.length;
    const layer = (h: Matrix, weight: ArrayLike<number>, bias: ArrayLike<number>): Matrix =>
      h.map((row) =>
        Array.from({ length: width }, (_, j) =>
          Math.sin(a.freq.data[j] * row.reduce((sum, v, i) => sum + v * weight[j * row.length + i]!, bias[j]!)),
        ),
      );
    let h = layer(matrixOf(a.z), a.inWeight.data, a.inBias.data);
    for (let i = 0; i < (a.hiddenWeight?.shape[0] ?? 0); i++) {
      const [weights, biases] = [a.hiddenWeight.data, a.hiddenBias.data];
      h = layer(h, weights.slice(i * width ** 2, (i + 1) * width ** 2), biases.slice(i * width, (i + 1) * width));
    }
    const out = matrixOf(a.outWeight);
    const window = (l: number, c: number) =>
      a.deltas ? Math.exp(-a.t.data[l] * Math.abs(a.deltas.data[c])) + Math.fround(a.shift) : 1;
    return {
      kernel: flat(
        rows(h.length, out.length, (l, c) => window(l, c) * h[l]!.reduce((s, v, i) => s + v * out[c]![i]!, 0)),
      ),
    };
  },
};

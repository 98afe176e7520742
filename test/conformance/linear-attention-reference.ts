// The linear recurrences of reference.ts' kind: per head a matrix S, token by token, in f64.
import type { Args, Values } from './reference.js';
import type { Plain } from './tensors.js';

type Row = ArrayLike<number>;

const dot = (a: Row, b: Row) => Array.from(a).reduce((n, x, i) => n + x * b[i]!, 0);

/** The values of one (batch, token, head) of (B, L, H, width). */
function row(t: Plain, b: number, l: number, h: number): Row {
  const [, L, H, width] = t.shape as [number, number, number, number];
  const start = ((b * L + l) * H + h) * width;
  return t.data.subarray(start, start + width);
}

/** Runs step(S, b, l, h), which changes S (rows of numbers) and gives y's row, over all sequences, heads and tokens. */
function recurrence(
  v: Plain,
  initial: Plain | undefined,
  rows: number,
  columns: number,
  step: (S: number[][], b: number, l: number, h: number) => number[],
): Values {
  const [B, L, H, V] = v.shape as [number, number, number, number];
  const y = new Float64Array(B * L * H * V);
  const lastState = new Float64Array(B * H * rows * columns);
  if (initial) lastState.set(initial.data);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++) {
      const start = (b * H + h) * rows * columns;
      const S = Array.from({ length: rows }, (_, i) =>
        Array.from(lastState.subarray(start + i * columns, start + (i + 1) * columns)),
      );
      for (let l = 0; l < L; l++) y.set(step(S, b, l, h), ((b * L + l) * H + h) * V);
      lastState.set(S.flat(), start);
    }
  return { y, lastState };
}

/** Sᵀx for S (key, value). */
const read = (S: number[][], x: Row) => S[0]!.map((_, v) => S.reduce((n, r, k) => n + r[v]! * x[k]!, 0));

export function wkv4(a: Args): Values {
  const [B, L, D] = a.k.shape;
  const y = new Float64Array(B * L * D);
  const lastState = new Float64Array(B * 3 * D);
  for (let b = 0; b < B; b++)
    for (let d = 0; d < D; d++) {
      const cell = (i: number) => (b * 3 + i) * D + d;
      let [num, den, p] = a.initialState ? [0, 1, 2].map((i) => a.initialState.data[cell(i)]) : [0, 0, -1e38];
      for (let l = 0; l < L; l++) {
        const [k, v] = [a.k.data[(b * L + l) * D + d], a.v.data[(b * L + l) * D + d]];
        const u = a.timeFirst.data[d] + k;
        let q = Math.max(p, u);
        y[(b * L + l) * D + d] =
          (Math.exp(p - q) * num + Math.exp(u - q) * v) / (Math.exp(p - q) * den + Math.exp(u - q));
        const w = p - Math.exp(a.timeDecay.data[d]);
        q = Math.max(w, k);
        num = Math.exp(w - q) * num + Math.exp(k - q) * v;
        den = Math.exp(w - q) * den + Math.exp(k - q);
        p = q;
      }
      for (const [i, x] of [num, den, p].entries()) lastState[cell(i)] = x;
    }
  return { y, lastState };
}

export function wkv6(a: Args): Values {
  const [K, V] = [a.k.shape[3], a.v.shape[3]];
  return recurrence(a.v, a.initialState, K, V, (S, b, l, h) => {
    const [r, k, v] = [row(a.r, b, l, h), row(a.k, b, l, h), row(a.v, b, l, h)];
    const w = a.w.shape.length === 2 ? a.w.data.subarray(h * K, (h + 1) * K) : row(a.w, b, l, h);
    const bonus = dot(
      r,
      Array.from(k, (x, i) => x * a.u.data[h * K + i]),
    );
    const y = read(S, r).map((x, i) => x + bonus * v[i]!);
    for (const [i, s] of S.entries()) for (let j = 0; j < V; j++) s[j] = Math.exp(w[i]!) * s[j]! + k[i]! * v[j]!;
    return y;
  });
}

export function wkv7(a: Args): Values {
  const [K, V] = [a.k.shape[3], a.v.shape[3]];
  return recurrence(a.v, a.initialState, V, K, (S, b, l, h) => {
    const at = (name: string) => row(a[name], b, l, h);
    const [w, k, v, bb] = [at('w'), at('k'), at('v'), at('b')];
    for (const [i, s] of S.entries()) {
      const removed = dot(s, at('a'));
      for (let j = 0; j < K; j++) s[j] = s[j]! * Math.exp(w[j]!) + removed * bb[j]! + v[i]! * k[j]!;
    }
    return S.map((s) => dot(s, at('r')));
  });
}

export function retention(a: Args): Values {
  const [K, V] = [a.k.shape[3], a.v.shape[3]];
  return recurrence(a.v, a.initialState, K, V, (S, b, l, h) => {
    const [k, v] = [row(a.k, b, l, h), row(a.v, b, l, h)];
    const gamma = a.logDecay ? Math.exp(a.logDecay.data[h]) : 1 - 2 ** (-5 - h);
    for (const [i, s] of S.entries()) for (let j = 0; j < V; j++) s[j] = gamma * s[j]! + k[i]! * v[j]!;
    return read(S, row(a.q, b, l, h)).map((x) => x / Math.sqrt(K));
  });
}

/** gatedDeltaRule, kda and deltaRule: g a value per head, one per key, or absent. */
export function deltaRule(a: Args): Values {
  const [K, V] = [a.k.shape[3], a.v.shape[3]];
  const shared = a.v.shape[2] / a.k.shape[2];
  return recurrence(a.v, a.initialState, K, V, (S, b, l, h) => {
    const group = Math.floor(h / shared);
    const [k, v] = [row(a.k, b, l, group), row(a.v, b, l, h)];
    const cell = (b * a.beta.shape[1] + l) * a.beta.shape[2] + h;
    const g = (i: number) => (!a.g ? 0 : a.g.shape.length === 3 ? a.g.data[cell] : a.g.data[cell * K + i]);
    for (const [i, s] of S.entries()) for (let j = 0; j < V; j++) s[j] = s[j]! * Math.exp(g(i));
    const seen = read(S, k);
    const written = seen.map((x, j) => a.beta.data[cell] * (v[j]! - x));
    for (const [i, s] of S.entries()) for (let j = 0; j < V; j++) s[j] = s[j]! + k[i]! * written[j]!;
    return read(S, row(a.q, b, l, group)).map((x) => x / Math.sqrt(K));
  });
}

/** gla, and lightningAttention with its slope: S decays, takes k vᵀ, and is read. */
export function linearAttention(a: Args): Values {
  const [K, V] = [a.k.shape[3], a.v.shape[3]];
  const scale = a.slope ? 1 : 1 / Math.sqrt(K);
  return recurrence(a.v, a.initialState, K, V, (S, b, l, h) => {
    const [k, v, g] = [row(a.k, b, l, h), row(a.v, b, l, h), a.g && row(a.g, b, l, h)];
    for (const [i, s] of S.entries()) {
      const decay = Math.exp(g ? g[i]! : -a.slope.data[h]);
      for (let j = 0; j < V; j++) s[j] = decay * s[j]! + k[i]! * v[j]!;
    }
    return read(S, row(a.q, b, l, h)).map((x) => scale * x);
  });
}

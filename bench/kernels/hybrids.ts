/** Mixers of the newer hybrids: Mamba-3, Kimi delta attention, gated linear attention, the RG-LRU. */
import { checkHeads } from './heads.js';
import { F32, F32_BOUND, kernel, Values } from './kernel.js';
import { plans } from './plans.js';

/** Sᵀx by columns, S (K, V). */
function read(S: Float64Array, x: readonly number[], V: number): Float64Array {
  const y = new Float64Array(V);
  for (const [i, value] of x.entries()) for (let j = 0; j < V; j++) y[j]! += S[i * V + j]! * value;
  return y;
}

/** S ← diag(decay)·S. */
function decayed(S: Float64Array, decay: readonly number[], V: number): void {
  for (const [i, d] of decay.entries()) for (let j = 0; j < V; j++) S[i * V + j]! *= d;
}

/** S += k·vᵀ. */
function write(S: Float64Array, k: readonly number[], v: ArrayLike<number>, V: number): void {
  for (const [i, value] of k.entries()) for (let j = 0; j < V; j++) S[i * V + j]! += value * v[j]!;
}

export const kda = kernel({
  name: 'kda',
  title: 'Kimi delta attention in chunks; H heads, keys of K and values of V channels, L tokens',
  sizes: { L: 2048, H: 8, K: 128, V: 128 },
  unit: 'flops',
  gradient: { op: 'gatedDeltaRule', by: 'q', forward: 'kda' },
  prepare({ L, H, K, V }) {
    const values = new Values(21);
    const args = {
      q: values.unit([1, L, H, K]),
      k: values.unit([1, L, H, K]),
      v: values.normal([1, L, H, V]),
      g: values.uniform([1, L, H, K], -0.5, -0.01),
      beta: values.uniform([1, L, H], 0.1, 0.9),
    };
    return {
      args,
      op: 'kda',
      plan: () => plans().kda(args),
      // Sᵀk, S + k(…)ᵀ, Sᵀq: a multiply-add each; the decay is one product more.
      work: { flops: 7 * L * H * K * V, bytes: F32 * L * H * (3 * K + 2 * V + 1) },
      check: checkHeads({ L, H, V, states: K * V }, (t, h) => (S, row) => {
        const k = Array.from(row(args.k.data, K));
        decayed(S, Array.from(row(args.g.data, K)).map(Math.exp), V);
        const seen = read(S, k, V);
        const beta = args.beta.data[t * H + h]!;
        const change = Array.from(row(args.v.data, V)).map((v, j) => beta * (v - seen[j]!));
        write(S, k, change, V);
        return read(S, Array.from(row(args.q.data, K)), V).map((v) => v / Math.sqrt(K));
      }),
      bound: F32_BOUND,
    };
  },
});

export const gla = kernel({
  name: 'gla',
  title: 'Gated linear attention in chunks; H heads, keys of K and values of V channels, L tokens',
  sizes: { L: 2048, H: 8, K: 128, V: 128 },
  unit: 'flops',
  gradient: { op: 'gla', by: 'q' },
  prepare({ L, H, K, V }) {
    const values = new Values(22);
    const args = {
      q: values.normal([1, L, H, K]),
      k: values.normal([1, L, H, K]),
      v: values.normal([1, L, H, V]),
      g: values.uniform([1, L, H, K], -0.5, -0.01),
    };
    return {
      args,
      plan: () => plans().gla(args),
      work: { flops: 4 * L * H * K * V, bytes: F32 * L * H * (3 * K + 2 * V) },
      check: checkHeads({ L, H, V, states: K * V }, () => (S, row) => {
        decayed(S, Array.from(row(args.g.data, K)).map(Math.exp), V);
        write(S, Array.from(row(args.k.data, K)), Array.from(row(args.v.data, V)), V);
        return read(S, Array.from(row(args.q.data, K)), V).map((v) => v / Math.sqrt(K));
      }),
      bound: F32_BOUND,
    };
  },
});

export const mamba3 = kernel({
  name: 'mamba3',
  title: 'Mamba-3 in chunks; H heads of P channels with N states each, rank R (1: SISO), L tokens, one group',
  sizes: { L: 2048, H: 24, P: 64, N: 128, R: 1 },
  variants: [{}, { sizes: { R: 4 } }],
  unit: 'flops',
  gradient: { op: 'mamba3', by: 'x' },
  prepare({ L, H, P, N, R }) {
    const values = new Values(23);
    const [ranks, S] = [R > 1 ? [R] : [], N / 4];
    const half = R > 1 ? N / 2 : 0;
    const args = {
      x: values.normal([1, L, H, P]),
      B: values.normal([1, L, ...ranks, 1, N]),
      C: values.normal([1, L, ...ranks, 1, N]),
      dt: values.uniform([1, L, H], 0.001, 0.1),
      adt: values.uniform([1, L, H], -1, -0.01),
      trap: values.normal([1, L, H]),
      angles: values.normal([1, L, S]),
      BBias: values.normal([H, ...ranks, N]),
      CBias: values.normal([H, ...ranks, N]),
      D: values.normal([H]),
      ...(R > 1 && { mimoX: values.normal([H, R, P]), mimoO: values.normal([H, R, P]) }),
    };
    const all = Array.from({ length: R }, (_, r) => r);
    const factor = (t: { data: Float32Array } | undefined, h: number, r: number, p: number) =>
      t ? t.data[(h * R + r) * P + p]! : 1;
    // What the recurrence of one head keeps beside S: the angles, and k and v of the token before.
    const memory = new WeakMap<Float64Array, { theta: number[]; k: number[][]; v: number[][] }>();
    return {
      args,
      plan: () => plans().mamba3(args),
      // Each rank writes into the state and reads it: a multiply-add each.
      work: { flops: 4 * L * H * P * N * R, bytes: F32 * (2 * L * H * P + 3 * L * H + 2 * L * R * N + L * S) },
      check: checkHeads({ L, H, V: P, states: N * P }, (t, h) => (state, row) => {
        const none = { theta: new Array<number>(S).fill(0), k: all.map(() => []), v: all.map(() => []) };
        const before = memory.get(state) ?? none;
        const [dt, adt, trap] = [args.dt, args.adt, args.trap].map((x) => x.data[t * H + h]!) as [
          number,
          number,
          number,
        ];
        const theta = before.theta.map((a, i) => a + Math.PI * Math.tanh(args.angles.data[t * S + i]!) * dt);
        const rotated = (x: Float32Array, bias: Float32Array, r: number) => {
          const out = Array.from({ length: N }, (_, n) => x[(t * R + r) * N + n]! + bias[(h * R + r) * N + n]!);
          for (const [i, a] of theta.entries()) {
            const [first, second] = half ? [i, i + half] : [2 * i, 2 * i + 1];
            const [u, w] = [out[first]!, out[second]!];
            out[first] = u * Math.cos(a) - w * Math.sin(a);
            out[second] = u * Math.sin(a) + w * Math.cos(a);
          }
          return out;
        };
        const tau = 1 / (1 + Math.exp(-trap));
        const x = Array.from(row(args.x.data, P));
        const k = all.map((r) => rotated(args.B.data, args.BBias.data, r));
        const v = all.map((r) => x.map((value, p) => value * factor(args.mimoX, h, r, p)));
        if (before.k[0]!.length > 0)
          for (const r of all)
            write(
              state,
              before.k[r]!,
              before.v[r]!.map((value) => (1 - tau) * dt * value),
              P,
            );
        decayed(state, new Array<number>(N).fill(Math.exp(adt)), P);
        for (const r of all)
          write(
            state,
            k[r]!,
            v[r]!.map((value) => tau * dt * value),
            P,
          );
        memory.set(state, { theta, k, v });
        const y = new Float64Array(P);
        for (const r of all) {
          const out = read(state, rotated(args.C.data, args.CBias.data, r), P);
          for (let p = 0; p < P; p++) y[p]! += (out[p]! + args.D.data[h]! * v[r]![p]!) * factor(args.mimoO, h, r, p);
        }
        return y;
      }),
      bound: F32_BOUND,
    };
  },
});

export const rgLru = kernel({
  name: 'rgLru',
  title: 'The RG-LRU of Griffin; H heads of P channels, L tokens',
  sizes: { L: 2048, H: 10, P: 256 },
  unit: 'flops',
  gradient: { op: 'rgLru', by: 'x' },
  prepare({ L, H, P }) {
    const values = new Values(24);
    const args = {
      x: values.normal([1, L, H * P]),
      inputGateWeight: values.uniform([H, P, P], -0.1, 0.1),
      inputGateBias: values.normal([H, P]),
      recurrentGateWeight: values.uniform([H, P, P], -0.1, 0.1),
      recurrentGateBias: values.normal([H, P]),
      recurrentParam: values.uniform([H * P], -8, -4),
    };
    return {
      args,
      plan: () => plans().rgLru(args),
      work: { flops: 4 * L * H * P * P, bytes: F32 * (2 * L * H * P + 2 * H * P * P) },
      check: checkHeads({ L, H, V: P, states: P }, (t, h) => (S, row) => {
        const x = Array.from(row(args.x.data, P));
        const gate = (weight: Float32Array, bias: Float32Array, j: number) => {
          const sum = x.reduce((n, value, i) => n + value * weight[(h * P + i) * P + j]!, bias[h * P + j]!);
          return 1 / (1 + Math.exp(-sum));
        };
        return x.map((value, j) => {
          const rate = Math.log1p(Math.exp(args.recurrentParam.data[h * P + j]!));
          const a = Math.exp(-8 * rate * gate(args.recurrentGateWeight.data, args.recurrentGateBias.data, j));
          const input = value * gate(args.inputGateWeight.data, args.inputGateBias.data, j);
          S[j] = t === 0 ? input : a * S[j]! + Math.sqrt(1 - a * a) * input;
          return S[j]!;
        });
      }),
      bound: F32_BOUND,
    };
  },
});

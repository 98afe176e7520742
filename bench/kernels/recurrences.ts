/** Linear recurrences with a matrix state per head: SSD, retention, RWKV-6, RWKV-7, the gated delta rule. */
import { checkHeads } from './heads.js';
import { F32, F32_BOUND, kernel, Values } from './kernel.js';
import { plans } from './plans.js';

/** S ← decay(i, j)·S + column_i·row_j, then Σ_i S_ij·x_i by columns of S (V of them). */
function decayedOuter(
  S: Float64Array,
  column: Float32Array,
  row: Float32Array,
  decay: (i: number) => number,
  x: ArrayLike<number>,
): Float64Array {
  const V = row.length;
  const y = new Float64Array(V);
  for (let i = 0; i < column.length; i++) {
    const d = decay(i);
    for (let j = 0; j < V; j++) {
      const s = d * S[i * V + j]! + column[i]! * row[j]!;
      S[i * V + j] = s;
      y[j]! += s * x[i]!;
    }
  }
  return y;
}

export const ssd = kernel({
  name: 'ssd',
  title: "Mamba-2's state space duality in chunks; H heads of P channels with N states each, L tokens, one group",
  sizes: { L: 2048, H: 24, P: 64, N: 128 },
  unit: 'flops',
  gradient: { op: 'ssd', by: 'x' },
  prepare({ L, H, P, N }) {
    const values = new Values(5);
    const args = {
      x: values.normal([1, L, H, P]),
      dt: values.uniform([1, L, H], 0.001, 0.1),
      A: values.uniform([H], -16, -1),
      B: values.normal([1, L, 1, N]),
      C: values.normal([1, L, 1, N]),
      D: values.normal([H]),
    };
    return {
      args,
      plan: () => plans().ssd(args),
      // By the recurrence: a multiply-add into each state and one out of it.
      work: { flops: 4 * L * H * P * N, bytes: F32 * (2 * L * H * P + L * H + 2 * L * N) },
      check: checkHeads({ L, H, V: P, states: P * N }, (t, h) => (S, row) => {
        const x = row(args.x.data, P);
        const dt = row(args.dt.data, 1)[0]!;
        const [B, C] = [args.B.data.subarray(t * N, (t + 1) * N), args.C.data.subarray(t * N, (t + 1) * N)];
        const decay = Math.exp(dt * args.A.data[h]!);
        return x.map((value, p) => {
          let sum = args.D.data[h]! * value;
          for (let n = 0; n < N; n++) {
            S[p * N + n] = decay * S[p * N + n]! + dt * value * B[n]!;
            sum += S[p * N + n]! * C[n]!;
          }
          return sum;
        });
      }),
      bound: F32_BOUND,
    };
  },
});

export const retention = kernel({
  name: 'retention',
  title: "RetNet's retention in chunks; H heads, keys of K and values of V channels, L tokens",
  sizes: { L: 2048, H: 8, K: 64, V: 128 },
  unit: 'flops',
  gradient: { op: 'retention', by: 'q' },
  prepare({ L, H, K, V }) {
    const values = new Values(6);
    const args = { q: values.normal([1, L, H, K]), k: values.normal([1, L, H, K]), v: values.normal([1, L, H, V]) };
    return {
      args,
      plan: () => plans().retention(args),
      work: { flops: 4 * L * H * K * V, bytes: F32 * L * H * 2 * (K + V) },
      check: checkHeads({ L, H, V, states: K * V }, (_, h) => (S, row) => {
        const gamma = 1 - 2 ** (-5 - h);
        const q = row(args.q.data, K).map((value) => value / Math.sqrt(K));
        return decayedOuter(S, row(args.k.data, K), row(args.v.data, V), () => gamma, q);
      }),
      bound: F32_BOUND,
    };
  },
});

export const lightning = kernel({
  name: 'lightning',
  title:
    "lightning attention (MiniMax-01) in chunks: retention with a decay of each head's own; H heads of P channels, L tokens",
  sizes: { L: 2048, H: 16, P: 128 },
  unit: 'flops',
  prepare({ L, H, P }) {
    const values = new Values(25);
    const shape = [1, L, H, P];
    const slope = { data: Float32Array.from({ length: H }, (_, h) => 2 ** ((-8 * (h + 1)) / H)), shape: [H] };
    const args = { q: values.normal(shape), k: values.normal(shape, 1 / Math.sqrt(P)), v: values.normal(shape), slope };
    return {
      args,
      op: 'lightningAttention',
      plan: () => plans().lightningAttention(args),
      work: { flops: 4 * L * H * P * P, bytes: F32 * 4 * L * H * P },
      check: checkHeads({ L, H, V: P, states: P * P }, (_, h) => (S, row) => {
        const decay = Math.exp(-slope.data[h]!);
        return decayedOuter(S, row(args.k.data, P), row(args.v.data, P), () => decay, row(args.q.data, P));
      }),
      bound: F32_BOUND,
    };
  },
});

export const wkv6 = kernel({
  name: 'wkv6',
  title: "RWKV-6's linear attention in chunks; H heads of P channels, L tokens",
  sizes: { L: 2048, H: 12, P: 64 },
  unit: 'flops',
  gradient: { op: 'wkv6', by: 'r' },
  prepare({ L, H, P }) {
    const values = new Values(7);
    const shape = [1, L, H, P];
    const args = {
      r: values.normal(shape),
      k: values.normal(shape),
      v: values.normal(shape),
      w: values.uniform(shape, -0.7, -0.01),
      u: values.normal([H, P]),
    };
    return {
      args,
      plan: () => plans().wkv6(args),
      work: { flops: 4 * L * H * P * P, bytes: F32 * 5 * L * H * P },
      check: checkHeads({ L, H, V: P, states: P * P }, (_, h) => (S, row) => {
        const [r, k, v] = [row(args.r.data, P), row(args.k.data, P), row(args.v.data, P)];
        const w = row(args.w.data, P);
        const bonus = r.reduce((sum, value, i) => sum + value * args.u.data[h * P + i]! * k[i]!, 0);
        const y = Float64Array.from(v, (value) => bonus * value);
        for (let i = 0; i < P; i++) for (let j = 0; j < P; j++) y[j]! += S[i * P + j]! * r[i]!;
        decayedOuter(S, k, v, (i) => Math.exp(w[i]!), r);
        return y;
      }),
      bound: F32_BOUND,
    };
  },
});

export const wkv7 = kernel({
  name: 'wkv7',
  title: "RWKV-7's generalised delta rule in chunks; H heads of P channels, L tokens",
  sizes: { L: 2048, H: 12, P: 64 },
  unit: 'flops',
  gradient: { op: 'wkv7', by: 'r' },
  prepare({ L, H, P }) {
    const values = new Values(8);
    const shape = [1, L, H, P];
    const kk = values.unit(shape);
    const rate = values.uniform(shape, 0, 1);
    const args = {
      r: values.normal(shape),
      w: values.uniform(shape, -0.6, -0.01),
      k: values.normal(shape),
      v: values.normal(shape),
      // As the model has them: what is removed lies along kk, what replaces it along kk∘rate.
      a: { data: kk.data.map((x) => -x), shape },
      b: { data: kk.data.map((x, i) => x * rate.data[i]!), shape },
    };
    return {
      args,
      plan: () => plans().wkv7(args),
      // S·a, S + (S·a)bᵀ, + v·kᵀ, S·r: a multiply-add each.
      work: { flops: 8 * L * H * P * P, bytes: F32 * 7 * L * H * P },
      check: checkHeads({ L, H, V: P, states: P * P }, () => (S, row) => {
        const at = (name: keyof typeof args) => row(args[name].data, P);
        const [r, w, k, v, a, b] = [at('r'), at('w').map(Math.exp), at('k'), at('v'), at('a'), at('b')];
        return v.map((value, i) => {
          const s = S.subarray(i * P, (i + 1) * P);
          let removed = 0;
          for (let j = 0; j < P; j++) removed += s[j]! * a[j]!;
          let sum = 0;
          for (let j = 0; j < P; j++) {
            s[j] = s[j]! * w[j]! + removed * b[j]! + value * k[j]!;
            sum += s[j]! * r[j]!;
          }
          return sum;
        });
      }),
      bound: F32_BOUND,
    };
  },
});

/** Tokens of one head by the delta rule: S ← decay·S, S += k·(β(v − Sᵀk))ᵀ; y = Sᵀq/√K. */
function deltaStep(
  S: Float64Array,
  { q, k, v, beta, decay }: { q: Float32Array; k: Float32Array; v: Float32Array; beta: number; decay: number },
): Float64Array {
  const V = v.length;
  const seen = new Float64Array(V);
  for (let i = 0; i < k.length; i++) for (let j = 0; j < V; j++) seen[j]! += decay * S[i * V + j]! * k[i]!;
  const write = v.map((value, j) => beta * (value - seen[j]!));
  return decayedOuter(
    S,
    k,
    write,
    () => decay,
    q.map((value) => value / Math.sqrt(k.length)),
  );
}

export const gatedDelta = kernel({
  name: 'gatedDelta',
  title: 'the gated delta rule (Qwen3-Next) in chunks; H heads, keys of K and values of V channels, L tokens',
  sizes: { L: 2048, H: 8, K: 128, V: 128 },
  unit: 'flops',
  gradient: { op: 'gatedDeltaRule', by: 'q' },
  prepare({ L, H, K, V }) {
    const values = new Values(9);
    const args = {
      q: values.unit([1, L, H, K]),
      k: values.unit([1, L, H, K]),
      v: values.normal([1, L, H, V]),
      g: values.uniform([1, L, H], -0.5, -0.01),
      beta: values.uniform([1, L, H], 0.1, 0.9),
    };
    return {
      args,
      plan: () => plans().gatedDeltaRule(args),
      // Sᵀk, S + k(…)ᵀ, Sᵀq: a multiply-add each; the decay is one product more.
      work: { flops: 7 * L * H * K * V, bytes: F32 * L * H * (2 * K + 2 * V + 2) },
      check: checkHeads({ L, H, V, states: K * V }, () => (S, row) => {
        const [q, k, v] = [row(args.q.data, K), row(args.k.data, K), row(args.v.data, V)];
        return deltaStep(S, { q, k, v, beta: row(args.beta.data, 1)[0]!, decay: Math.exp(row(args.g.data, 1)[0]!) });
      }),
      bound: F32_BOUND,
    };
  },
});

export const deltaRule = kernel({
  name: 'deltaRule',
  title: 'the delta rule without decay (DeltaNet) in chunks; H heads, keys of K and values of V channels, L tokens',
  sizes: { L: 2048, H: 8, K: 128, V: 128 },
  unit: 'flops',
  prepare({ L, H, K, V }) {
    const values = new Values(26);
    const args = {
      q: values.unit([1, L, H, K]),
      k: values.unit([1, L, H, K]),
      v: values.normal([1, L, H, V]),
      beta: values.uniform([1, L, H], 0.1, 0.9),
    };
    return {
      args,
      op: 'deltaRule',
      plan: () => plans().deltaRule(args),
      work: { flops: 6 * L * H * K * V, bytes: F32 * L * H * (2 * K + 2 * V + 1) },
      check: checkHeads({ L, H, V, states: K * V }, () => (S, row) => {
        const [q, k, v] = [row(args.q.data, K), row(args.k.data, K), row(args.v.data, V)];
        return deltaStep(S, { q, k, v, beta: row(args.beta.data, 1)[0]!, decay: 1 });
      }),
      bound: F32_BOUND,
    };
  },
});

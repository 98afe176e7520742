// The ops' formulas in f64, token by token, straight from their definitions: what random shapes are compared with.
import type { Plain } from './tensors.js';

// biome-ignore lint/suspicious/noExplicitAny: arguments are as varied as the ops
export type Args = Record<string, any>;
export type Values = Record<string, Float64Array>;

/** Index of a row-major tensor. */
const at = (t: Plain, ...index: number[]) => t.data[index.reduce((i, x, axis) => i * t.shape[axis]! + x, 0)]!;
const silu = (x: number) => x / (1 + Math.exp(-x));
export const softplus = (x: number) => (x > 20 ? x : Math.log1p(Math.exp(x)));
const sum = (n: number, term: (i: number) => number) => {
  let total = 0;
  for (let i = 0; i < n; i++) total += term(i);
  return total;
};
const size = (shape: readonly number[]) => shape.reduce((n, s) => n * s, 1);

/** An output being filled: put(value, ...index). */
class Out {
  readonly values: Float64Array;
  constructor(readonly shape: readonly number[]) {
    this.values = new Float64Array(size(shape));
  }
  put(value: number, ...index: number[]): void {
    this.values[index.reduce((i, x, axis) => i * this.shape[axis]! + x, 0)] = value;
  }
  get(...index: number[]): number {
    return this.values[index.reduce((i, x, axis) => i * this.shape[axis]! + x, 0)]!;
  }
  static from(t: Plain | undefined, shape: readonly number[]): Out {
    const out = new Out(shape);
    if (t) out.values.set(t.data);
    return out;
  }
}

export function selectiveScan(a: Args): Values {
  const [B, L, D] = a.u.shape;
  const N = a.A.shape[1];
  const y = new Out([B, L, D]);
  const h = Out.from(a.initialState, [B, D, N]);
  const coefficient = (t: Plain, b: number, l: number, d: number, n: number) => {
    if (t.shape.length === 2) return at(t, d, n);
    return t.shape.length === 3 ? at(t, b, l, n) : at(t, b, l, Math.floor(d / (D / t.shape[2]!)), n);
  };
  for (let b = 0; b < B; b++)
    for (let l = 0; l < L; l++)
      for (let d = 0; d < D; d++) {
        const u = at(a.u, b, l, d);
        const raw = at(a.delta, b, l, d) + (a.deltaBias?.data[d] ?? 0);
        const dt = a.deltaSoftplus ? softplus(raw) : raw;
        for (let n = 0; n < N; n++)
          h.put(Math.exp(dt * at(a.A, d, n)) * h.get(b, d, n) + dt * u * coefficient(a.B, b, l, d, n), b, d, n);
        const out = sum(N, (n) => h.get(b, d, n) * coefficient(a.C, b, l, d, n)) + (a.D?.data[d] ?? 0) * u;
        y.put(a.z ? out * silu(at(a.z, b, l, d)) : out, b, l, d);
      }
  return { y: y.values, lastState: h.values };
}

export function ssd(a: Args): Values {
  const [B, L, H, P] = a.x.shape;
  const [, , G, N] = a.B.shape;
  const y = new Out([B, L, H, P]);
  const s = Out.from(a.initialState, [B, H, P, N]);
  for (let b = 0; b < B; b++)
    for (let l = 0; l < L; l++)
      for (let h = 0; h < H; h++) {
        const raw = at(a.dt, b, l, h) + (a.dtBias?.data[h] ?? 0);
        const dt = Math.min(Math.max(a.dtSoftplus ? softplus(raw) : raw, a.dtLimit[0]), a.dtLimit[1]);
        const g = Math.floor(h / (H / G));
        for (let p = 0; p < P; p++) {
          const x = at(a.x, b, l, h, p);
          for (let n = 0; n < N; n++)
            s.put(Math.exp(dt * a.A.data[h]) * s.get(b, h, p, n) + dt * x * at(a.B, b, l, g, n), b, h, p, n);
          const skip = a.D ? (a.D.shape.length === 1 ? at(a.D, h) : at(a.D, h, p)) * x : 0;
          const out = sum(N, (n) => s.get(b, h, p, n) * at(a.C, b, l, g, n)) + skip;
          y.put(a.z ? out * silu(at(a.z, b, l, h, p)) : out, b, l, h, p);
        }
      }
  return { y: y.values, lastState: s.values };
}

/** All but the angles, which are equal modulo 2π only. */
export function mamba3(a: Args): Values {
  const mimo = a.B.shape.length === 5;
  const [bs, L, H, P] = a.x.shape;
  const [R, G, N] = mimo ? a.B.shape.slice(2) : [1, ...a.B.shape.slice(2)];
  const S = a.angles.shape.at(-1);
  const y = new Out([bs, L, H, P]);
  const ssm = Out.from(a.initialState?.ssm, [bs, H, P, N]);
  const theta = Out.from(a.initialState?.angle, [bs, H, S]);
  const lastK = Out.from(a.initialState?.k, mimo ? [bs, R, H, N] : [bs, H, N]);
  const lastV = Out.from(a.initialState?.v, [bs, H, P]);
  const ranks = Array.from({ length: R }, (_, r) => r);
  const ofHead = (t: Plain, h: number, r: number, i: number) => (mimo ? at(t, h, r, i) : at(t, h, i));
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  for (let b = 0; b < bs; b++)
    for (let h = 0; h < H; h++) {
      const g = Math.floor(h / (H / G));
      const times = (weight: Plain | undefined, r: number, p: number) => (weight ? at(weight, h, r, p) : 1);
      const inputs = (x: (p: number) => number) =>
        ranks.map((r) => Array.from({ length: P }, (_, p) => x(p) * times(a.mimoX, r, p)));
      let k = ranks.map((r) =>
        Array.from({ length: N }, (_, n) => (mimo ? lastK.get(b, r, h, n) : lastK.get(b, h, n))),
      );
      let v = inputs((p) => lastV.get(b, h, p));
      for (let l = 0; l < L; l++) {
        const dt = at(a.dt, b, l, h);
        const angle = (s: number) => (a.angles.shape.length === 4 ? at(a.angles, b, l, h, s) : at(a.angles, b, l, s));
        for (let s = 0; s < S; s++) theta.put(theta.get(b, h, s) + Math.PI * Math.tanh(angle(s)) * dt, b, h, s);
        const rotated = (t: Plain, bias: Plain) =>
          ranks.map((r) => {
            const row = Array.from(
              { length: N },
              (_, n) => (mimo ? at(t, b, l, r, g, n) : at(t, b, l, g, n)) + ofHead(bias, h, r, n),
            );
            for (let s = 0; s < S; s++) {
              const [i, j] = mimo ? [s, s + N / 2] : [2 * s, 2 * s + 1];
              const [u, w] = [row[i]!, row[j]!];
              const [cos, sin] = [Math.cos(theta.get(b, h, s)), Math.sin(theta.get(b, h, s))];
              row[i] = u * cos - w * sin;
              row[j] = u * sin + w * cos;
            }
            return row;
          });
        const [nextK, c] = [rotated(a.B, a.BBias), rotated(a.C, a.CBias)];
        const nextV = inputs((p) => at(a.x, b, l, h, p));
        const alpha = Math.exp(at(a.adt, b, l, h));
        const tau = sigmoid(at(a.trap, b, l, h));
        const before = (p: number, n: number) => sum(R, (r) => v[r]![p]! * k[r]![n]!);
        const now = (p: number, n: number) => sum(R, (r) => nextV[r]![p]! * nextK[r]![n]!);
        for (let p = 0; p < P; p++)
          for (let n = 0; n < N; n++)
            ssm.put(alpha * (ssm.get(b, h, p, n) + (1 - tau) * dt * before(p, n)) + tau * dt * now(p, n), b, h, p, n);
        [k, v] = [nextK, nextV];
        for (const r of ranks) {
          const raw = Array.from(
            { length: P },
            (_, p) => sum(N, (n) => ssm.get(b, h, p, n) * c[r]![n]!) + (a.D ? at(a.D, h) * v[r]![p]! : 0),
          );
          const rms = Math.sqrt(sum(P, (p) => raw[p]! ** 2) / P + (a.normEps ?? 1e-5));
          for (let p = 0; p < P; p++) {
            const normed = a.normWeight ? (raw[p]! / rms) * at(a.normWeight, h, p) : raw[p]!;
            const gated = a.z ? normed * silu(at(a.z, b, l, h, p) * times(a.mimoZ, r, p)) : normed;
            y.put(y.get(b, l, h, p) + gated * times(a.mimoO, r, p), b, l, h, p);
          }
        }
      }
      for (const r of ranks)
        for (let n = 0; n < N; n++) mimo ? lastK.put(k[r]![n]!, b, r, h, n) : lastK.put(k[r]![n]!, b, h, n);
      if (L > 0) for (let p = 0; p < P; p++) lastV.put(at(a.x, b, L - 1, h, p), b, h, p);
    }
  return { y: y.values, 'lastState.ssm': ssm.values, 'lastState.k': lastK.values, 'lastState.v': lastV.values };
}

export function causalConv1d(a: Args): Values {
  const [B, L, D] = a.x.shape;
  const K = a.weight.shape[1];
  const y = new Out([B, L, D]);
  const finalState = new Out([B, D, K - 1]);
  for (let b = 0; b < B; b++)
    for (let d = 0; d < D; d++) {
      const input = (t: number) =>
        t >= 0 ? at(a.x, b, t, d) : a.initialState ? at(a.initialState, b, d, t + K - 1) : 0;
      for (let l = 0; l < L; l++) {
        const out = sum(K, (j) => at(a.weight, d, j) * input(l - K + 1 + j)) + (a.bias?.data[d] ?? 0);
        y.put(a.activation === 'silu' ? silu(out) : out, b, l, d);
      }
      for (let j = 0; j < K - 1; j++) finalState.put(input(L - K + 1 + j), b, d, j);
    }
  return { y: y.values, finalState: finalState.values };
}

export function shortConv(a: Args): Values {
  const product = { data: a.b.data.map((b: number, i: number) => b * a.x.data[i]), shape: a.x.shape };
  const { y, finalState } = causalConv1d({ ...a, x: product, activation: 'none' });
  return { y: y!.map((v, i) => v * a.c.data[i]!), lastState: finalState! };
}

export function rgLru(a: Args): Values {
  const [B, L, D] = a.x.shape;
  const [, P] = a.inputGateBias.shape;
  const y = new Out([B, L, D]);
  const h = Out.from(a.initialState, [B, D]);
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  for (let b = 0; b < B; b++)
    for (let l = 0; l < L; l++)
      for (let d = 0; d < D; d++) {
        const [head, j] = [Math.floor(d / P), d % P];
        const gate = (w: Plain, bias: Plain) =>
          sigmoid(at(bias, head, j) + sum(P, (i) => at(a.x, b, l, head * P + i) * at(w, head, i, j)));
        const input = gate(a.inputGateWeight, a.inputGateBias) * at(a.x, b, l, d);
        const rate = Math.log1p(Math.exp(at(a.recurrentParam, d)));
        const decay = Math.exp(-8 * rate * gate(a.recurrentGateWeight, a.recurrentGateBias));
        const anew = a.initialState ? false : l === 0;
        h.put(anew ? input : decay * h.get(b, d) + Math.sqrt(1 - decay * decay) * input, b, d);
        y.put(h.get(b, d), b, l, d);
      }
  return { y: y.values, lastState: h.values };
}

export function attention(a: Args): Values {
  const [B, Lq, H, P] = a.q.shape;
  const [, Lk, Hkv] = a.k.shape;
  const y = new Out([B, Lq, H, P]);
  const scale = a.scale ?? 1 / Math.sqrt(P);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++) {
      const hkv = Math.floor(h / (H / Hkv));
      for (let i = 0; i < Lq; i++) {
        const position = i + Lk - Lq;
        const scores = Array.from({ length: Lk }, (_, j) => {
          if (a.causal !== false && j > position) return -Infinity;
          if (a.window && (j <= position - a.window || j > position)) return -Infinity;
          const s = scale * sum(P, (p) => at(a.q, b, i, h, p) * at(a.k, b, j, hkv, p));
          return a.softcap ? a.softcap * Math.tanh(s / a.softcap) : s;
        });
        const most = Math.max(...scores);
        const weights = scores.map((s) => (most === -Infinity ? 0 : Math.exp(s - most)));
        const total = sum(Lk, (j) => weights[j]!) || 1;
        for (let p = 0; p < P; p++) y.put(sum(Lk, (j) => weights[j]! * at(a.v, b, j, hkv, p)) / total, b, i, h, p);
      }
    }
  return { y: y.values };
}

export function rope(a: Args): Values {
  const [B, L, H, P] = a.x.shape;
  const y = Out.from(a.x, a.x.shape);
  const half = (a.rotaryDim ?? P) / 2;
  for (let b = 0; b < B; b++)
    for (let l = 0; l < L; l++)
      for (let h = 0; h < H; h++)
        for (let j = 0; j < half; j++) {
          const position = a.positions?.[a.positions.length === L ? l : b * L + l] ?? l;
          const frequency = Math.fround(1 / Math.fround((a.theta ?? 10000) ** Math.fround(j / half)));
          const angle = Math.fround(position * frequency);
          const [i, k] = a.interleaved ? [2 * j, 2 * j + 1] : [j, j + half];
          const [u, v] = [at(a.x, b, l, h, i), at(a.x, b, l, h, k)];
          y.put(u * Math.cos(angle) - v * Math.sin(angle), b, l, h, i);
          y.put(v * Math.cos(angle) + u * Math.sin(angle), b, l, h, k);
        }
  return { y: y.values };
}

/** Each group of the last axis through fn(values, index of the first). */
function groups(x: Plain, width: number, fn: (row: number[], start: number) => number[]): Values {
  const y = new Float64Array(x.data.length);
  for (let i = 0; i < y.length; i += width) y.set(fn(Array.from(x.data.subarray(i, i + width)), i), i);
  return { y };
}

export function rmsNorm(a: Args): Values {
  const D = a.x.shape.at(-1);
  const width = a.groupSize ?? D;
  return groups(a.x, width, (row, start) => {
    const gate = (i: number) => (a.z ? silu(a.z.data[start + i]) : 1);
    const v = row.map((x, i) => (a.normBeforeGate ? x : x * gate(i)));
    const rms = Math.sqrt(sum(width, (i) => v[i]! ** 2) / width + (a.eps ?? 1e-5));
    return v.map((x, i) => {
      const c = (start + i) % D;
      const w = a.weight ? a.weight.data[c] + (a.unitOffset ? 1 : 0) : 1;
      return ((x / rms) * w + (a.bias?.data[c] ?? 0)) * (a.normBeforeGate ? gate(i) : 1);
    });
  });
}

export function layerNorm(a: Args): Values {
  const D = a.x.shape.at(-1);
  const width = a.groupSize ?? D;
  return groups(a.x, width, (row, start) => {
    const mean = sum(width, (i) => row[i]!) / width;
    const deviation = Math.sqrt(sum(width, (i) => (row[i]! - mean) ** 2) / width + (a.eps ?? 1e-5));
    return row.map((x, i) => {
      const c = (start + i) % D;
      return ((x - mean) / deviation) * (a.weight?.data[c] ?? 1) + (a.bias?.data[c] ?? 0);
    });
  });
}

export function linear(a: Args): Values {
  const [out, inner] = a.weight.shape;
  const y = new Out([a.x.data.length / inner, out]);
  for (let r = 0; r < y.shape[0]!; r++)
    for (let o = 0; o < out; o++)
      y.put(sum(inner, (i) => a.x.data[r * inner + i] * at(a.weight, o, i)) + (a.bias?.data[o] ?? 0), r, o);
  return { y: y.values };
}

export function discretize(a: Args): Values {
  const [B, L, D] = a.delta.shape;
  const N = a.A.shape[1];
  const [Abar, Bbar] = [new Out([B, L, D, N]), new Out([B, L, D, N])];
  for (let b = 0; b < B; b++)
    for (let l = 0; l < L; l++)
      for (let d = 0; d < D; d++)
        for (let n = 0; n < N; n++) {
          const [dt, A] = [at(a.delta, b, l, d), at(a.A, d, n)];
          const input = a.B.shape.length === 2 ? at(a.B, d, n) : at(a.B, b, l, n);
          const z = dt * A;
          const step = { zoh: A === 0 ? dt : Math.expm1(z) / A, 'zoh-euler': dt, bilinear: dt / (1 - z / 2) };
          Abar.put(a.method === 'bilinear' ? (1 + z / 2) / (1 - z / 2) : Math.exp(z), b, l, d, n);
          Bbar.put(step[a.method as keyof typeof step] * input, b, l, d, n);
        }
  return { Abar: Abar.values, Bbar: Bbar.values };
}

export function moe(a: Args): Values {
  const [B, L, d] = a.x.shape;
  const [E, , f] = a.down.shape;
  const y = new Float64Array(B * L * d);
  for (let t = 0; t < B * L; t++) {
    const x = a.x.data.subarray(t * d, (t + 1) * d);
    const logits = Array.from({ length: E }, (_, e) => sum(d, (i) => at(a.router, e, i) * x[i]!));
    const most = Math.max(...logits);
    const p = logits.map((s) => Math.exp(s - most) / sum(E, (e) => Math.exp(logits[e]! - most)));
    const chosen = [...p.keys()].sort((i, j) => p[j]! - p[i]! || i - j).slice(0, a.topK);
    const total = a.renormalize ? chosen.reduce((n, e) => n + p[e]!, 0) : 1;
    for (const e of chosen) {
      const row = (r: number) => sum(d, (i) => at(a.gateUp, e, r, i) * x[i]!);
      const inner = Array.from({ length: f }, (_, k) => silu(row(k)) * row(f + k));
      for (let i = 0; i < d; i++) y[t * d + i]! += (p[e]! / total) * sum(f, (k) => at(a.down, e, i, k) * inner[k]!);
    }
  }
  return { y };
}

export function fftConv(a: Args): Values {
  const [B, L, D] = a.x.shape;
  const taps = a.kernel.shape[1];
  const y = new Out([B, L, D]);
  for (let b = 0; b < B; b++)
    for (let l = 0; l < L; l++)
      for (let d = 0; d < D; d++) {
        const past = sum(Math.min(taps, l + 1), (s) => at(a.kernel, d, s) * at(a.x, b, l - s, d));
        y.put(past + (a.D?.data[d] ?? 0) * at(a.x, b, l, d), b, l, d);
      }
  return { y: y.values };
}

export function embedding(a: Args): Values {
  const d = a.weight.shape[1];
  return {
    y: Float64Array.from(
      Array.from(a.ids.data as Int32Array).flatMap((id) => [...a.weight.data.slice(id * d, (id + 1) * d)]),
    ),
  };
}

/** −log softmax of rows of logits, their mean over the targets that count. */
export function crossEntropy(a: Args): Values {
  const [V, e] = [a.logits.shape.at(-1), a.labelSmoothing];
  const counted = Array.from((a.targets.data as Int32Array).entries()).filter(([, t]) => t !== a.ignoreIndex);
  const loss = counted.reduce((total, [row, target]) => {
    const logits = Array.from<number>(a.logits.data.slice(row * V, (row + 1) * V));
    const top = Math.max(...logits);
    const lse = top + Math.log(sum(V, (i) => Math.exp(logits[i]! - top)));
    return total + (1 - e) * (lse - logits[target]!) + e * (lse - sum(V, (i) => logits[i]!) / V);
  }, 0);
  return { loss: Float64Array.of(counted.length ? loss / counted.length : 0) };
}

export function linearCrossEntropy(a: Args): Values {
  const y = linear(a).y!.map((v) => v * a.scale);
  return crossEntropy({ ...a, logits: { data: y, shape: [...a.x.shape.slice(0, -1), a.weight.shape[0]] } });
}

/** The mixers' recurrences in plain TypeScript and double precision, one head from its first token to its last. */

export interface Rows {
  /** (length, heads, width): what one head reads of token t starts at ((t · heads) + head) · width. */
  data: Float32Array;
  heads: number;
  width: number;
}

const row = ({ data, heads, width }: Rows, t: number, h: number): Float32Array =>
  data.subarray((t * heads + h) * width, (t * heads + h + 1) * width);

/**
 * y_t = read(S_t), S a (keys, values) matrix that `step` turns over; what every one of them is but for its step.
 * `read` sees the state before the step where `before` is set (RWKV-6 reads the past and adds the present itself).
 */
function recurrence(
  length: number,
  keys: number,
  values: number,
  step: (t: number, S: Float64Array, y: Float64Array) => void,
): Float64Array {
  const S = new Float64Array(keys * values);
  const out = new Float64Array(length * values);
  for (let t = 0; t < length; t++) step(t, S, out.subarray(t * values, (t + 1) * values));
  return out;
}

/** Mamba-2: S ← e^{dt·A} S + dt·B xᵀ, y = Sᵀ C (Dao & Gu 2024, section 5). */
export function ssdHead(length: number, h: number, a: { x: Rows; dt: Rows; A: Float32Array; B: Rows; C: Rows }) {
  const [keys, values] = [a.B.width, a.x.width];
  return recurrence(length, keys, values, (t, S, y) => {
    const dt = row(a.dt, t, 0)[h]!;
    const [x, B, C] = [row(a.x, t, h), row(a.B, t, 0), row(a.C, t, 0)];
    const decay = Math.exp(dt * a.A[h]!);
    for (let n = 0; n < keys; n++)
      for (let p = 0; p < values; p++) {
        S[n * values + p] = decay * S[n * values + p]! + dt * B[n]! * x[p]!;
        y[p]! += C[n]! * S[n * values + p]!;
      }
  });
}

/** RetNet: S ← γ S + k vᵀ, y = Sᵀ q / √K, γ = 1 − 2^(−5−h) (Sun et al. 2023). */
export function retentionHead(length: number, h: number, a: { q: Rows; k: Rows; v: Rows }) {
  const [keys, values] = [a.k.width, a.v.width];
  const decay = 1 - 2 ** (-5 - h);
  return recurrence(length, keys, values, (t, S, y) => {
    const [q, k, v] = [row(a.q, t, h), row(a.k, t, h), row(a.v, t, h)];
    for (let n = 0; n < keys; n++)
      for (let p = 0; p < values; p++) {
        S[n * values + p] = decay * S[n * values + p]! + k[n]! * v[p]!;
        y[p]! += (q[n]! / Math.sqrt(keys)) * S[n * values + p]!;
      }
  });
}

/** Mamba-3, one input and output a head, B and C biased by 1 (ops/mamba3.h). */
export function mamba3Head(
  length: number,
  h: number,
  a: { x: Rows; dt: Rows; decay: Rows; trap: Rows; angles: Rows; B: Rows; C: Rows },
) {
  const [keys, values] = [a.B.width, a.x.width];
  const theta = new Float64Array(a.angles.width);
  let before: { k: Float64Array; x: Float32Array } = { k: new Float64Array(keys), x: new Float32Array(values) };
  return recurrence(length, keys, values, (t, S, y) => {
    const [dt, trap] = [row(a.dt, t, 0)[h]!, row(a.trap, t, 0)[h]!];
    const [alpha, tau] = [Math.exp(row(a.decay, t, h)[0]!), 1 / (1 + Math.exp(-trap))];
    const raw = row(a.angles, t, 0);
    for (const [i, angle] of raw.entries()) theta[i]! += Math.PI * Math.tanh(angle) * dt;
    const rotated = (channels: Float32Array) => {
      const out = Float64Array.from(channels, (c) => c + 1);
      for (const [i, angle] of theta.entries()) {
        const [u, w] = [out[2 * i]!, out[2 * i + 1]!];
        out[2 * i] = u * Math.cos(angle) - w * Math.sin(angle);
        out[2 * i + 1] = u * Math.sin(angle) + w * Math.cos(angle);
      }
      return out;
    };
    const [k, c, x] = [rotated(row(a.B, t, 0)), rotated(row(a.C, t, 0)), row(a.x, t, h)];
    for (let n = 0; n < keys; n++)
      for (let p = 0; p < values; p++) {
        const at = n * values + p;
        const carried = (1 - tau) * dt * before.k[n]! * before.x[p]!;
        S[at] = alpha * (S[at]! + carried) + tau * dt * k[n]! * x[p]!;
        y[p]! += c[n]! * S[at]!;
      }
    before = { k, x };
  });
}

/** Gated linear attention: S ← diag(e^g) S + k vᵀ, y = Sᵀ q / √K (Yang et al. 2023). */
export function glaHead(length: number, h: number, a: { q: Rows; k: Rows; v: Rows; g: Rows }) {
  const [keys, values] = [a.k.width, a.v.width];
  return recurrence(length, keys, values, (t, S, y) => {
    const [q, k, v, g] = [row(a.q, t, h), row(a.k, t, h), row(a.v, t, h), row(a.g, t, h)];
    for (let n = 0; n < keys; n++)
      for (let p = 0; p < values; p++) {
        const at = n * values + p;
        S[at] = Math.exp(g[n]!) * S[at]! + k[n]! * v[p]!;
        y[p]! += (q[n]! / Math.sqrt(keys)) * S[at]!;
      }
  });
}

/**
 * The delta rule with a decay of a head (Yang et al. 2024) or of each key (Kimi Team 2025), by the width of g:
 * S ← diag(e^g) S, S += k (β (v − Sᵀk))ᵀ, y = Sᵀ q / √K.
 */
export function deltaHead(
  length: number,
  h: number,
  a: { q: Rows; k: Rows; v: Rows; g: Rows; beta: Rows },
): Float64Array {
  const [keys, values] = [a.k.width, a.v.width];
  return recurrence(length, keys, values, (t, S, y) => {
    const [q, k, v, g] = [row(a.q, t, h), row(a.k, t, h), row(a.v, t, h), row(a.g, t, h)];
    const beta = row(a.beta, t, 0)[h]!;
    for (let p = 0; p < values; p++) {
      let seen = 0;
      for (let n = 0; n < keys; n++) {
        S[n * values + p]! *= Math.exp(g[g.length === 1 ? 0 : n]!);
        seen += k[n]! * S[n * values + p]!;
      }
      for (let n = 0; n < keys; n++) {
        S[n * values + p]! += k[n]! * beta * (v[p]! - seen);
        y[p]! += (q[n]! / Math.sqrt(keys)) * S[n * values + p]!;
      }
    }
  });
}

/** RWKV-6: y = (S + u k vᵀ)ᵀ r, S ← e^w S + k vᵀ with a decay per key (Peng et al. 2024). */
export function wkv6Head(length: number, h: number, a: { r: Rows; k: Rows; v: Rows; w: Rows; u: Float32Array }) {
  const [keys, values] = [a.k.width, a.v.width];
  return recurrence(length, keys, values, (t, S, y) => {
    const [r, k, v, w] = [row(a.r, t, h), row(a.k, t, h), row(a.v, t, h), row(a.w, t, h)];
    for (let n = 0; n < keys; n++)
      for (let p = 0; p < values; p++) {
        const at = n * values + p;
        y[p]! += r[n]! * (S[at]! + a.u[h * keys + n]! * k[n]! * v[p]!);
        S[at] = Math.exp(w[n]!) * S[at]! + k[n]! * v[p]!;
      }
  });
}

/** RWKV-7, S (values, keys): S ← S·diag(e^w) + (S·a) bᵀ + v kᵀ, y = S·r (Peng et al. 2025). */
export function wkv7Head(
  length: number,
  h: number,
  x: { r: Rows; w: Rows; k: Rows; v: Rows; a: Rows; b: Rows },
): Float64Array {
  const [keys, values] = [x.k.width, x.v.width];
  return recurrence(length, keys, values, (t, S, y) => {
    const [r, w, k, v, a, b] = [x.r, x.w, x.k, x.v, x.a, x.b].map((rows) => row(rows, t, h)) as Float32Array[];
    for (let p = 0; p < values; p++) {
      let removed = 0;
      for (let n = 0; n < keys; n++) removed += S[p * keys + n]! * a![n]!;
      for (let n = 0; n < keys; n++) {
        const at = p * keys + n;
        S[at] = S[at]! * Math.exp(w![n]!) + removed * b![n]! + v![p]! * k![n]!;
        y[p]! += S[at]! * r![n]!;
      }
    }
  });
}

/** RWKV-4, one channel: a softmax over the past with decay e^{−e^w} and bonus u for the present (Peng et al. 2023). */
export function wkv4Channel(
  length: number,
  c: number,
  a: { k: Rows; v: Rows; timeDecay: Float32Array; timeFirst: Float32Array },
): Float64Array {
  const y = new Float64Array(length);
  const decay = Math.exp(-Math.exp(a.timeDecay[c]!));
  let [numerator, denominator] = [0, 0];
  for (let t = 0; t < length; t++) {
    const [k, v] = [row(a.k, t, 0)[c]!, row(a.v, t, 0)[c]!];
    const now = Math.exp(a.timeFirst[c]! + k);
    y[t] = (numerator + now * v) / (denominator + now);
    numerator = decay * numerator + Math.exp(k) * v;
    denominator = decay * denominator + Math.exp(k);
  }
  return y;
}

/** A long convolution at one token and channel; kernel (channels, taps). */
export function convolution(x: Rows, kernel: Float32Array, t: number, c: number): number {
  const taps = kernel.length / x.width;
  let y = 0;
  for (let s = 0; s <= t && s < taps; s++) y += kernel[c * taps + s]! * x.data[(t - s) * x.width + c]!;
  return y;
}

interface Block {
  data: Float32Array;
  shape: readonly number[];
}

/** Griffin: h ← a h + √(1 − a²) σ(W_x x) x, a = e^(−8 softplus(Λ) σ(W_a x)); at the start h = σ(W_x x) x (De et al. 2024). */
export function rgLruHead(
  length: number,
  h: number,
  x: Rows,
  w: Record<
    'inputGateWeight' | 'inputGateBias' | 'recurrentGateWeight' | 'recurrentGateBias' | 'recurrentParam',
    Block
  >,
) {
  const { width } = x;
  const gate = (given: Float32Array, weight: Block, bias: Block, j: number): number => {
    let sum = bias.data[h * width + j]!;
    for (let i = 0; i < width; i++) sum += given[i]! * weight.data[(h * width + i) * width + j]!;
    return 1 / (1 + Math.exp(-sum));
  };
  return recurrence(length, 1, width, (t, S, y) => {
    const given = row(x, t, h);
    for (let j = 0; j < width; j++) {
      const rate = Math.log1p(Math.exp(w.recurrentParam.data[h * width + j]!));
      const a = Math.exp(-8 * rate * gate(given, w.recurrentGateWeight, w.recurrentGateBias, j));
      const input = given[j]! * gate(given, w.inputGateWeight, w.inputGateBias, j);
      S[j] = t === 0 ? input : a * S[j]! + Math.sqrt(1 - a * a) * input;
      y[j] = S[j]!;
    }
  });
}

/** LFM2: c ∘ conv(b ∘ x), one channel. */
export function shortConvChannel(length: number, channel: number, a: Record<'b' | 'c' | 'x' | 'weight', Block>) {
  const [channels, taps] = a.weight.shape as [number, number];
  const at = ({ data }: Block, t: number) => data[t * channels + channel]!;
  return Float64Array.from({ length }, (_, t) => {
    let sum = 0;
    for (let j = Math.max(0, taps - 1 - t); j < taps; j++)
      sum += a.weight.data[channel * taps + j]! * at(a.b, t - taps + 1 + j) * at(a.x, t - taps + 1 + j);
    return at(a.c, t) * sum;
  });
}

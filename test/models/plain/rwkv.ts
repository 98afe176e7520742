// RWKV 4 to 7 under the names of its official checkpoints, and 7 in flash-linear-attention's layout.
import {
  type Config,
  dot,
  each,
  type Net,
  part,
  previous,
  product,
  type Row,
  type Rows,
  relu2,
  sigmoid,
  silu,
  sum,
} from './net.js';

const EPS = 1e-5;

/** x and its predecessor mixed by one weight for each channel, stored as (1, 1, d); `w` of x itself. */
const mixed = (x: Rows, w: ArrayLike<number>): Rows => {
  const before = previous(x);
  return each(x, (v, t, i) => v * w[i]! + before[t]![i]! * (1 - w[i]!));
};
const vector = (net: Net, name: string, width: number, low = 0, high = 1) => net.tensor(name, [1, 1, width], low, high);

function wkv4(net: Net, x: Rows, A: number): Rows {
  const d = x[0]!.length;
  const [k, v, r] = [
    ['k', 'key'],
    ['v', 'value'],
    ['r', 'receptance'],
  ].map(([mix, name]) => net.linear(mixed(x, vector(net, `time_mix_${mix}`, d)), name!, A)) as [Rows, Rows, Rows];
  const [decay, first] = [net.tensor('time_decay', [A], -3, 2), net.tensor('time_first', [A], -1, 1)];
  const [num, den] = [new Float64Array(A), new Float64Array(A)];
  const y = k.map((row, t) =>
    row.map((k, i) => {
      const own = Math.exp(first[i]! + k);
      const out = (own * v[t]![i]! + num[i]!) / (own + den[i]!);
      const kept = Math.exp(-Math.exp(decay[i]!));
      num[i] = kept * num[i]! + Math.exp(k) * v[t]![i]!;
      den[i] = kept * den[i]! + Math.exp(k);
      return out * sigmoid(r[t]![i]!);
    }),
  );
  return net.linear(y, 'output', d);
}

/** y = rᵀ(S + u k vᵀ), S = diag(decay) S + k vᵀ of each head, decays (tokens, A). */
function wkv6(
  r: Rows,
  k: Rows,
  v: Rows,
  decay: (t: number) => ArrayLike<number>,
  u: ArrayLike<number>,
  size: number,
): Rows {
  const S = new Float64Array(r[0]!.length * size);
  return r.map((row, t) => {
    const y = new Float64Array(row.length);
    for (const [i, x] of row.entries()) {
      const at = i - (i % size);
      for (let j = 0; j < size; j++) {
        const kv = k[t]![i]! * v[t]![at + j]!;
        y[at + j]! += x * (S[i * size + j]! + u[i]! * kv);
        S[i * size + j] = decay(t)[i]! * S[i * size + j]! + kv;
      }
    }
    return y;
  });
}

function heads5(
  net: Net,
  [xr, xk, xv, xg]: Rows[],
  decay: (t: number) => ArrayLike<number>,
  A: number,
  size: number,
): Rows {
  const [r, k, v] = [net.linear(xr!, 'receptance', A), net.linear(xk!, 'key', A), net.linear(xv!, 'value', A)];
  const y = wkv6(r, k, v, decay, net.tensor('time_faaaa', [A / size, size], -1, 1), size);
  const gate = each(net.linear(xg!, 'gate', A), silu);
  return net.linear(product(net.layerNorm(y, 'ln_x', 64 * EPS, true, size), gate), 'output', xr![0]!.length);
}

function time5(net: Net, x: Rows, A: number, size: number): Rows {
  const mixes = ['r', 'k', 'v', 'g'].map((name) => mixed(x, vector(net, `time_mix_${name}`, x[0]!.length)));
  const decay = net.tensor('time_decay', [A / size, size], -4, 1).map((w) => Math.exp(-Math.exp(w)));
  return heads5(net, mixes, () => decay, A, size);
}

function time6(net: Net, x: Rows, A: number, size: number, c: Config): Rows {
  const d = x[0]!.length;
  const [rank, decayRank] = [c.d_mix_lora, c.d_decay_lora] as [number, number];
  const before = previous(x);
  const towards = (w: (t: number, i: number) => number) => each(x, (v, t, i) => v + (before[t]![i]! - v) * w(t, i));
  const maa = (name: string) => vector(net, `time_maa_${name}`, d);
  const inner = each(
    net.right(
      towards((_, i) => maa('x')[i]!),
      'time_maa_w1',
      5 * rank,
    ),
    Math.tanh,
  );
  const [xw, ...others] = ['w', 'k', 'v', 'r', 'g'].map((name, j) => {
    const own = net.right(part(inner, j * rank, rank), 'time_maa_w2', d, [5, rank, d], j * rank * d);
    return towards((t, i) => maa(name)[i]! + own[t]![i]!);
  });
  const low = each(net.right(xw!, 'time_decay_w1', decayRank), Math.tanh);
  const base = vector(net, 'time_decay', A, -4, 1);
  const decay = each(net.right(low, 'time_decay_w2', A), (v, _, i) => Math.exp(-Math.exp(base[i]! + v)));
  const [xk, xv, xr, xg] = others;
  return heads5(net, [xr!, xk!, xv!, xg!], (t) => decay[t]!, A, size);
}

interface Seven {
  r: Rows;
  k: Rows;
  v: Rows;
  /** Decay, rate and gate. */
  w: Rows;
  a: Rows;
  g: Rows;
  kk: Float32Array;
  ka: Float32Array;
  rk: Float32Array;
}

/** The state (V, K) of each head: S = S·w + (S(−κ))(κ a)ᵀ + v kᵀ, y = S r; then the norm, the bonus and the gate. */
function heads7(
  { r, k, v, w, a, g, kk, ka, rk }: Seven,
  size: number,
  unit: (x: Row) => Row,
  norm: (y: Rows) => Rows,
): Rows {
  const S = new Float64Array(r[0]!.length * size);
  const changed = each(k, (x, t, i) => x * (1 + (a[t]![i]! - 1) * ka[i]!));
  const y = r.map((row, t) => {
    const out = new Float64Array(row.length);
    for (let at = 0; at < row.length; at += size) {
      const to = at + size;
      const kappa = unit(k[t]!.slice(at, to).map((x, i) => x * kk[at + i]!));
      for (let i = at; i < to; i++) {
        const s = S.subarray(i * size, (i + 1) * size);
        const seen = -dot(s, kappa);
        for (let j = 0; j < size; j++)
          s[j] = s[j]! * w[t]![at + j]! + seen * kappa[j]! * a[t]![at + j]! + v[t]![i]! * changed[t]![at + j]!;
        out[i] = dot(s, row.subarray(at, to));
      }
    }
    return out;
  });
  const bonus = r.map((row, t) => row.map((x, i) => x * changed[t]![i]! * rk[i]!));
  return product(
    each(norm(y), (x, t, i) => {
      const at = i - (i % size);
      return x + bonus[t]!.subarray(at, at + size).reduce((n, b) => n + b, 0) * v[t]![i]!;
    }),
    g,
  );
}

/** x / max(|x|, 1e-12), or as flash-linear-attention's fused kernels have it. */
const normalised = (x: Row) => x.map((v) => v / Math.max(Math.sqrt(dot(x, x)), 1e-12));
const rounded = (x: Row) => x.map((v) => v / Math.sqrt(dot(x, x) + 1e-6));

const decay7 = (x: number) => Math.exp(-Math.exp(-0.5) * sigmoid(x));

function time7(net: Net, x: Rows, first: Rows | undefined, size: number): [Rows, Rows] {
  const d = x[0]!.length;
  const mix = (name: string) =>
    mixed(
      x,
      vector(net, `x_${name}`, d).map((m) => 1 - m),
    );
  const low = (name: string, rank: number, inner: (x: number) => number) =>
    net.right(each(net.right(mix(name), `${name}1`, rank), inner), `${name}2`, d);
  const based = (name: string, x: Rows) => each(x, (v, _, i) => vector(net, `${name}0`, d, -2, 1)[i]! + v);
  const same = (x: number) => x;
  let v = net.linear(mix('v'), 'value', d);
  if (first) {
    const open = each(based('v', low('v', 3, same)), sigmoid);
    v = each(v, (x, t, i) => x + (first[t]![i]! - x) * open[t]![i]!);
  }
  const parts = {
    ...{ r: net.linear(mix('r'), 'receptance', d), k: net.linear(mix('k'), 'key', d), v },
    ...{ w: each(based('w', low('w', 5, Math.tanh)), decay7), a: each(based('a', low('a', 4, same)), sigmoid) },
    ...{ g: low('g', 6, sigmoid), kk: vector(net, 'k_k', d, 0.5, 1.5), ka: vector(net, 'k_a', d, 0.5, 1.5) },
    rk: net.tensor('r_k', [d / size, size]),
  };
  const y = heads7(parts, size, normalised, (y) => net.layerNorm(y, 'ln_x', 64 * EPS, true, size));
  return [net.linear(y, 'output', d), first ?? v];
}

function channels(net: Net, x: Rows, version: number, dFf: number): Rows {
  const d = x[0]!.length;
  const name = version === 6 ? 'time_maa_' : version === 7 ? 'x_' : 'time_mix_';
  const mix = (of: string) =>
    mixed(
      x,
      vector(net, name + of, d).map((m) => (version < 6 ? m : 1 - m)),
    );
  const y = net.linear(each(net.linear(mix('k'), 'key', dFf), relu2), 'value', d);
  return version === 7 ? y : product(each(net.linear(mix('r'), 'receptance', d), sigmoid), y);
}

export function rwkv(net: Net, c: Config, ids: Int32Array): Rows {
  const version = Number((c.model_type as string).at(-1));
  const [d, size] = [c.n_embd, c.head_size] as [number, number];
  const A = (c.dim_att as number | undefined) ?? d;
  let x = net.embedding(ids, 'emb.weight', c.vocab_size as number, d);
  x = net.layerNorm(x, 'blocks.0.ln0', EPS);
  let first: Rows | undefined;
  for (let i = 0; i < (c.n_layer as number); i++) {
    const block = net.at('blocks', i);
    const [h, att] = [block.layerNorm(x, 'ln1', EPS), block.at('att')];
    if (version === 7) {
      const [y, values] = time7(att, h, first, size);
      [x, first] = [sum(x, y), values];
    } else
      x = sum(x, version === 4 ? wkv4(att, h, A) : version === 5 ? time5(att, h, A, size) : time6(att, h, A, size, c));
    x = sum(x, channels(block.at('ffn'), block.layerNorm(x, 'ln2', EPS), version, c.dim_ffn as number));
  }
  return net.logits(net.layerNorm(x, 'ln_out', EPS), 'head.weight', c.vocab_size as number);
}

export function rwkvConfig(net: Net, version: 4 | 5 | 6 | 7): Config {
  const size = net.one(4, 8, 10, 24, 48, 64, 80);
  const d = size * net.one(1, 2, 3);
  const sizes = { vocab_size: 61, n_layer: 3, n_embd: d, dim_ffn: net.one(24, 33, 64) };
  const model_type = `rwkv${version}`;
  if (version === 4) return { model_type, ...sizes, rescale_every: 0, dim_att: net.one(d, 12, 40) };
  const wide = version === 7 ? {} : { dim_att: size * net.one(1, 2, 3) };
  return {
    model_type,
    ...sizes,
    ...wide,
    head_size: size,
    ...(version === 6 && { d_mix_lora: 3, d_decay_lora: net.one(2, 5) }),
  };
}

export function flaRwkv7(net: Net, c: Config, ids: Int32Array): Rows {
  const [d, size, eps, bias] = [c.hidden_size, c.head_dim, c.norm_eps, c.norm_bias] as [
    number,
    number,
    number,
    boolean,
  ];
  const model = net.at('model');
  let x = model.embedding(ids, 'embeddings.weight', c.vocab_size as number, d);
  let first: Rows | undefined;
  for (let i = 0; i < (c.num_hidden_layers as number); i++) {
    const layer = model.at('layers', i);
    if (i === 0 && c.norm_first) x = layer.layerNorm(x, 'pre_norm', eps, bias);
    const [h, attn] = [layer.layerNorm(x, 'attn_norm', eps, bias), layer.at('attn')];
    const mix = (name: string) =>
      mixed(
        h,
        vector(attn, `x_${name}`, d).map((m) => 1 - m),
      );
    const low = (name: string, key: string, inner: (x: number) => number) => {
      const lora = attn.at(`${name}_lora`);
      return lora.linear(each(lora.linear(mix(name), 'lora.0', c[key] as number), inner), 'lora.2', d, name !== 'g');
    };
    const same = (x: number) => x;
    let v = attn.linear(mix('v'), 'v_proj', d);
    if (first) {
      const [all, open] = [first, each(low('v', 'v_low_rank_dim', same), sigmoid)];
      v = each(v, (x, t, i) => x + (all[t]![i]! - x) * open[t]![i]!);
    }
    first ??= v;
    const parts = {
      ...{ r: attn.linear(mix('r'), 'r_proj', d), k: attn.linear(mix('k'), 'k_proj', d), v },
      w: each(low('w', 'decay_low_rank_dim', Math.tanh), (x) => Math.exp(-0.6065306597126334 * sigmoid(x))),
      ...{ a: each(low('a', 'a_low_rank_dim', same), sigmoid), g: low('g', 'gate_low_rank_dim', sigmoid) },
      ...{
        kk: attn.tensor('k_k', [d], 0.5, 1.5),
        ka: attn.tensor('k_a', [d], 0.5, 1.5),
        rk: attn.tensor('r_k', [d / size, size]),
      },
    };
    const unit = c.fuse_norm ? rounded : normalised;
    const y = heads7(parts, size, unit, (y) => attn.layerNorm(y, 'g_norm', size * eps, true, size));
    x = sum(x, attn.linear(y, 'o_proj', d));
    const [f, ffn] = [layer.layerNorm(x, 'ffn_norm', eps, bias), layer.at('ffn')];
    const mixedKeys = mixed(
      f,
      ffn.tensor('x_k', [d], 0, 1).map((m) => 1 - m),
    );
    x = sum(x, ffn.linear(each(ffn.linear(mixedKeys, 'key', c.intermediate_size as number), relu2), 'value', d));
  }
  return net.logits(model.layerNorm(x, 'norm', eps, bias), 'lm_head.weight', c.vocab_size as number);
}

export function flaRwkv7Config(net: Net): Config {
  const size = net.one(4, 8, 10, 24, 48, 64, 80);
  const ranks = {
    decay_low_rank_dim: net.one(3, 8),
    a_low_rank_dim: 5,
    v_low_rank_dim: 2,
    gate_low_rank_dim: net.one(6, 7),
  };
  return {
    ...{
      model_type: 'rwkv7',
      vocab_size: 61,
      hidden_size: size * net.one(1, 2, 3),
      head_dim: size,
      num_hidden_layers: 3,
    },
    ...{ ...ranks, intermediate_size: net.one(24, 33), norm_eps: net.one(1e-5, 1e-3), tie_word_embeddings: false },
    ...{ norm_first: net.coin(), norm_bias: net.coin(), fuse_norm: net.coin(), hidden_act: 'sqrelu', attn: null },
  };
}

// mamba_ssm's checkpoints: Mamba-1, 2 and 3, attention, gated MLPs.
import {
  type Config,
  dot,
  each,
  joined,
  type Net,
  part,
  product,
  type Row,
  type Rows,
  row,
  sigmoid,
  silu,
  softplus,
  sum,
  unitRms,
} from './net.js';

const EPS = 1e-5;

export function mamba1(net: Net, h: Rows, ssm: Config): Rows {
  const [d, N] = [h[0]!.length, ssm.d_state as number];
  const E = (ssm.expand as number) * d;
  const R = ssm.dt_rank === 'auto' ? Math.ceil(d / 16) : (ssm.dt_rank as number);
  const xz = net.linear(h, 'in_proj', 2 * E, ssm.bias as boolean);
  const u = each(net.conv(part(xz, 0, E), 'conv1d', ssm.d_conv as number, ssm.conv_bias as boolean), silu);
  const dbc = net.linear(u, 'x_proj', R + 2 * N);
  const dt = each(net.linear(part(dbc, 0, R), 'dt_proj', E, true), softplus);
  const A = net.tensor('A_log', [E, N], -1, 1);
  const D = net.tensor('D', [E], 0.5, 1.5);
  const S = new Float64Array(E * N);
  const y = u.map((x, t) =>
    row(E, (e) => {
      const [B, C] = [dbc[t]!.subarray(R, R + N), dbc[t]!.subarray(R + N)];
      const s = S.subarray(e * N, (e + 1) * N);
      for (let n = 0; n < N; n++)
        s[n] = Math.exp(-dt[t]![e]! * Math.exp(A[e * N + n]!)) * s[n]! + dt[t]![e]! * B[n]! * x[e]!;
      return (dot(s, C) + D[e]! * x[e]!) * silu(xz[t]![E + e]!);
    }),
  );
  return net.linear(y, 'out_proj', d, ssm.bias as boolean);
}

export function mamba2(net: Net, h: Rows, ssm: Config): Rows {
  const d = h[0]!.length;
  const [N, G, P] = [ssm.d_state, ssm.ngroups, ssm.headdim] as [number, number, number];
  const inner = (ssm.expand as number) * d;
  const E = (ssm.d_ssm as number | null) ?? inner;
  const [H, apart] = [E / P, inner - E];
  const all = net.linear(h, 'in_proj', 2 * inner + 2 * G * N + H, ssm.bias as boolean);
  const [z0, x0, z] = [part(all, 0, apart), part(all, apart, apart), part(all, 2 * apart, E)];
  const at = 2 * apart + E;
  const mixed = net.conv(part(all, at, E + 2 * G * N), 'conv1d', ssm.d_conv as number, ssm.conv_bias as boolean);
  const xBC = each(mixed, silu);
  const bias = net.tensor('dt_bias', [H], -1, 1);
  const [low, high] = (ssm.dt_limit as [number, number] | undefined) ?? [0, Number.POSITIVE_INFINITY];
  const dt = each(part(all, at + E + 2 * G * N, H), (x, _, h) => Math.min(high, Math.max(low, softplus(x + bias[h]!))));
  const A = net.tensor('A_log', [H], -1, 1);
  const D = net.tensor('D', [ssm.D_has_hdim ? E : H], 0.5, 1.5);
  const S = new Float64Array(E * N);
  const y = xBC.map((r, t) =>
    row(E, (e) => {
      const head = Math.floor(e / P);
      const from = E + Math.floor(head / (H / G)) * N;
      const step = dt[t]![head]!;
      const s = S.subarray(e * N, (e + 1) * N);
      for (let n = 0; n < N; n++) s[n] = Math.exp(-step * Math.exp(A[head]!)) * s[n]! + step * r[e]! * r[from + n]!;
      return dot(s, r.subarray(from + G * N, from + (G + 1) * N)) + D[ssm.D_has_hdim ? e : head]! * r[e]!;
    }),
  );
  const w = ssm.rmsnorm ? net.tensor('norm.weight', [E], 0.6, 1.4) : undefined;
  const normed = (x: Rows) => x.map((r) => unitRms(r, EPS, E / G).map((v, i) => v * w![i]!));
  const gate = each(z, silu);
  const out = !w ? product(y, gate) : ssm.norm_before_gate ? product(normed(y), gate) : normed(product(y, gate));
  return net.linear(apart > 0 ? joined(product(each(z0, silu), x0), out) : out, 'out_proj', d, ssm.bias as boolean);
}

/** Pairs of channels that turn together: neighbours, or with ranks halves. */
function rotated(x: Row, theta: Row, halves: boolean): Row {
  const out = x.slice();
  theta.forEach((angle, i) => {
    const [a, b] = halves ? [i, i + x.length / 2] : [2 * i, 2 * i + 1];
    out[a] = x[a]! * Math.cos(angle) - x[b]! * Math.sin(angle);
    out[b] = x[a]! * Math.sin(angle) + x[b]! * Math.cos(angle);
  });
  return out;
}

export function mamba3(net: Net, h: Rows, ssm: Config): Rows {
  const d = h[0]!.length;
  const [N, G, P] = [ssm.d_state, ssm.ngroups, ssm.headdim] as [number, number, number];
  const E = (ssm.expand as number) * d;
  const H = E / P;
  const mimo = ssm.is_mimo as boolean;
  const R = mimo ? (ssm.mimo_rank as number) : 1;
  const S = Math.floor(Math.floor(N * (ssm.rope_fraction as number)) / 2);
  const all = net.linear(h, 'in_proj', 2 * E + 2 * N * G * R + 3 * H + S);
  const heads = (name: string, shape: number[], low: number, high: number) => {
    const values = net.tensor(name, [H, ...shape], low, high);
    return (head: number, r = 0) => {
      const width = shape.at(-1)!;
      const start = (head * (shape.length > 1 ? shape[0]! : 1) + r) * width;
      return values.subarray(start, start + width);
    };
  };
  const [biasB, biasC] = [heads('B_bias', [R, N], 0.5, 1.5), heads('C_bias', [R, N], 0.5, 1.5)];
  const ofRank = (name: string) => (mimo ? heads(name, [R, P], 0.2, 1.2) : () => new Float32Array(P).fill(1));
  const [mx, mz, mo] = [ofRank('mimo_x'), ofRank('mimo_z'), ofRank('mimo_o')];
  const dtBias = net.tensor('dt_bias', [H], -3, 0);
  const D = net.tensor('D', [H], 0.5, 1.5);
  const [wB, wC] = [net.tensor('B_norm.weight', [N], 0.6, 1.4), net.tensor('C_norm.weight', [N], 0.6, 1.4)];
  const wOut = ssm.is_outproj_norm ? net.tensor('norm.weight', [E], 0.6, 1.4) : undefined;
  const theta = Array.from({ length: H }, () => new Float64Array(S));
  const state = Array.from({ length: H }, () => new Float64Array(P * N));
  const none = { k: new Float64Array(N) as Row, v: new Float64Array(P) as Row };
  const before = Array.from({ length: H }, () => new Array<typeof none>(R).fill(none));
  const y = all.map((a) => {
    const out = new Float64Array(E);
    const steps = a.subarray(2 * E + 2 * R * G * N);
    const angles = steps.subarray(3 * H);
    for (let head = 0; head < H; head++) {
      const group = Math.floor(head / (H / G));
      const u = steps[H + head]!;
      const dt = softplus(steps[head]! + dtBias[head]!);
      const decay = Math.exp(dt * Math.min(-(u >= 0 ? 1 + u : 1 / (1 - u)), -(ssm.A_floor as number)));
      const tau = sigmoid(steps[2 * H + head]!);
      theta[head] = theta[head]!.map((x, i) => x + Math.PI * Math.tanh(angles[i]!) * dt);
      const turned = (which: number, r: number, w: Float32Array, bias: Float32Array) => {
        const from = 2 * E + ((which * R + r) * G + group) * N;
        const normed = unitRms(a.slice(from, from + N), EPS).map((v, n) => v * w[n]! + bias[n]!);
        return rotated(normed, theta[head]!, mimo);
      };
      const x = a.subarray(E + head * P, E + (head + 1) * P);
      const now = before[head]!.map((_, r) => ({
        k: turned(0, r, wB, biasB(head, r)),
        v: row(P, (p) => x[p]! * mx(head, r)[p]!),
      }));
      const h = state[head]!;
      for (let p = 0; p < P; p++)
        for (let n = 0; n < N; n++) {
          let s = decay * h[p * N + n]!;
          for (let r = 0; r < R; r++) {
            s += (1 - tau) * dt * decay * before[head]![r]!.v[p]! * before[head]![r]!.k[n]!;
            s += tau * dt * now[r]!.v[p]! * now[r]!.k[n]!;
          }
          h[p * N + n] = s;
        }
      before[head] = now;
      for (let r = 0; r < R; r++) {
        const c = turned(1, r, wC, biasC(head, r));
        let o = row(P, (p) => dot(h.subarray(p * N, (p + 1) * N), c) + D[head]! * now[r]!.v[p]!);
        if (wOut) o = unitRms(o, EPS).map((v, p) => v * wOut[head * P + p]!);
        for (let p = 0; p < P; p++)
          out[head * P + p]! += o[p]! * silu(a[head * P + p]! * mz(head, r)[p]!) * mo(head, r)[p]!;
      }
    }
    return out;
  });
  return net.linear(y, 'out_proj', d);
}

/** Softmax attention with a convolution over q, k and v, a rotation of some channels, and an MLP beside it. */
function attention(net: Net, h: Rows, c: Config): Rows {
  const d = h[0]!.length;
  const [nq, rotary] = [c.num_heads, c.rotary_emb_dim] as [number, number];
  const [nkv, hd] = [c.num_heads_kv ?? nq, c.head_dim ?? d / nq] as [number, number];
  const [base, scale] = [c.rotary_emb_base ?? 10000, c.softmax_scale ?? 1 / Math.sqrt(hd)] as [number, number];
  const mlp = Math.ceil((c.mlp_dim as number) / 256) * 256;
  const width = (nq + 2 * nkv) * hd;
  const all = net.linear(h, 'in_proj', width + mlp, c.qkv_proj_bias as boolean);
  let qkv = part(all, 0, width);
  if (c.d_conv) qkv = net.conv(qkv, 'conv1d', c.d_conv as number, true);
  const turned = (x: Row, t: number) =>
    x.map((v, i) => {
      if (i >= rotary) return v;
      const half = rotary / 2;
      const [j, first] = c.rotary_emb_interleaved ? [i >> 1, i % 2 === 0] : [i % half, i < half];
      const other = c.rotary_emb_interleaved ? x[i ^ 1]! : x[(i + half) % rotary]!;
      const angle = t * base ** ((-2 * j) / rotary);
      return v * Math.cos(angle) + (first ? -1 : 1) * other * Math.sin(angle);
    });
  const y = qkv.map((r, t) => {
    const out = new Float64Array(nq * hd);
    for (let q = 0; q < nq; q++) {
      const kv = Math.floor(q / (nq / nkv));
      const query = turned(r.slice(q * hd, (q + 1) * hd), t);
      const scores = row(t + 1, (s) => {
        const at = (nq + kv) * hd;
        return dot(query, turned(qkv[s]!.slice(at, at + hd), s)) * scale;
      });
      const most = Math.max(...scores);
      const total = scores.reduce((n, s) => n + Math.exp(s - most), 0);
      for (let s = 0; s <= t; s++)
        for (let i = 0; i < hd; i++)
          out[q * hd + i]! += (Math.exp(scores[s]! - most) / total) * qkv[s]![(nq + nkv + kv) * hd + i]!;
    }
    return out;
  });
  const gated = product(part(all, width, mlp / 2), each(part(all, width + mlp / 2, mlp / 2), silu));
  return net.linear(mlp > 0 ? joined(y, gated) : y, 'out_proj', d, c.out_proj_bias as boolean);
}

const mixers = { Mamba1: mamba1, Mamba2: mamba2, Mamba3: mamba3 };

export function mambaSsm(net: Net, c: Config, ids: Int32Array): Rows {
  const ssm = c.ssm_cfg as Config;
  const mixer = mixers[ssm.layer as keyof typeof mixers];
  const pad = c.pad_vocab_size_multiple as number;
  const rows = Math.ceil((c.vocab_size as number) / pad) * pad;
  const dFf = Math.ceil((c.d_intermediate as number) / 128) * 128;
  const norm = (n: Net, x: Rows, name: string) => (c.rms_norm ? n.rms(x, name, EPS) : n.layerNorm(x, name, EPS));
  const backbone = net.at('backbone');
  let x = backbone.embedding(ids, 'embedding.weight', rows, c.d_model as number);
  for (let i = 0; i < (c.n_layer as number); i++) {
    const layer = backbone.at('layers', i);
    const h = norm(layer, x, 'norm');
    const attends = (c.attn_layer_idx as number[]).includes(i);
    x = sum(x, attends ? attention(layer.at('mixer'), h, c.attn_cfg as Config) : mixer(layer.at('mixer'), h, ssm));
    if (dFf === 0) continue;
    const up = layer.linear(norm(layer, x, 'norm2'), 'mlp.fc1', 2 * dFf);
    x = sum(x, layer.linear(product(part(up, 0, dFf), each(part(up, dFf, dFf), silu)), 'mlp.fc2', c.d_model as number));
  }
  const last = norm(backbone, x, 'norm_f');
  return c.tie_embeddings ? backbone.logits(last, 'embedding.weight', rows) : net.logits(last, 'lm_head.weight', rows);
}

/** Sizes and flags of one kind of layer, d_model that heads fill. */
export function mambaSsmConfig(net: Net, layer: keyof typeof mixers): Config {
  const states = net.one(1, 4, 7, 16, 33, 64, 128);
  const expand = net.one(1, 2, 3);
  const groups = net.one(1, 2, 3);
  const headdim = net.one(4, 8, 10, 24, 48, 64, 80, 96);
  const heads = groups * (groups * headdim < 60 ? net.one(1, 2) : 1);
  const shared = {
    layer,
    d_state: states,
    expand,
    conv_bias: net.coin(),
    bias: net.coin(),
    d_conv: net.one(2, 3, 4, 5),
  };
  let d = net.one(12, 20, 33, 40);
  let ssm: Config = { ...shared, dt_rank: net.one<string | number>('auto', 1, 5) };
  if (layer !== 'Mamba1') {
    const filled = (heads * headdim) / expand;
    d = Number.isInteger(filled) ? filled : heads * headdim;
    const sizes = { headdim, ngroups: groups };
    if (layer === 'Mamba2') {
      const apart = expand > 1 && d % headdim === 0 && (d / headdim) % groups === 0 && net.coin();
      ssm = { ...shared, ...sizes, d_ssm: apart ? d : null, rmsnorm: net.coin(), norm_before_gate: net.coin() };
      ssm = { ...ssm, D_has_hdim: net.coin(), ...(net.coin() && { dt_limit: [0.1, 0.8] }) };
    } else {
      const mimo = net.coin();
      const d_state = Math.max(4, mimo ? states + (states % 2) : states);
      ssm = {
        layer,
        expand,
        ...sizes,
        d_state,
        is_mimo: mimo,
        mimo_rank: net.one(1, 2, 3, 4, 5),
        A_floor: net.one(1e-4, 0.7),
      };
      ssm = { ...ssm, rope_fraction: net.one(0.5, 1), is_outproj_norm: net.coin() };
    }
  }
  const kv = net.one(1, 2);
  const queries = kv * net.one(1, 2, 3);
  const attention = {
    num_heads: queries,
    num_heads_kv: queries === kv && net.coin() ? null : kv,
    head_dim: d % queries === 0 && d / queries >= 6 && net.coin() ? null : net.one(6, 16, 24),
    causal: true,
    ...(net.coin() && { softmax_scale: 0.3, rotary_emb_base: 500 }),
  };
  const flags = {
    d_conv: net.one(0, 3, 4),
    mlp_dim: net.one(0, 0, 100),
    qkv_proj_bias: net.coin(),
    out_proj_bias: net.coin(),
  };
  const turns = { rotary_emb_dim: net.one(0, 4, 6), rotary_emb_interleaved: net.coin() };
  const hybrid = net.coin();
  return {
    ...{
      d_model: d,
      n_layer: 3,
      vocab_size: 61,
      pad_vocab_size_multiple: net.one(1, 8, 16),
      d_intermediate: net.one(0, 0, 40),
    },
    ...{ ssm_cfg: ssm, rms_norm: net.coin(), tie_embeddings: net.coin(), residual_in_fp32: true, fused_add_norm: true },
    ...{ attn_layer_idx: hybrid ? [1] : [], attn_cfg: hybrid ? { ...attention, ...flags, ...turns } : {} },
  };
}

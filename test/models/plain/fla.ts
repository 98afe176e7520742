// Gated DeltaNet and GLA in flash-linear-attention's layout.
import {
  type Config,
  dot,
  each,
  type Net,
  product,
  type Row,
  type Rows,
  sigmoid,
  silu,
  softplus,
  sum,
  unitRms,
} from './net.js';

const l2 = (x: Row) => x.map((v) => v / Math.sqrt(dot(x, x) + 1e-6));

function projections(
  net: Net,
  h: Rows,
  widths: number[],
  taps: number | undefined,
  otherwise: (x: number) => number,
): Rows[] {
  return ['q', 'k', 'v'].map((name, i) => {
    const x = net.linear(h, `${name}_proj`, widths[i]!);
    return each(
      taps === undefined ? x : net.conv(x, `${name}_conv1d`, taps, false),
      taps === undefined ? otherwise : silu,
    );
  });
}

function deltaNet(net: Net, h: Rows, c: Config): Rows {
  const [Hk, Hv, K] = [c.num_heads, c.num_v_heads, c.head_dim] as [number, number, number];
  const V = K * (c.expand_v as number);
  const taps = c.use_short_conv ? (c.conv_size as number) : undefined;
  const [q, k, v] = projections(net, h, [Hk * K, Hk * K, Hv * V], taps, silu) as [Rows, Rows, Rows];
  const [a, b] = [net.linear(h, 'a_proj', Hv), net.linear(h, 'b_proj', Hv)];
  const [A, bias] = [net.tensor('A_log', [Hv], -1, 1), net.tensor('dt_bias', [Hv], -2, 1)];
  const S = new Float64Array(Hv * K * V);
  const y = v.map((values, t) => {
    const out = new Float64Array(Hv * V);
    for (let head = 0; head < Hv; head++) {
      const at = Math.floor(head / (Hv / Hk)) * K;
      const [query, key] = [l2(q[t]!.slice(at, at + K)), l2(k[t]!.slice(at, at + K))];
      const decay = Math.exp(-Math.exp(A[head]!) * softplus(a[t]![head]! + bias[head]!));
      const beta = sigmoid(b[t]![head]!) * (c.allow_neg_eigval ? 2 : 1);
      for (let j = 0; j < V; j++) {
        const s = (i: number) => (head * K + i) * V + j;
        for (let i = 0; i < K; i++) S[s(i)]! *= decay;
        const written = beta * (values[head * V + j]! - key.reduce((n, x, i) => n + x * S[s(i)]!, 0));
        for (let i = 0; i < K; i++) S[s(i)]! += key[i]! * written;
        out[head * V + j] = query.reduce((n, x, i) => n + x * S[s(i)]!, 0) / Math.sqrt(K);
      }
    }
    return out;
  });
  const normed = net.rms(y, 'o_norm', c.norm_eps as number, V);
  return net.linear(
    c.use_gate ? product(normed, each(net.linear(h, 'g_proj', Hv * V), silu)) : normed,
    'o_proj',
    h[0]!.length,
  );
}

function gla(net: Net, h: Rows, c: Config): Rows {
  const d = h[0]!.length;
  const [H, Hkv] = [c.num_heads, c.num_kv_heads] as [number, number];
  const [K, V] = [(d * (c.expand_k as number)) / H, (d * (c.expand_v as number)) / H];
  const taps = c.use_short_conv ? (c.conv_size as number) : undefined;
  const [q, k, v] = projections(net, h, [H * K, Hkv * K, Hkv * V], taps, (x) => x) as [Rows, Rows, Rows];
  const map = (x: number) => (c.feature_map === 'relu' ? Math.max(0, x) : c.feature_map === 'swish' ? silu(x) : x);
  const least = (c.clamp_min as number | null) ?? Number.NEGATIVE_INFINITY;
  const raw = net.linear(net.linear(h, 'gk_proj.0', 16), 'gk_proj.1', Hkv * K, true);
  const decay = each(raw, (x) => Math.exp(Math.max(least, -softplus(-x) / 16)));
  const S = new Float64Array(H * K * V);
  const y = q.map((query, t) => {
    const out = new Float64Array(H * V);
    for (let head = 0; head < H; head++) {
      const kv = Math.floor(head / (H / Hkv));
      for (let i = 0; i < K; i++)
        for (let j = 0; j < V; j++) {
          const s = (head * K + i) * V + j;
          S[s] = decay[t]![kv * K + i]! * S[s]! + map(k[t]![kv * K + i]!) * v[t]![kv * V + j]!;
          out[head * V + j]! += (map(query[head * K + i]!) * S[s]!) / Math.sqrt(K);
        }
    }
    return out;
  });
  const eps = c.norm_eps as number;
  const name = c.use_output_gate ? 'g_norm_swish_gate' : 'g_norm';
  const normed = c.elementwise_affine ? net.rms(y, name, eps, V) : y.map((r) => unitRms(r, eps, V));
  const gated = c.use_output_gate ? product(normed, each(net.linear(h, 'g_proj', H * V), silu)) : normed;
  return net.linear(gated, 'o_proj', d);
}

/** The least multiple that is as large. */
const multiple = (n: number, of: number) => Math.ceil(Math.floor(n) / of) * of;

export function fla(net: Net, c: Config, ids: Int32Array): Rows {
  const [d, eps, rows] = [c.hidden_size, c.norm_eps, c.vocab_size] as [number, number, number];
  const dFf = (c.intermediate_size as number | null) ?? multiple(d * (c.hidden_ratio as number) * (2 / 3), 256);
  const model = net.at('model');
  let x = model.embedding(ids, 'embeddings.weight', rows, d);
  for (let i = 0; i < (c.num_hidden_layers as number); i++) {
    const layer = model.at('layers', i);
    const h = layer.rms(x, 'attn_norm', eps);
    x = sum(x, c.model_type === 'gla' ? gla(layer.at('attn'), h, c) : deltaNet(layer.at('attn'), h, c));
    const [f, mlp] = [layer.rms(x, 'mlp_norm', eps), layer.at('mlp')];
    const gate = each(mlp.linear(f, 'gate_proj', dFf), silu);
    x = sum(x, mlp.linear(product(gate, mlp.linear(f, 'up_proj', dFf)), 'down_proj', d));
  }
  return net.logits(model.rms(x, 'norm', eps), 'lm_head.weight', rows);
}

const shared = (net: Net) => ({
  ...{ vocab_size: 61, num_hidden_layers: 3, norm_eps: net.one(1e-6, 1e-3) },
  ...net.one<Config>(
    { intermediate_size: 24 },
    { intermediate_size: 33 },
    { intermediate_size: null, hidden_ratio: 3 },
  ),
  ...{
    use_short_conv: net.coin(),
    conv_size: net.one(2, 3, 4, 5),
    tie_word_embeddings: false,
    hidden_act: 'swish',
    attn: null,
  },
});

export function deltaNetConfig(net: Net): Config {
  const heads = net.one(1, 2, 3);
  return {
    ...{ model_type: 'gated_deltanet', ...shared(net), hidden_size: net.one(12, 33, 40), num_heads: heads },
    ...{
      num_v_heads: heads * net.one(1, 2, 3),
      head_dim: net.one(4, 10, 24, 48, 64, 80, 96),
      expand_v: net.one(1, 1.5, 2),
    },
    ...{ use_gate: net.coin(), allow_neg_eigval: net.coin() },
  };
}

export function glaConfig(net: Net): Config {
  const kv = net.one(1, 2);
  const heads = kv * net.one(1, 2, 3);
  return {
    ...{ model_type: 'gla', ...shared(net), hidden_size: heads * 2 * net.one(5, 12, 24, 40), num_heads: heads },
    ...{
      num_kv_heads: kv,
      expand_k: net.one(0.5, 1, 1.5),
      expand_v: net.one(0.5, 1, 2),
      feature_map: net.one(null, 'relu', 'swish'),
    },
    ...{ clamp_min: net.one(null, -0.05), use_output_gate: net.coin(), elementwise_affine: net.coin() },
  };
}

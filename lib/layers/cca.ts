import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { ATTEND, type AttentionOptions, attended, rope } from './attention.js';
import { checkKinds, flag, type Kinds, needed, twoSizes, value } from './kinds.js';
import { linearBy } from './linear.js';

export interface CcaOptions extends AttentionOptions {
  /** Taps of the two convolutions over queries and keys. */
  taps: readonly [number, number];
  /** Biases of the projections and of o_proj. */
  bias: boolean;
  residual?: Value | undefined;
}

const CCA: Kinds<CcaOptions> = { ...ATTEND, taps: needed(twoSizes), bias: needed(flag), residual: value };

/** Tap `tap` of a head's block in the grouped convolution (channels, headDim, taps), as a matrix (headDim, headDim). */
const tapOf = (head: number, tap: number, headDim: number, taps: number) => ({
  part: `${head}:${tap}`,
  matrix: true,
  transform: ([all]: Float32Array[]): Float32Array => {
    const first = head * headDim * headDim;
    return Float32Array.from({ length: headDim * headDim }, (_, i) => all![(first + i) * taps + tap]!);
  },
});

/**
 * What the second convolution adds whatever its input: its bias, and what it makes of the first one's. With that here, both
 * convolve without a bias and begin from zeros, although before the first token the second reads the first one's bias.
 */
const addedBias = (channels: number, headDim: number, taps: number) => {
  const first = channels * headDim * taps; // of the first one's bias, behind the second one's weight
  return {
    terms: (c: number) => [
      { values: [first + channels + c] },
      ...Array.from({ length: headDim * taps }, (_, i) => {
        const from = Math.floor(c / headDim) * headDim + Math.floor(i / taps);
        return { values: [c * headDim * taps + i, first + from] };
      }),
    ],
  };
};

/** Two causal convolutions over queries and keys u (tokens, heads · headDim), one by channels, one by heads; plus rows. */
function convolved(
  g: Graph,
  u: Value,
  w: Weights,
  headDim: number,
  taps: readonly [number, number],
  rows: Value,
): Value {
  const channels = u.dims[1] as number;
  const heads = channels / headDim;
  const [t0, t1] = taps;
  const depthwise = w.tensor('conv_qk_depthwise.weight', [channels, t0], {
    stored: [channels, 1, t0],
    matrix: false,
    init: { uniform: 1 / Math.sqrt(t0) },
  });
  const now = g.op('causalConv1d', { x: u, weight: depthwise, state: g.state([channels, t0 - 1]) });
  const past = [now]; // the rows of t, t - 1, …
  while (past.length < t1) past.push(g.op('tokenShift', { x: past.at(-1)!, state: g.state([channels]) }));
  const stored = [channels, headDim, t1];
  const bias = w.combined(
    [
      { name: 'conv_qk_grouped.weight', shape: stored, init: { uniform: 1 / Math.sqrt(headDim * t1) } },
      { name: 'conv_qk_depthwise.bias', shape: [channels], init: 'zeros' },
      { name: 'conv_qk_grouped.bias', shape: [channels], init: 'zeros' },
    ],
    [channels],
    addedBias(channels, headDim, t1),
  );
  const start = g.op('add', { a: rows, b: bias });
  const y = g.buffer('tokens', channels);
  for (let head = 0; head < heads; head++) {
    let sum = g.view(start, head * headDim, headDim);
    for (let ago = t1 - 1; ago >= 0; ago--) {
      const weight = w.tensor('conv_qk_grouped.weight', [headDim, headDim], {
        stored,
        init: { uniform: 1 / Math.sqrt(headDim * t1) },
        ...tapOf(head, t1 - 1 - ago, headDim, t1),
      });
      const into = ago === 0 ? g.view(y, head * headDim, headDim) : undefined;
      sum = g.op('linear', { x: g.view(past[ago]!, head * headDim, headDim), weight, residual: sum }, {}, into);
    }
  }
  return y;
}

/** [(q_h + k of its group) / 2 | the means of those over each group]: what is added to the convolved rows. */
function mixedRows(g: Graph, u: Value, o: CcaOptions): Value {
  const { nHeads, nHeadsKv, headDim } = o;
  const per = nHeads / nHeadsKv;
  const y = g.buffer('tokens', (nHeads + nHeadsKv) * headDim);
  const head = (x: Value, h: number) => g.view(x, h * headDim, headDim);
  for (let kv = 0; kv < nHeadsKv; kv++) {
    const key = head(u, nHeads + kv);
    let total: Value | undefined;
    for (let h = kv * per; h < (kv + 1) * per; h++) {
      g.op('add', { a: head(u, h), b: key }, { alpha: 0.5, beta: 0.5 }, head(y, h));
      total = total ? g.op('add', { a: total, b: head(u, h) }) : head(u, h);
    }
    // The mean of (q_h + k) / 2 over the group.
    g.op('add', { a: total!, b: key }, { alpha: 0.5 / per, beta: 0.5 }, head(y, nHeads + kv));
  }
  return y;
}

/**
 * Compressed convolutional attention (Zyphra 2025): queries and keys pass two short convolutions, queries and keys of a
 * group are mixed, half of the values' channels are those of the token before; every head is scaled to length sqrt(headDim).
 * x (tokens, d_model), same shape out, plus `residual`.
 *
 * Weights: `qkv_proj.{q_proj, k_proj, v_proj_current, v_proj_delayed, conv_qk_depthwise, conv_qk_grouped}`, `qk_norm.temp`
 * (nHeadsKv), `o_proj`.
 */
export function cca(g: Graph, x: Value, w: Weights, o: CcaOptions): Value {
  checkKinds('layers.cca', o, CCA);
  const { nHeads, nHeadsKv, headDim } = o;
  const d = x.dims[1] as number;
  const [dq, dkv] = [nHeads * headDim, nHeadsKv * headDim];
  const half = dkv / 2;
  const p = w.scope('qkv_proj');
  const bias = (name: string, width: number) =>
    o.bias ? p.tensor(`${name}.bias`, [width], { init: 'zeros' }) : undefined;
  const both = (what: 'weight' | 'bias', inner: number[]) => [
    { name: `q_proj.${what}`, shape: [dq, ...inner] },
    { name: `k_proj.${what}`, shape: [dkv, ...inner] },
  ];
  const qkBias = o.bias ? p.combined(both('bias', []), [dq + dkv], { init: 'zeros' }) : undefined;
  const u = linearBy(g, x, p.combined(both('weight', [d]), [dq + dkv, d]), qkBias); // [q | k]
  const qk = convolved(g, u, p, headDim, o.taps, mixedRows(g, u, o));

  const values = g.buffer('tokens', dkv);
  const current = p.tensor('v_proj_current.weight', [half, d]);
  g.op('linear', { x, weight: current, bias: bias('v_proj_current', half) }, {}, g.view(values, 0, half));
  const delayed = g.op('linear', { x, weight: p.tensor('v_proj_delayed.weight', [half, d]) });
  const before = g.op('tokenShift', { x: delayed, state: g.state([half]) });
  const delayedBias = bias('v_proj_delayed', half); // also before the first token
  const into = g.view(values, half, half);
  if (delayedBias) g.op('add', { a: before, b: delayedBias }, {}, into);
  else g.op('activate', { x: before }, {}, into);

  // sqrt(headDim) x / |x| is RMSNorm; keys have a factor a head.
  const norm = (at: number, heads: number, weight?: Value) =>
    g.reshape(
      g.op('rmsNorm', { x: g.view(qk, at, heads * headDim), weight }, { eps: 1e-20, groupSize: headDim }),
      heads,
      headDim,
    );
  const temp = w.tensor('qk_norm.temp', [dkv], {
    stored: [nHeadsKv],
    init: 'ones',
    transform: ([t]) => Float32Array.from({ length: dkv }, (_, i) => t![Math.floor(i / headDim)]!),
  });
  let [q, k] = [norm(0, nHeads), norm(dq, nHeadsKv, temp)];
  if (o.rope) {
    q = rope(g, q, o.rope);
    k = rope(g, k, o.rope);
  }
  const y = g.reshape(attended(g, q, k, g.reshape(values, nHeadsKv, headDim), o), dq);
  const outBias = o.bias ? w.tensor('o_proj.bias', [d], { init: 'zeros' }) : undefined;
  return linearBy(g, y, w.tensor('o_proj.weight', [d, dq]), outBias, { residual: o.residual });
}

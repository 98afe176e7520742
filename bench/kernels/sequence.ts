/** Kernels over time per channel or per head: scan, convolutions, attention. */
import { library } from '../library.js';
import { attentionRow, convSilu, scanChannel } from '../scaling/reference.js';
import { bytesOf, compare, F32, F32_BOUND, HALF_BOUND, kernel, spread, Values } from './kernel.js';
import { plans } from './plans.js';

const CHANNELS = 4;
const ROWS = 8;

/** Values of one channel of (L, D) over time. */
function channelOf(y: Float32Array, L: number, D: number, channel: number): Float32Array {
  return Float32Array.from({ length: L }, (_, t) => y[t * D + channel]!);
}

export const scan = kernel({
  name: 'scan',
  title: "Mamba's selective scan with softplus, skip and gate; D channels of N states, L tokens",
  sizes: { L: 2048, D: 1536, N: 16 },
  variants: [{}, { sizes: { N: 128 } }],
  unit: 'updates',
  gradient: { op: 'selectiveScan', by: 'u' },
  prepare({ L, D, N }) {
    const values = new Values(1);
    const args = {
      u: values.normal([1, L, D]),
      delta: values.normal([1, L, D], 0.5),
      z: values.normal([1, L, D]),
      // Mamba's initialisation: A = −1 … −N; steps softplus(−4.6) ≈ 0.01.
      A: { data: Float32Array.from({ length: D * N }, (_, i) => -1 - (i % N)), shape: [D, N] },
      B: values.normal([1, L, N]),
      C: values.normal([1, L, N]),
      D: values.normal([D]),
      deltaBias: { data: new Float32Array(D).fill(-4.6), shape: [D] },
      deltaSoftplus: true,
    };
    const definition = {
      ...{ u: args.u.data, delta: args.delta.data, z: args.z.data, A: args.A.data, B: args.B.data, C: args.C.data },
      ...{ D: args.D.data, deltaBias: args.deltaBias.data, batch: 1, length: L, dInner: D, dState: N },
    };
    return {
      args,
      plan: () => plans().selectiveScan(args),
      // Of an update: dt·A, its exponential, the decay, dt·u·B, and the product with C.
      work: { updates: L * D * N, flops: 7 * L * D * N, bytes: F32 * (4 * L * D + 2 * L * N) },
      check: (y) =>
        compare(spread(D, CHANNELS).map((c) => [channelOf(y, L, D, c), scanChannel(definition, 0, c)] as const)),
      bound: F32_BOUND,
    };
  },
});

export const conv = kernel({
  name: 'conv',
  title: 'causal depthwise convolution of width K with bias and SiLU; D channels, L tokens',
  sizes: { L: 2048, D: 1536, K: 4 },
  unit: 'bytes',
  gradient: { op: 'causalConv1d', by: 'x' },
  prepare({ L, D, K }) {
    const values = new Values(2);
    const args = {
      x: values.normal([1, L, D]),
      weight: values.normal([D, K], 0.5),
      bias: values.normal([D]),
      activation: 'silu' as const,
    };
    return {
      args,
      plan: () => plans().causalConv1d(args),
      work: { flops: 2 * K * L * D, bytes: F32 * 2 * L * D },
      check: (y) =>
        compare(
          spread(D, CHANNELS).map((c) => [
            channelOf(y, L, D, c),
            convSilu(
              channelOf(args.x.data, L, D, c),
              args.weight.data.subarray(c * K, (c + 1) * K),
              args.bias.data.subarray(c, c + 1),
              L,
            ),
          ]),
        ),
      bound: F32_BOUND,
    };
  },
});

export const shortConv = kernel({
  name: 'shortConv',
  title: 'the gated short convolution of LFM2, c ∘ conv(b ∘ x), of width K; D channels, L tokens',
  sizes: { L: 2048, D: 2048, K: 3 },
  unit: 'bytes',
  prepare({ L, D, K }) {
    const values = new Values(27);
    const shape = [1, L, D];
    const args = {
      b: values.normal(shape),
      c: values.normal(shape),
      x: values.normal(shape),
      weight: values.normal([D, K]),
    };
    return {
      args,
      plan: () => plans().shortConv(args),
      work: { flops: (2 * K + 2) * L * D, bytes: F32 * 4 * L * D },
      check: (y) =>
        compare(
          spread(D, CHANNELS).map((d) => {
            const [b, c, x] = [args.b, args.c, args.x].map(({ data }) => channelOf(data, L, D, d));
            const expected = Float64Array.from({ length: L }, (_, t) => {
              let sum = 0;
              for (let j = 0; j < K; j++) {
                const from = t - K + 1 + j;
                if (from >= 0) sum += args.weight.data[d * K + j]! * b![from]! * x![from]!;
              }
              return c![t]! * sum;
            });
            return [channelOf(y, L, D, d), expected] as const;
          }),
        ),
      bound: F32_BOUND,
    };
  },
});

export const attention = kernel({
  name: 'attention',
  title: 'causal softmax attention, tiled; H heads of P channels, L tokens',
  sizes: { L: 4096, H: 8, P: 64 },
  dtypes: ['f32', 'bf16', 'f16'],
  variants: [{}, { dtype: 'bf16' }],
  unit: 'flops',
  gradient: { op: 'attention', by: 'q' },
  prepare({ L, H, P }, dtype) {
    const { Tensor } = library();
    const values = new Values(3);
    const draw = () => {
      const { data, shape } = values.normal([1, L, H, P]);
      return new Tensor(data, shape).to(dtype);
    };
    const args = { q: draw(), k: draw(), v: draw() };
    // What the kernel reads: the values after rounding.
    const read = { q: args.q.toFloat32Array(), k: args.k.toFloat32Array(), v: args.v.toFloat32Array() };
    const definition = { ...read, batch: 1, length: L, heads: H, headDim: P };
    return {
      args,
      plan: () => plans().attention(args),
      // Both products over the lower triangle.
      work: { flops: 2 * H * L * L * P, bytes: L * H * P * (3 * bytesOf(dtype) + F32) },
      check: (y) =>
        compare(
          spread(L, ROWS).map((t, i) => {
            const at = (t * H + (i % H)) * P;
            return [y.subarray(at, at + P), attentionRow(definition, 0, t, i % H)] as const;
          }),
        ),
      bound: dtype === 'f32' ? F32_BOUND : HALF_BOUND,
    };
  },
});

export const fftConv = kernel({
  name: 'fftConv',
  title: 'causal convolution as long as the sequence, by FFT; D channels, L tokens',
  sizes: { L: 2048, D: 768 },
  unit: 'flops',
  gradient: { op: 'fftConv', by: 'x' },
  prepare({ L, D }) {
    const values = new Values(4);
    const args = {
      x: values.normal([1, L, D]),
      kernel: values.normal([D, L], 1 / Math.sqrt(L)),
      D: values.normal([D]),
    };
    const direct = (t: number, c: number) => {
      let sum = args.D.data[c]! * args.x.data[t * D + c]!;
      for (let s = 0; s <= t; s++) sum += args.kernel.data[c * L + s]! * args.x.data[(t - s) * D + c]!;
      return sum;
    };
    const transform = 2.5 * 2 * L * Math.log2(2 * L); // of a real sequence, padded to twice its length
    return {
      args,
      plan: () => plans().fftConv(args),
      work: { flops: 3 * D * transform, bytes: F32 * 3 * L * D },
      check: (y) =>
        compare(
          spread(D, CHANNELS).map((c) => [channelOf(y, L, D, c), spread(L, L).map((t) => direct(t, c))] as const),
        ),
      bound: F32_BOUND,
    };
  },
});

/** Kernels that pass over their inputs once: norms, rotations, and RWKV-4's recurrence of one value a channel. */
import { compare, F32, F32_BOUND, kernel, spread, Values } from './kernel.js';
import { plans } from './plans.js';

const ROWS = 16;
const EPS = 1e-5;

const mean = (x: readonly number[]) => x.reduce((sum, v) => sum + v, 0) / x.length;

/** Rows of y (rows, D) against a formula of the row's number. */
function checkRows(rows: number, D: number, formula: (row: number) => ArrayLike<number>) {
  return (y: Float32Array) =>
    compare(spread(rows, ROWS).map((t) => [y.subarray(t * D, (t + 1) * D), formula(t)] as const));
}

export const rmsNorm = kernel({
  name: 'rmsNorm',
  title: "Mamba-2's norm: of x·silu(z), with a weight; L tokens of D channels",
  sizes: { L: 2048, D: 1536 },
  unit: 'bytes',
  gradient: { op: 'rmsNorm', by: 'x' },
  prepare({ L, D }) {
    const values = new Values(31);
    const args = {
      x: values.normal([1, L, D]),
      z: values.normal([1, L, D]),
      weight: values.uniform([D], 0.5, 1.5),
      eps: EPS,
    };
    return {
      args,
      plan: () => plans().rmsNorm(args),
      work: { flops: 8 * L * D, bytes: F32 * 3 * L * D },
      check: checkRows(L, D, (t) => {
        const row = Array.from(args.x.data.subarray(t * D, (t + 1) * D), (x, c) => {
          const z = args.z.data[t * D + c]!;
          return (x * z) / (1 + Math.exp(-z));
        });
        const scale = 1 / Math.sqrt(mean(row.map((v) => v * v)) + EPS);
        return row.map((v, c) => v * scale * args.weight.data[c]!);
      }),
      bound: F32_BOUND,
    };
  },
});

export const layerNorm = kernel({
  name: 'layerNorm',
  title: 'layer norm with weight and bias; L tokens of D channels',
  sizes: { L: 2048, D: 1536 },
  unit: 'bytes',
  gradient: { op: 'layerNorm', by: 'x' },
  prepare({ L, D }) {
    const values = new Values(32);
    const args = {
      x: values.normal([1, L, D]),
      weight: values.uniform([D], 0.5, 1.5),
      bias: values.normal([D]),
      eps: EPS,
    };
    return {
      args,
      plan: () => plans().layerNorm(args),
      work: { flops: 8 * L * D, bytes: F32 * 2 * L * D },
      check: checkRows(L, D, (t) => {
        const row = Array.from(args.x.data.subarray(t * D, (t + 1) * D));
        const middle = mean(row);
        const scale = 1 / Math.sqrt(mean(row.map((v) => (v - middle) ** 2)) + EPS);
        return row.map((v, c) => (v - middle) * scale * args.weight.data[c]! + args.bias.data[c]!);
      }),
      bound: F32_BOUND,
    };
  },
});

export const rope = kernel({
  name: 'rope',
  title: 'rotary position embedding; H heads of P channels, L tokens',
  sizes: { L: 2048, H: 24, P: 64 },
  unit: 'bytes',
  gradient: { op: 'rope', by: 'x' },
  prepare({ L, H, P }) {
    const args = { x: new Values(33).normal([1, L, H, P]) };
    return {
      args,
      plan: () => plans().rope(args),
      work: { flops: 3 * L * H * P, bytes: F32 * 2 * L * H * P },
      check: checkRows(L, H * P, (t) => {
        const row = args.x.data.subarray(t * H * P, (t + 1) * H * P);
        return Array.from(row, (x, i) => {
          const [j, first] = [i % (P / 2), i % P < P / 2];
          const angle = t * 10_000 ** ((-2 * j) / P);
          const other = row[first ? i + P / 2 : i - P / 2]!;
          return x * Math.cos(angle) + (first ? -other : other) * Math.sin(angle);
        });
      }),
      // An angle of thousands holds as much of its digits in f32.
      bound: 1e-3,
    };
  },
});

export const wkv4 = kernel({
  name: 'wkv4',
  title: "RWKV-4's average of values, weighted by e^k and by age; D channels, L tokens",
  sizes: { L: 2048, D: 1536 },
  unit: 'bytes',
  gradient: { op: 'wkv4', by: 'k' },
  prepare({ L, D }) {
    const values = new Values(34);
    const args = {
      k: values.normal([1, L, D]),
      v: values.normal([1, L, D]),
      timeDecay: values.uniform([D], -3, 0),
      timeFirst: values.normal([D]),
    };
    const channel = (c: number) => {
      const decay = Math.exp(-Math.exp(args.timeDecay.data[c]!));
      const first = args.timeFirst.data[c]!;
      let [above, below] = [0, 0];
      return Float64Array.from({ length: L }, (_, t) => {
        const [k, v] = [args.k.data[t * D + c]!, args.v.data[t * D + c]!];
        const own = Math.exp(first + k);
        const y = (above + own * v) / (below + own);
        [above, below] = [decay * above + Math.exp(k) * v, decay * below + Math.exp(k)];
        return y;
      });
    };
    return {
      args,
      plan: () => plans().wkv4(args),
      work: { flops: 12 * L * D, bytes: F32 * 3 * L * D },
      check: (y) =>
        compare(
          spread(D, 4).map((c) => [Float32Array.from({ length: L }, (_, t) => y[t * D + c]!), channel(c)] as const),
        ),
      bound: F32_BOUND,
    };
  },
});

/** Matrix products: linear layers at many rows and at few, routed experts. */
import { library } from '../library.js';
import { bytesOf, compare, F32, F32_BOUND, HALF_BOUND, kernel, spread, Values } from './kernel.js';
import { plans } from './plans.js';

const SAMPLES = 12;

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

function row(x: Float32Array, width: number, i: number): Float32Array {
  return x.subarray(i * width, (i + 1) * width);
}

// The head of a 130M language model: what decoding reads most of.
const HEAD = { in: 768, out: 50280 };

export const linear = kernel({
  name: 'linear',
  title: 'x·Wᵀ on the weight as the caller has it; rows × in by out × in, dtype is that of the weight',
  sizes: { rows: 2048, in: 2048, out: 2048 },
  dtypes: ['f32', 'bf16', 'f16', 'q8_0', 'q4_0'],
  variants: [
    {},
    { dtype: 'bf16' },
    ...(['f32', 'bf16'] as const).flatMap((dtype) => [1, 4, 16].map((rows) => ({ sizes: { rows, ...HEAD }, dtype }))),
  ],
  unit: 'flops',
  gradient: { op: 'linear', by: 'x' },
  prepare({ rows, in: inner, out }, dtype) {
    const { Tensor } = library();
    const values = new Values(10);
    const x = values.normal([rows, inner]);
    const drawn = values.normal([out, inner], 1 / Math.sqrt(inner));
    const weight = new Tensor(drawn.data, drawn.shape).to(dtype);
    const read = weight.toFloat32Array();
    return {
      args: { x, weight },
      plan: () => plans().linear({ x, weight }),
      work: { flops: 2 * rows * inner * out, bytes: weight.data.byteLength + F32 * rows * (inner + out) },
      check: (y) =>
        compare(
          spread(rows, SAMPLES).flatMap((r) =>
            spread(out, SAMPLES).map(
              (o) => [[y[r * out + o]!], [dot(row(x.data, inner, r), row(read, inner, o))]] as const,
            ),
          ),
        ),
      bound: dtype === 'f32' ? F32_BOUND : HALF_BOUND,
    };
  },
});

export const moe = kernel({
  name: 'moe',
  title: 'topK of E SwiGLU experts of width f on d channels, T tokens, routed by softmax',
  sizes: { T: 512, d: 512, f: 1024, E: 16, topK: 2 },
  variants: [{}, { sizes: { T: 1 } }],
  dtypes: ['f32', 'bf16'],
  unit: 'flops',
  gradient: { op: 'moe', by: 'down' },
  prepare({ T, d, f, E, topK }, dtype) {
    const { Tensor } = library();
    const values = new Values(11);
    const weight = (shape: number[], inner: number) => {
      const { data } = values.normal(shape, 1 / Math.sqrt(inner));
      return new Tensor(data, shape).to(dtype);
    };
    const args = {
      x: values.normal([1, T, d]),
      router: values.normal([E, d], 1 / Math.sqrt(d)),
      gateUp: weight([E, 2 * f, d], d),
      down: weight([E, d, f], f),
      topK,
    };
    const [gateUp, down] = [args.gateUp.toFloat32Array(), args.down.toFloat32Array()];
    const chosen = (t: number) => {
      const x = row(args.x.data, d, t);
      const logits = Array.from({ length: E }, (_, e) => dot(row(args.router.data, d, e), x));
      const most = Math.max(...logits);
      const total = logits.reduce((sum, s) => sum + Math.exp(s - most), 0);
      const p = logits.map((s) => Math.exp(s - most) / total);
      return [...p.keys()]
        .sort((a, b) => p[b]! - p[a]!)
        .slice(0, topK)
        .map((e) => ({ e, p: p[e]! }));
    };
    const token = (t: number) => {
      const x = row(args.x.data, d, t);
      const y = new Float64Array(d);
      for (const { e, p } of chosen(t)) {
        const inner = Float32Array.from({ length: f }, (_, i) => {
          const gate = dot(row(gateUp, d, e * 2 * f + i), x);
          return (gate / (1 + Math.exp(-gate))) * dot(row(gateUp, d, e * 2 * f + f + i), x);
        });
        for (let i = 0; i < d; i++) y[i]! += p * dot(row(down, f, e * d + i), inner);
      }
      return y;
    };
    const used = new Set(Array.from({ length: T }, (_, t) => chosen(t).map(({ e }) => e)).flat()).size;
    return {
      args,
      plan: () => plans().moe(args),
      work: {
        flops: T * (topK * 6 * d * f + 2 * E * d),
        bytes: used * 3 * d * f * bytesOf(dtype) + F32 * (2 * T * d + E * d),
      },
      check: (y) => compare(spread(T, SAMPLES).map((t) => [row(y, d, t), token(t)] as const)),
      bound: dtype === 'f32' ? F32_BOUND : HALF_BOUND,
    };
  },
});

// Gradients of ops that graphs use: linear time-invariant systems, long convolutions and their filters. Finite
// differences of the formulas in f64, on random shapes, on every backend.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { opCatalog } from '../../dist/lib/graph/catalog.js';
import { call } from '../../dist/lib/native.js';
import { hasKernel, onDevice, onEveryBackend } from './backends.js';
import { Random } from './random.js';
import type { Args } from './reference.js';
import { systems } from './systems.js';

interface Sizes {
  P: number;
  N: number;
  I: number;
  /** Of the sequences of a batch. */
  lengths: number[];
  seed: number;
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((s, x, i) => s + x * b[i]!, 0);

function packedBounds(lengths: readonly number[]) {
  const data = Int32Array.from([0, ...lengths]);
  for (let i = 1; i < data.length; i++) data[i]! += data[i - 1]!;
  return { data, shape: [data.length] };
}

/** A system of S4: real, complex, or with a low-rank part. */
function system(r: Random, { P, N }: Sizes, kind: 'real' | 'complex' | 'low-rank'): Args {
  const shape = kind === 'real' ? [P, N] : [P, N, 2];
  const A = r.tensor(shape, -2, -0.01);
  if (kind !== 'real') for (let i = 1; i < A.data.length; i += 2) A.data[i]! *= 3;
  const others = { B: r.tensor(shape), C: r.tensor(shape), logDt: r.tensor([P], -4, -1) };
  return { A, ...others, ...(kind === 'low-rank' && { P: r.tensor(shape) }) };
}

const kinds = ['real', 'complex', 'low-rank'] as const;
const methods = ['zoh', 'zoh-euler', 'bilinear'] as const;

/** Arguments of a forward, what its gradient takes of its results among them. */
const arguments_: Record<string, (r: Random, s: Sizes, tokens: number) => Args> = {
  s4Kernel(r, s, tokens) {
    const kind = kinds[s.seed % 3]!;
    const method = kind === 'low-rank' || s.seed % 2 ? 'bilinear' : 'zoh';
    return { ...system(r, s, kind), method, dK: r.tensor([s.P, tokens + 1]) };
  },
  s4Conv(r, s, tokens) {
    const { dK: _, ...a } = arguments_.s4Kernel!(r, s, tokens);
    return { ...a, x: r.tensor([tokens, s.P]), D: r.tensor([s.P]), dy: r.tensor([tokens, s.P]) };
  },
  wholeConv: (r, { P, N }, tokens) => ({
    ...{ x: r.tensor([tokens, P]), kernel: r.tensor([6 * N, P]) },
    ...{ D: r.tensor([P]), dy: r.tensor([tokens, P]) },
  }),
  reverse: (r, { P }, tokens) => ({ x: r.tensor([tokens, P]), dy: r.tensor([tokens, P]) }),
  denseScan(r, { N }, tokens) {
    return { v: r.tensor([tokens, N]), A: r.tensor([N, N], -0.8 / N, 0.8 / N), dh: r.tensor([tokens, N]) };
  },
  denseConv: (r, { P, N, I }, tokens) => ({
    ...{ x: r.tensor([tokens, I]), A: r.tensor([N, N], -0.8 / N, 0.8 / N), B: r.tensor([N, I]) },
    ...{ C: r.tensor([P, N]), dy: r.tensor([tokens, P]) },
  }),
  discretizeDense: (r, { N, I, seed }) => ({
    ...{ A: r.tensor([N, N], -2, 2), B: r.tensor([N, I]), delta: seed % 2 ? 0.3 : 1.5, method: methods[seed % 3] },
    // What nothing reads of the two has no gradient.
    ...{ dAbar: seed % 5 ? r.tensor([N, N], -9, 9) : undefined, dBbar: seed % 5 === 1 ? undefined : r.tensor([N, I]) },
  }),
  implicitFilter: (r, { P, N, I, seed }, tokens) => ({
    ...{ z: r.tensor([tokens + 1, I]), t: r.tensor([tokens + 1], 0, 1), freq: r.tensor([N], 0.5, 2) },
    ...{ inWeight: r.tensor([N, I]), inBias: r.tensor([N]), outWeight: r.tensor([P, N]) },
    ...(seed % 3 && { hiddenWeight: r.tensor([seed % 3, N, N]), hiddenBias: r.tensor([seed % 3, N]) }),
    ...(seed % 2 && { deltas: r.tensor([P], -3, 3) }),
    ...{ shift: 0.05, dkernel: r.tensor([tokens + 1, P]) },
  }),
};

/** Gradients of everything that has one, from the native op. */
async function gradientsOf(name: string, a: Args): Promise<Record<string, Float32Array>> {
  const op = opCatalog().get(`${name}Backward`)!;
  const out: Record<string, Float32Array> = {};
  const tensors: Record<string, { data: Float32Array | Int32Array; shape: number[]; dtype: 'f32' | 'i32' }> = {};
  for (const f of op.fields) {
    const like = a[f.kind === 'wanted' ? f.name.slice(1) : f.name];
    if (!like) continue;
    const data = f.kind === 'wanted' ? new Float32Array(like.data.length).fill(Number.NaN) : like.data;
    if (f.kind === 'wanted') out[f.name] = data;
    tensors[f.name] = { data, shape: [...like.shape], dtype: f.kind === 'runtime' ? 'i32' : 'f32' };
  }
  const attrs = Object.fromEntries(op.attrs.flatMap(({ name }) => (name in a ? [[name, a[name]]] : [])));
  await call((n) => n.runOp(op.name, tensors, attrs, false));
  return out;
}

/** The sum of what the formula gives by what comes from above, along a direction of one argument. */
function difference(name: string, a: Args, argument: string, direction: ArrayLike<number>): number {
  const step = 1e-4;
  const at = (sign: number) => {
    const data = Float64Array.from(a[argument].data as Float32Array, (v, i) => v + sign * step * direction[i]!);
    const values = systems[name]!({ ...a, [argument]: { ...a[argument], data } });
    return Object.entries(values).reduce((sum, [key, v]) => sum + (a[`d${key}`] ? dot(v, a[`d${key}`].data) : 0), 0);
  };
  return (at(1) - at(-1)) / (2 * step);
}

const sizes = fc.record({
  P: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.constant(17)),
  N: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.constant(9)),
  I: fc.integer({ min: 1, max: 4 }),
  lengths: fc.array(fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constantFrom(64, 65)), { minLength: 1, maxLength: 3 }),
  seed: fc.integer({ min: 1, max: 2 ** 30 }),
});

onEveryBackend(() => {
  it.for(Object.keys(arguments_))('%s', async (name, { skip }) => {
    skip(!hasKernel(`${name}Backward`), `${name}Backward has no kernel here`);
    await fc.assert(
      fc.asyncProperty(sizes, async (s) => {
        const r = new Random(s.seed);
        const tokens = s.lengths.reduce((a, b) => a + b, 0);
        const a: Args = { ...arguments_[name]!(r, s, tokens), cuSeqlens: packedBounds(s.lengths) };
        const forward = systems[name]!(a);
        const kept = name === 'denseScan' ? { h: { data: Float32Array.from(forward.h!), shape: a.v.shape } } : {};
        for (const [key, g] of Object.entries(await gradientsOf(name, { ...a, ...kept }))) {
          const direction = r.tensor([g.length]).data;
          const [actual, expected] = [dot(g, direction), difference(name, a, key.slice(1), direction)];
          const size = Math.sqrt(dot(g, g)) * Math.sqrt(dot(direction, direction));
          expect(Math.abs(actual - expected), `${key}: ${actual}, not ${expected}`).toBeLessThan(2e-4 * size + 1e-5);
        }
      }),
      { numRuns: 10 },
    );
  });
});

describe('sequences whose transforms threads share', () => {
  // Beyond 65,536 points; one tap and one token are known without a transform.
  const [tokens, P] = [70_000, 2];
  it('wholeConv', async ({ skip }) => {
    skip(onDevice, 'the processor kernels');
    const r = new Random(3);
    const a = { x: r.tensor([tokens, P]), kernel: r.tensor([3, P]), D: r.tensor([P]), dy: r.tensor([tokens, P]) };
    const { dx, dkernel } = await gradientsOf('wholeConv', { ...a, cuSeqlens: packedBounds([tokens]) });
    const rowsOf = (t: { data: Float32Array }, i: number, c: number) => t.data[i * P + c] ?? 0;
    for (const t of [0, 1, 40_000, tokens - 2, tokens - 1])
      for (let c = 0; c < P; c++) {
        const taps = [0, 1, 2].reduce((sum, l) => sum + rowsOf(a.kernel, l, c) * rowsOf(a.dy, t + l, c), 0);
        expect(dx![t * P + c]).toBeCloseTo(taps + a.D.data[c]! * rowsOf(a.dy, t, c), 4);
      }
    for (let l = 0; l < 3; l++)
      for (let c = 0; c < P; c++) {
        let sum = 0;
        for (let t = l; t < tokens; t++) sum += rowsOf(a.dy, t, c) * rowsOf(a.x, t - l, c);
        expect(Math.abs(dkernel![l * P + c]! - sum)).toBeLessThan(1e-3 * Math.sqrt(tokens));
      }
  });
});

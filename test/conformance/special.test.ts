// What the general properties leave out: queries of another number than keys, complex systems, halves.
import fc from 'fast-check';
import { type DType, Tensor } from 'statespace';
import { describe, expect, it } from 'vitest';
import { expectClose, relativeL2 } from '../support/golden.js';
import { hasKernel, onEveryBackend } from './backends.js';
import { callSync, type OpName } from './check.js';
import { Random } from './random.js';
import * as reference from './reference.js';
import { samples } from './samples.js';

const tolerance = { atol: 3e-5, rtol: 1e-4 };
const small = (max: number) => fc.integer({ min: 1, max });

/** The complex scan by its formula: h ← exp(Δ·A)·h + Δ·B·u, y = 2·Re(C·h). A, B, C, h as [re, im]. */
function complexScan(a: reference.Args) {
  const [B, L, D] = a.u.shape;
  const N = a.A.shape[1];
  const y = new Float64Array(B * L * D);
  const lastState = new Float64Array(B * D * N * 2);
  if (a.initialState) lastState.set(a.initialState.data);
  for (let b = 0; b < B; b++)
    for (let l = 0; l < L; l++)
      for (let d = 0; d < D; d++) {
        const t = (b * L + l) * D + d;
        const [u, dt] = [a.u.data[t], a.delta.data[t]];
        for (let n = 0; n < N; n++) {
          const pole = 2 * (d * N + n);
          const input = 2 * ((b * L + l) * N + n);
          const h = 2 * ((b * D + d) * N + n);
          const size = Math.exp(dt * a.A.data[pole]);
          const [c, s] = [size * Math.cos(dt * a.A.data[pole + 1]), size * Math.sin(dt * a.A.data[pole + 1])];
          const [re, im] = [lastState[h]!, lastState[h + 1]!];
          lastState[h] = c * re - s * im + dt * u * a.B.data[input];
          lastState[h + 1] = c * im + s * re + dt * u * a.B.data[input + 1];
          y[t]! += 2 * (a.C.data[input] * lastState[h]! - a.C.data[input + 1] * lastState[h + 1]!);
        }
      }
  return { y, lastState };
}

onEveryBackend(() => {
  it('attention: queries stand at the end of longer keys, before the start of shorter ones', () => {
    const sizes = fc.record({
      Lq: small(40),
      Lk: small(150),
      G: small(3),
      R: small(3),
      P: small(40),
      seed: small(2 ** 30),
    });
    fc.assert(
      fc.property(sizes, fc.boolean(), fc.nat(20), ({ Lq, Lk, G, R, P, seed }, causal, window) => {
        const r = new Random(seed);
        const q = r.tensor([2, Lq, G * R, P], -2, 2);
        const args = { q, k: r.tensor([2, Lk, G, P], -2, 2), v: r.tensor([2, Lk, G, P]), causal, window };
        expectClose(callSync('attention', args).y!.data as Float32Array, reference.attention(args).y!, tolerance);
      }),
      { numRuns: 30 },
    );
  });

  it('selectiveScan: complex systems are their formula', () => {
    const sizes = fc.record({ B: small(2), L: small(30), D: small(9), N: small(20), seed: small(2 ** 30) });
    fc.assert(
      fc.property(sizes, ({ B, L, D, N, seed }) => {
        const r = new Random(seed);
        const args = {
          u: r.tensor([B, L, D]),
          delta: r.tensor([B, L, D], 0.01, 0.5),
          A: r.tensor([D, N, 2], -3, 0),
          B: r.tensor([B, L, N, 2]),
          C: r.tensor([B, L, N, 2]),
          initialState: r.tensor([B, D, N, 2]),
        };
        const actual = callSync('selectiveScan', { ...args, complex: true });
        const expected = complexScan(args);
        expectClose(actual.y!.data as Float32Array, expected.y, tolerance, 'y');
        expectClose(actual.lastState!.data as Float32Array, expected.lastState, tolerance, 'lastState');
      }),
      { numRuns: 20 },
    );
  });

  describe.each(['bf16', 'f16'] as const)('%s inputs', (dtype: DType) => {
    const dims = { B: 2, L: 33, G: 2, R: 2, P: 8, N: 5, K: 4 };
    const ops = (Object.keys(samples) as OpName[]).filter((op) => samples[op].formula);
    it.for(ops)('%s: as their values in f32', (op, { skip }) => {
      skip(!hasKernel(op), `${op} has no kernel here`);
      const args = samples[op].args(new Random(9), dims);
      const narrow: reference.Args = {};
      const widened: reference.Args = {};
      for (const [name, t] of Object.entries(args)) {
        const half = t?.data instanceof Float32Array ? new Tensor(t.data, t.shape).to(dtype) : undefined;
        narrow[name] = half ?? t;
        widened[name] = half ? { data: half.toFloat32Array(), shape: half.shape } : t;
      }
      const expected = callSync(op, widened);
      // Products of halves may be summed from halves; everything else is widened first.
      for (const [name, t] of Object.entries(callSync(op, narrow)))
        expect(relativeL2(t.data, expected[name]!.data)).toBeLessThan(5e-3);
    });
  });
});

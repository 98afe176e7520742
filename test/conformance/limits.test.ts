// Values at the edges of their range: decays of exactly 0, steps that leave nothing of a state, rows without variance.
import { describe, expect, it } from 'vitest';
import { expectClose, relativeL2 } from '../support/golden.js';
import { hasKernel, onDevice, onEveryBackend } from './backends.js';
import { callSync, type OpName } from './check.js';
import { Random } from './random.js';
import type { Args } from './reference.js';
import { type Dims, samples } from './samples.js';
import { slice } from './tensors.js';

const dims: Dims = { B: 2, L: 70, G: 2, R: 2, P: 5, N: 6, K: 5 };

/** What decays by log decays, per token or head, and the values that mean 0. */
const resets: [op: OpName, input: string, values: number[], every?: true][] = [
  ['retention', 'logDecay', [Number.NEGATIVE_INFINITY, -3e38]],
  ['lightningAttention', 'slope', [Number.POSITIVE_INFINITY, 3e38]],
  ['gatedDeltaRule', 'g', [Number.NEGATIVE_INFINITY, -3e38]],
  ['kda', 'g', [Number.NEGATIVE_INFINITY, -3e38]],
  ['gla', 'g', [Number.NEGATIVE_INFINITY, -3e38]],
  ['wkv6', 'w', [Number.NEGATIVE_INFINITY, -3e38]],
  ['wkv7', 'w', [Number.NEGATIVE_INFINITY, -3e38]],
  ['mamba3', 'adt', [Number.NEGATIVE_INFINITY, -3e38]],
  ['ssd', 'A', [Number.NEGATIVE_INFINITY, -3e38, -1e30, -1e16]],
  ['selectiveScan', 'A', [Number.NEGATIVE_INFINITY, -3e38]],
  ['selectiveStateUpdate', 'A', [Number.NEGATIVE_INFINITY, -3e38]],
  ['wkv4', 'timeDecay', [Number.POSITIVE_INFINITY, 88]],
  ['rgLru', 'recurrentParam', [Number.POSITIVE_INFINITY, 3e38]],
];

/** Relative to the largest value. */
const bound = (expected: ArrayLike<number>) => ({
  atol: 2e-5 * Array.from(expected).reduce((m, x) => Math.max(m, Math.abs(x)), 1),
  rtol: 1e-4,
});

function expectFormula(op: OpName, a: Args, expected: Record<string, ArrayLike<number>>, what: string): void {
  for (const mode of samples[op].modes ?? [undefined]) {
    const actual = callSync(op, mode ? { ...a, mode } : a);
    for (const [name, values] of Object.entries(expected))
      expectClose(actual[name]!.data as Float32Array, values, bound(values), `${op} ${mode ?? ''} ${what} ${name}`);
  }
}

/** The same sequences, packed. */
function packed(op: OpName, a: Args): Args {
  const rows = (samples[op].perToken ?? []).filter((n) => a[n]?.shape.length > 2 && a[n].shape[0] === dims.B);
  const flat = rows.map((n) => [n, { data: a[n].data, shape: [1, dims.B * dims.L, ...a[n].shape.slice(2)] }]);
  const bounds = Int32Array.from({ length: dims.B + 1 }, (_, s) => s * dims.L);
  return { ...a, ...Object.fromEntries(flat), cuSeqlens: bounds };
}

onEveryBackend(() => {
  // Chunks leave a decay to later ones for as long as it does not amount to much.
  it.each([
    ['gatedDeltaRule', 'g'],
    ['kda', 'g'],
    ['gla', 'g'],
    ['wkv6', 'w'],
    ['wkv7', 'w'],
    ['mamba3', 'adt'],
  ] as const)('%s by %s of every strength in one sequence: all modes agree', (op, input) => {
    const r = new Random(6);
    const a = samples[op].args(r, { ...dims, L: 200 });
    for (const least of [-1, -3, -6]) {
      const data = Float32Array.from(a[input].data as Float32Array, () => -(10 ** (least + 3 * r.next())));
      const args = { ...a, [input]: { data, shape: a[input].shape } };
      const stepped = callSync(op, { ...args, mode: 'recurrent' });
      const names = ['y', 'lastState', 'lastState.ssm'].filter((name) => stepped[name]);
      expect(names.length).toBe(2);
      const expected = Object.fromEntries(names.map((name) => [name, stepped[name]!.data as Float32Array]));
      expectFormula(op, args, expected, `from 1e${least} on`);
    }
  });

  describe('a decay of 0 is a reset', () => {
    it.each(resets)('%s by %s', (op, input, values) => {
      for (const value of values) {
        const r = new Random(5);
        const a = samples[op].args(r, dims);
        const data = Float32Array.from(a[input].data as Float32Array);
        for (const i of data.keys()) if (r.next() < 0.4 || i === 1) data[i] = value;
        const args = { ...a, [input]: { data, shape: a[input].shape } };
        const expected = samples[op].formula!(args);
        expect(Object.values(expected).every((v) => v.every(Number.isFinite))).toBe(true);
        expectFormula(op, args, expected, String(value));
        if (samples[op].perToken) expectFormula(op, packed(op, args), expected, `${value} packed`);
      }
    });

    // Gradients of values whose decays are 0 anyhow, where those of the formula have no numbers.
    it.for<[op: OpName, input: string, reset: number, near: number]>([
      ['retentionBackward', 'logDecay', Number.NEGATIVE_INFINITY, -300],
      ['gatedDeltaRuleBackward', 'g', Number.NEGATIVE_INFINITY, -300],
      ['glaBackward', 'g', Number.NEGATIVE_INFINITY, -300],
      ['mamba3Backward', 'adt', Number.NEGATIVE_INFINITY, -300],
      ['wkv6Backward', 'w', Number.NEGATIVE_INFINITY, -300],
      ['wkv7Backward', 'w', Number.NEGATIVE_INFINITY, -300],
      ['ssdBackward', 'A', Number.NEGATIVE_INFINITY, -3e4],
      ['selectiveScanBackward', 'A', Number.NEGATIVE_INFINITY, -3e4],
      ['wkv4Backward', 'timeDecay', Number.POSITIVE_INFINITY, 20],
    ])('%s by %s: its gradients are those of a decay that is nearly 0', ([op, input, reset, near], { skip }) => {
      skip(!hasKernel(op), `${op} has no kernel here`);
      for (const value of [reset, Math.sign(reset) * (op === 'wkv4Backward' ? 88 : 3e38)]) {
        const a = samples[op].args(new Random(5), dims);
        const at = (decay: number) => {
          const r = new Random(9);
          const data = Float32Array.from(a[input].data as Float32Array, (x) => (r.next() < 0.4 ? decay : x));
          return callSync(op, { ...a, [input]: { data, shape: a[input].shape } });
        };
        const [actual, expected] = [at(value), at(near)];
        for (const [name, { data }] of Object.entries(expected)) {
          const values = data as Float32Array;
          expectClose(actual[name]!.data as Float32Array, values, bound(values), `${op} ${value} ${name}`);
        }
      }
    });

    it('ssd: one step of 1e13 and more hides nothing of the others', () => {
      for (const size of [1e13, 1e15, 1e16, 1e30]) {
        const r = new Random(3);
        const a: Args = { ...samples.ssd.args(r, dims), dtSoftplus: false, dtBias: undefined, chunkSize: 64 };
        a.dtLimit = [0, Number.POSITIVE_INFINITY];
        a.A = { data: Float32Array.of(-1, -0.5, -2, -1.5), shape: [4] };
        a.dt = r.tensor([dims.B, dims.L, 4], 0.01, 0.5);
        // Its input is small, as what it adds to the state is dt·x·B.
        for (let h = 0; h < 4; h++) {
          a.dt.data[7 * 4 + h] = size;
          for (let p = 0; p < dims.P; p++) a.x.data[(7 * 4 + h) * dims.P + p] /= size;
        }
        expectFormula('ssd', a, samples.ssd.formula!(a), String(size));
      }
    });

    it('a step of 0 keeps a state whose decay would be 0', () => {
      for (const op of ['ssd', 'selectiveScan'] as const) {
        const r = new Random(3);
        const a: Args = { ...samples[op].args(r, dims), deltaBias: undefined, dtBias: undefined, dtLimit: undefined };
        if (op === 'selectiveScan') delete a.dtLimit;
        const step = op === 'ssd' ? 'dt' : 'delta';
        delete a[op === 'ssd' ? 'deltaBias' : 'dtBias'];
        a[op === 'ssd' ? 'dtSoftplus' : 'deltaSoftplus'] = false;
        a[step] = { data: new Float32Array(a[step].data.length), shape: a[step].shape };
        a.A = { data: new Float32Array(a.A.data.length).fill(Number.NEGATIVE_INFINITY), shape: a.A.shape };
        for (const mode of samples[op].modes ?? [undefined])
          expect(callSync(op, mode ? { ...a, mode } : a).lastState!.data).toEqual(a.initialState.data);
      }
    });

    it('S4 and discretisations: A = −∞ has its limit', () => {
      const r = new Random(3);
      for (const method of ['zoh', 'bilinear'] as const)
        for (const P of [undefined, r.tensor([3, 4, 2])]) {
          if (P && method === 'zoh') continue;
          const system: Args = { A: r.tensor([3, 4, 2], -2, -0.1), B: r.tensor([3, 4, 2]), C: r.tensor([3, 4, 2]) };
          const others = { P, logDt: r.tensor([3], -4, -1), method, real: false };
          const initialState = { data: new Float32Array(24), shape: [1, 3, 4, 2] };
          const kernel = (re: number) => {
            const A = { data: Float32Array.from(system.A.data), shape: system.A.shape };
            for (let c = 0; c < 3; c++) A.data[8 * c] = re;
            const x = r.tensor([1, 9, 3]);
            x.data.fill(0);
            x.data.fill(1, 0, 3);
            return {
              K: callSync('s4Kernel', { ...system, ...others, A, L: 9 }).K!.data as Float32Array,
              y: callSync('s4Recurrent', { ...system, ...others, A, x, initialState }).y!.data as Float32Array,
            };
          };
          const [limit, near] = [kernel(Number.NEGATIVE_INFINITY), kernel(-1e30)];
          expectClose(limit.K, near.K, { atol: 1e-6, rtol: 1e-4 }, `s4Kernel ${method}`);
          expectClose(limit.y, near.y, { atol: 1e-6, rtol: 1e-4 }, `s4Recurrent ${method}`);
        }
      const delta = { data: Float32Array.of(0.5), shape: [1, 1, 1] };
      const A = { data: Float32Array.of(Number.NEGATIVE_INFINITY), shape: [1, 1] };
      const B = { data: Float32Array.of(2), shape: [1, 1] };
      const of = (method: string) => callSync('discretize', { delta, A, B, method });
      for (const [method, Abar, Bbar] of [
        ['zoh', 0, 0],
        ['zoh-euler', 0, 1],
        ['bilinear', -1, 0],
      ] as const) {
        expect(of(method).Abar!.data[0]! + 0).toBe(Abar);
        expect(of(method).Bbar!.data[0]).toBeCloseTo(Bbar, 30);
      }
    });
  });

  describe('layerNorm', () => {
    it('of equal values is 0, in rows and in groups, and so is its gradient by a constant', () => {
      for (const [value, width] of [
        [1234.567, 4096],
        [-7e-3, 1000],
        [3.3e7, 37],
      ] as const)
        for (const groupSize of [undefined, width % 64 ? undefined : 64]) {
          const x = { data: new Float32Array(2 * width).fill(value), shape: [2, width] };
          expect(callSync('layerNorm', { x, groupSize }).y!.data).toEqual(new Float32Array(2 * width));
          if (onDevice) continue; // gradients have no CUDA kernels
          const dy = { data: new Float32Array(2 * width).fill(1), shape: [2, width] };
          const { dx } = callSync('layerNormBackward', { x, dy });
          expect((dx!.data as Float32Array).every((v) => Math.abs(v) < 1e-3)).toBe(true);
        }
    });

    it('finds a variance that is small beside the mean', () => {
      const r = new Random(9);
      const x = r.tensor([3, 4096], 1000, 1000.01);
      const expected = samples.layerNorm.formula!({ x, eps: 1e-12 });
      expectClose(callSync('layerNorm', { x, eps: 1e-12 }).y!.data as Float32Array, expected.y!, {
        atol: 1e-3,
        rtol: 1e-3,
      });
    });
  });

  it.each(['B', 'C'])('selectiveStateUpdate: one group of %s stands for each group of the other', (one) => {
    const a = samples.selectiveStateUpdate.args(new Random(3), { ...dims, L: 1 });
    const [batch, groups, N] = a[one].shape;
    const first = { data: new Float32Array(batch * N), shape: [batch, N] };
    const every = { data: new Float32Array(batch * groups * N), shape: [batch, groups, N] };
    for (let b = 0; b < batch; b++) {
      const values = a[one].data.subarray(b * groups * N, (b * groups + 1) * N);
      first.data.set(values, b * N);
      for (let g = 0; g < groups; g++) every.data.set(values, (b * groups + g) * N);
    }
    const [short, long] = [first, every].map((t) => callSync('selectiveStateUpdate', { ...a, [one]: t }));
    expect(short!.y!.data).toEqual(long!.y!.data);
    expect(short!.state!.data).toEqual(long!.state!.data);
  });

  it.for([
    [1, 0, true],
    [9, 1, true],
    [9, 1, false],
  ] as const)(
    'attentionBackward: of %i queries, window %i, none moves a weight: each sees one key',
    ([L, window, causal], { skip }) => {
      skip(!hasKernel('attentionBackward'), 'attentionBackward has no kernel here');
      const r = new Random(8);
      for (const [H, P] of [
        [2, 4],
        [6, 33],
        [2, 128],
      ] as const) {
        const [q, dy] = [r.tensor([2, L, H, P], -2, 2), r.tensor([2, L, H, P], -2, 2)];
        const [k, v] = [r.tensor([2, L, 2, P], -2, 2), r.tensor([2, L, 2, P], -2, 2)];
        for (const softcap of [0, 1.5]) {
          const { dq, dk } = callSync('attentionBackward', { q, k, v, dy, window, causal, softcap });
          for (const gradient of [dq, dk]) expect((gradient!.data as Float32Array).every((x) => x === 0)).toBe(true);
        }
      }
    },
  );

  it('selectiveScan: what a slow decay gathers over 1500 steps is rounding, and leans no way', () => {
    const [L, D, N] = [1500, 20, 4];
    const r = new Random(12);
    const args = {
      u: r.tensor([1, L, D], -2, 2),
      delta: r.tensor([1, L, D], 0.1, 3),
      A: r.tensor([D, N], -2e-3, -3e-4),
      B: r.tensor([1, L, N], -2, 2),
      C: r.tensor([1, L, N], -2, 2),
    };
    const expected = samples.selectiveScan.formula!(args);
    const actual = callSync('selectiveScan', args);
    // AVX-512 has powers of 2 by a table of 32, which a third degree makes as good as exact near 0.
    const most = process.env.STATESPACE_BACKEND === 'avx512' ? 1e-6 : 5e-6;
    for (const name of ['y', 'lastState'])
      expect(relativeL2(actual[name]!.data as Float32Array, expected[name]!), name).toBeLessThan(most);
  });

  it.each([
    ['gla', 'g'],
    ['wkv6', 'w'],
  ] as const)('%s: the same', (op, decay) => {
    const r = new Random(12);
    const a = samples[op].args(r, { ...dims, B: 1, L: 1500 });
    const args = { ...a, [decay]: r.tensor(a[decay].shape, -3e-3, -3e-4) };
    const expected = samples[op].formula!(args);
    for (const mode of ['chunked', 'recurrent']) {
      const actual = callSync(op, { ...args, mode });
      for (const name of ['y', 'lastState'])
        expect(relativeL2(actual[name]!.data as Float32Array, expected[name]!), `${mode} ${name}`).toBeLessThan(2e-6);
    }
  });

  it('selectiveScan: a constant complex B is one, whatever the number of tokens', () => {
    // (D, N, 2) is (tokens, ngroups, d_state) by accident for six tokens; of seven it can be only one.
    const [D, N, G] = [6, 2, 3];
    const r = new Random(4);
    const system = { A: r.tensor([D, N, 2], -2, -0.1), B: r.tensor([D, N, 2]), complex: true };
    const [C, u, delta] = [r.tensor([1, 7, G, N, 2]), r.tensor([1, 7, D]), r.tensor([1, 7, D], 0.1, 0.5)];
    const run = (L: number) => {
      const [c, x, dt] = [C, u, delta].map((t) => slice(t, 1, 0, L));
      return callSync('selectiveScan', { ...system, C: c, u: x, delta: dt }).y!.data;
    };
    expect(run(6)).toEqual(run(7).slice(0, 6 * D));
  });
});

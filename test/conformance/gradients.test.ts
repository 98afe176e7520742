// Gradients: torch autograd's of every op (test/golden/gradients, and the whole corpus where it lies beside the project),
// and finite differences of the formulas in f64 on random shapes. All on this machine's best backend, the kept cases on
// every one; STATESPACE_ALL_GRADIENTS runs all on all.
import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type GoldenTensor, goldenRoot, readGolden, relativeL2 } from '../support/golden.js';
import { backends, hasKernel, onDevice, onEveryBackend } from './backends.js';
import { callAsync, callSync, type OpName, type Outputs, opNames } from './check.js';
import { Random } from './random.js';
import type { Args, Values } from './reference.js';
import * as reference from './reference.js';
import { aboveHeads, gradientOf, samples } from './samples.js';
import { slice } from './tensors.js';

const kept = join(goldenRoot, 'gradients');
const corpus = resolve(__dirname, '../../../shared/golden/gradients-C/kernels');

interface Case {
  name: string;
  op: OpName;
  file: string;
  everywhere: boolean;
}

const files = (folder: string) =>
  existsSync(folder) ? readdirSync(folder).filter((f) => f.endsWith('.safetensors')) : [];
const own = files(kept);
const cases: Case[] = [
  ...own.map((f) => ({ f, file: join(kept, f), everywhere: true })),
  ...files(corpus)
    .filter((f) => !own.includes(f))
    .map((f) => ({ f, file: join(corpus, f), everywhere: process.env.STATESPACE_ALL_GRADIENTS === '1' })),
].map(({ f, file, everywhere }) => {
  const name = f.replace('.safetensors', '');
  return { name, op: `${name.slice(0, name.indexOf('_backward__'))}Backward` as OpName, file, everywhere };
});

const backwardOps = opNames.filter((op) => op.endsWith('Backward'));

const argument = (name: string, t: GoldenTensor) =>
  name === 'cuSeqlens' || name === 'positions' ? t.data : { data: t.data, shape: t.shape };

/** What an argument that may lie in another (initialState.ssm) is, and the arguments with another value of it. */
const given = (a: Args, path: string) => path.split('.').reduce<Args>((inside, key) => inside?.[key], a);
function replaced(a: Args, path: string, value: unknown): Args {
  const [first, ...rest] = path.split('.') as [string, ...string[]];
  return { ...a, [first]: rest.length > 0 ? replaced(a[first], rest.join('.'), value) : value };
}

/** Zero everywhere in the reference (an unused expert, a masked key), or the rounding noise of a zero. */
const isZero = (t: GoldenTensor) => t.data.every((v) => Math.abs(v) < 1e-12);

function expectGradient(actual: ArrayLike<number>, expected: GoldenTensor, what: string): void {
  if (isZero(expected)) {
    expect(Math.max(0, ...Array.from(actual, Math.abs)), what).toBeLessThan(1e-6);
    return;
  }
  expect(relativeL2(actual, expected.data), what).toBeLessThan(1e-4);
}

it('every backward op has a case that is kept', () => {
  expect(backwardOps.filter((op) => !cases.some((c) => c.op === op && c.everywhere))).toEqual([]);
});

onEveryBackend(() => {
  const known = cases.filter((c) => backwardOps.includes(c.op)).map((c) => [c.name, c] as const);
  it.for(known)('%s', async ([, c], { skip }) => {
    skip(!hasKernel(c.op), `${c.op} has no kernel here`);
    // The kept ones run on every backend.
    skip(!c.everywhere && (onDevice || process.env.STATESPACE_BACKEND !== backends[0]), 'runs on the best processor');
    const { tensors, metadata } = readGolden(c.file);
    const part = (prefix: string) =>
      Object.entries(tensors).flatMap(([key, t]) =>
        key.startsWith(prefix) ? [[key.slice(prefix.length), t] as const] : [],
      );
    const inputs = part('in.').reduce<Args>((a, [name, t]) => replaced(a, name, argument(name, t)), {});
    const args = { ...inputs, ...(metadata.flags as object) };
    const gradients = callSync(c.op, args);
    const expected = part('out.');
    expect(Object.keys(gradients).sort()).toEqual(expect.arrayContaining(expected.map(([name]) => name).sort()));
    for (const [name, t] of expected) {
      expect(gradients[name]!.shape).toEqual([...t.shape]);
      expectGradient(gradients[name]!.data as Float32Array, t, `${c.name} ${name}`);
    }
    if (c.everywhere) expect(await callAsync(c.op, args)).toEqual(gradients);
  });
});

/** Σ of products, in f64. */
const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((s, x, i) => s + x * b[i]!, 0);
const isTensor = (v: unknown): v is { data: Float32Array; shape: number[] } =>
  (v as { data?: unknown })?.data instanceof Float32Array;

/** What of a formula's results has a gradient from above, by the argument's name. */
const above: Record<string, string> = { y: 'dy', lastState: 'dlastState', finalState: 'dfinalState', loss: 'dloss' };

/** The gradient's product with a direction, by central differences along it. */
function difference(formula: (a: Args) => Values, a: Args, name: string, direction: Float64Array): number {
  const step = 1e-4;
  const at = (sign: number) => {
    const data = Float64Array.from(given(a, name).data as Float32Array, (v, i) => v + sign * step * direction[i]!);
    const values = formula(replaced(a, name, { ...given(a, name), data }));
    return Object.entries(values).reduce((sum, [result, v]) => {
      const upstream = given(a, above[result] ?? `d${result}`);
      return sum + (upstream ? dot(v, upstream.data) : 0);
    }, 0);
  };
  return (at(1) - at(-1)) / (2 * step);
}

describe('finite differences', () => {
  const dims = fc.record({
    B: fc.integer({ min: 1, max: 2 }),
    L: fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constantFrom(17, 33)),
    G: fc.integer({ min: 1, max: 2 }),
    R: fc.integer({ min: 1, max: 3 }),
    P: fc.integer({ min: 1, max: 19 }),
    N: fc.integer({ min: 1, max: 18 }),
    K: fc.integer({ min: 1, max: 5 }),
  });

  const all = [...backwardOps, 'linearCrossEntropy'] as OpName[];
  it.for<[string, OpName, OpName]>([
    ...all.map((op): [string, OpName, OpName] => [op, op, op.replace('Backward', '') as OpName]),
    ['gatedDeltaRuleBackward of kda', 'gatedDeltaRuleBackward', 'kda'],
  ])('%s', ([, op, of], { skip }) => {
    skip(!hasKernel(op), `${op} has no kernel here`);
    const sample = of === 'kda' ? gradientOf(samples.kda, aboveHeads) : samples[op];
    const forward = samples[of].formula!;
    fc.assert(
      fc.property(dims, fc.integer({ min: 1, max: 2 ** 30 }), (d, seed) => {
        const r = new Random(seed);
        const a = sample.args(r, /crossEntropy/i.test(op) ? { ...d, L: Math.max(1, d.L) } : d); // a loss of nothing
        if (op === 'linearCrossEntropy') a.dloss = { data: Float32Array.of(1), shape: [1] };
        const { dloss, ...plain } = a;
        const gradients: Outputs = callSync(op, op === 'linearCrossEntropy' ? plain : a);
        for (const [name, g] of Object.entries(gradients)) {
          const argument = name.slice(1); // loss has none
          if (!isTensor(given(a, argument))) continue;
          const values = r.tensor([g.data.length]).data;
          const direction = Float64Array.from(values);
          const actual = dot(g.data as Float32Array, direction);
          const expected = difference(forward, a, argument, direction);
          const size = Math.sqrt(dot(g.data as Float32Array, g.data as Float32Array)) * Math.sqrt(dot(values, values));
          expect(Math.abs(actual - expected), `${op} ${name}: ${actual}, not ${expected}`).toBeLessThan(
            2e-4 * size + 1e-5,
          );
        }
      }),
      { numRuns: onDevice ? 2 : 8 }, // an emulated one is slow
    );
  });
});

describe('mamba3 of several ranks, by finite differences', () => {
  onEveryBackend(() => {
    // Tokens whose rows fill a tile, reach beyond one, and are more than a chunk has.
    it.for([3, 4, 5, 8, 33])('rank %i', (R, { skip }) => {
      skip(onDevice, 'the processor kernels');
      const r = new Random(8);
      const [H, P, N, L] = [2, 5, 6, 19];
      const ranks = Object.fromEntries(['mimoX', 'mimoZ', 'mimoO'].map((name) => [name, r.tensor([H, R, P])]));
      const a: Args = {
        ...{ x: r.tensor([1, L, H, P]), B: r.tensor([1, L, R, 1, N]), C: r.tensor([1, L, R, 1, N]) },
        ...{ dt: r.tensor([1, L, H], 0.01, 0.2), adt: r.tensor([1, L, H], -1, -0.01), trap: r.tensor([1, L, H]) },
        ...{ angles: r.tensor([1, L, 3]), BBias: r.tensor([H, R, N]), CBias: r.tensor([H, R, N]), D: r.tensor([H]) },
        ...{ z: r.tensor([1, L, H, P]), normWeight: R % 2 ? r.tensor([H, P]) : undefined, ...ranks },
        dy: r.tensor([1, L, H, P]),
      };
      for (const [name, g] of Object.entries(callSync('mamba3Backward', a))) {
        if (!isTensor(a[name.slice(1)])) continue;
        const direction = Float64Array.from(r.tensor([g.data.length]).data);
        const [actual, expected] = [
          dot(g.data as Float32Array, direction),
          difference(reference.mamba3, a, name.slice(1), direction),
        ];
        const size = Math.sqrt(dot(g.data as Float32Array, g.data as Float32Array) * dot(direction, direction));
        expect(Math.abs(actual - expected), `${name}: ${actual}, not ${expected}`).toBeLessThan(2e-4 * size + 1e-5);
      }
    });
  });
});

describe('packed sequences, empty ones among them', () => {
  const lengths = [3, 0, 18, 1];
  const bounds = Int32Array.from([0, 3, 3, 21, 22]);
  const ops = backwardOps.filter((op) => samples[op.replace('Backward', '') as OpName].perToken);

  it.for(ops)('%s', (op, { skip }) => {
    skip(!hasKernel(op), `${op} has no kernel here`);
    const r = new Random(7);
    const { perToken, state, stateParts } = samples[op.replace('Backward', '') as OpName];
    for (const K of [1, 2]) {
      let whole = samples[op].args(r, { B: 1, L: 22, G: 2, R: 2, P: 5, N: 3, K });
      const rows = ['dy', ...perToken!].filter((name) => whole[name]?.shape.length > 2 && whole[name].shape[1] === 22);
      const paths = (name: string) => stateParts?.map((part) => `${name}.${part}`) ?? [name];
      const states = (state ? [state[0], `d${state[1]}`] : []).flatMap(paths).filter((name) => given(whole, name));
      for (const name of states) whole = replaced(whole, name, r.tensor([4, ...given(whole, name).shape.slice(1)]));
      const packed = callSync(op, { ...whole, cuSeqlens: bounds });
      const alone = lengths.map((length, s) => {
        const cut = rows.map((name) => [name, slice(whole[name], 1, bounds[s]!, bounds[s]! + length)]);
        const own = states.reduce(
          (a, name) => replaced(a, name, slice(given(a, name) as GoldenTensor, 0, s, s + 1)),
          whole,
        );
        return callSync(op, { ...own, ...Object.fromEntries(cut) });
      });
      for (const [name, g] of Object.entries(packed)) {
        const parts = alone.map((gradients) => Array.from(gradients[name]!.data as Float32Array));
        const apart = name.startsWith('dinitialState') || rows.includes(name.slice(1));
        const expected = apart ? parts.flat() : parts[0]!.map((_, i) => parts.reduce((sum, p) => sum + p[i]!, 0));
        expect(relativeL2(g.data as Float32Array, expected), `${op} ${name}`).toBeLessThan(1e-5);
      }
    }
  });
});

describe('states that the forward keeps', () => {
  // Sequences that end before, at and behind the places where states are kept, and that have none or several.
  const bounds = Int32Array.from([0, 70, 70, 73, 201, 402, 403, 416]);
  const dims = { B: 1, L: 416, G: 2, R: 2, P: 19, N: 19, K: 3 };
  const ops = ['selectiveScan', 'ssd', 'wkv6', 'wkv7', 'gatedDeltaRule', 'kda', 'gla', 'mamba3'] as const;
  // Of a state's rows; from 129 on the heads' recurrences keep none.
  const sizes = ops.flatMap((op) => [3, 33, 128, 130].map((rows) => [op, rows] as const));

  onEveryBackend(() => {
    it.for(sizes)('%s, %i rows', ([op, rows], { skip }) => {
      skip(onDevice, 'the processor kernels');
      const backward = op === 'kda' ? 'gatedDeltaRuleBackward' : (`${op}Backward` as const);
      const sample = op === 'kda' ? gradientOf(samples.kda, aboveHeads) : samples[backward];
      const scans = op === 'selectiveScan' || op === 'ssd';
      const by = scans ? { N: rows } : op === 'mamba3' ? { N: Math.ceil(rows / 2) } : { P: rows };
      const { initialState, dlastState, ...all } = sample.args(new Random(3), { ...dims, ...by });
      const { dy, ...given } = { ...all, cuSeqlens: bounds } as Args;
      const { y, states, innovations } = callSync(op, { ...given, withStates: true });
      expect(bytes(y!.data), 'y').toEqual(bytes(callSync(op, given).y!.data));
      const gradients = callSync(backward, { ...given, dy });
      const ways = [{ states }, ...(innovations ? [{ innovations }, { states, innovations }] : [])];
      for (const kept of ways)
        for (const [name, g] of Object.entries(callSync(backward, { ...given, dy, ...kept }))) {
          const far = relativeL2(g.data as Float32Array, gradients[name]!.data as Float32Array);
          expect(far, `${name} of ${Object.keys(kept)}`).toBeLessThan(2e-6);
        }
      const changes = (kept: Args) =>
        Object.entries(callSync(backward, { ...given, dy, ...kept })).some(
          ([name, t]) => relativeL2(t.data as Float32Array, gradients[name]!.data as Float32Array) > 1e-3,
        );
      (states!.data as Float32Array).fill(1);
      expect(changes({ states })).toBe(op === 'selectiveScan' || rows <= 128);
      if (!innovations) return;
      (innovations.data as Float32Array).fill(1);
      expect(changes({ innovations })).toBe(true);
    });
  });
});

describe('what moe keeps for its gradient', () => {
  // Few tokens go in chains of products, many by one product after another; with experts that no token reaches.
  const cases = [1, 3, 70].flatMap((tokens) => [false, true].map((renormalize) => ({ tokens, renormalize })));

  onEveryBackend(() => {
    it.for(cases)('$tokens tokens, renormalize $renormalize', ({ tokens, renormalize }, { skip }) => {
      skip(onDevice, 'the processor kernels');
      const r = new Random(9);
      const [experts, d, f] = [5, 33, 19];
      const given = {
        x: r.tensor([1, tokens, d]),
        ...{ router: r.tensor([experts, d]), gateUp: r.tensor([experts, 2 * f, d]), down: r.tensor([experts, d, f]) },
        ...{ topK: 2, renormalize },
      };
      const dy = r.tensor([1, tokens, d]);
      const { y, hidden } = callSync('moe', { ...given, withHidden: true });
      expect(hidden!.shape).toEqual([1, tokens, 2, 2, f]);
      expect(bytes(y!.data), 'y').toEqual(bytes(callSync('moe', given).y!.data));
      const gradients = callSync('moeBackward', { ...given, dy });
      const kept = callSync('moeBackward', { ...given, dy, hidden });
      for (const [name, g] of Object.entries(gradients)) expect(bytes(kept[name]!.data), name).toEqual(bytes(g.data));
      (hidden!.data as Float32Array).fill(1);
      const { ddown } = callSync('moeBackward', { ...given, dy, hidden });
      expect(relativeL2(ddown!.data as Float32Array, gradients.ddown!.data as Float32Array)).toBeGreaterThan(1e-3);
    });

    it('is of topK experts', ({ skip }) => {
      skip(onDevice, 'the processor kernels');
      const r = new Random(9);
      const [x, router] = [r.tensor([1, 4, 8]), r.tensor([3, 8])];
      const given = { x, router, gateUp: r.tensor([3, 12, 8]), down: r.tensor([3, 8, 6]), topK: 2 };
      const hidden = r.tensor([1, 4, 1, 2, 6]);
      expect(() => callSync('moeBackward', { ...given, hidden })).toThrow(/hidden: expected .*topK=2/);
    });
  });
});

describe('what else the forward keeps', () => {
  const bounds = Int32Array.from([0, 70, 70, 73, 201, 202]);
  const dims = { B: 1, L: 202, G: 2, R: 2, P: 19, N: 19, K: 3 };
  const far = (a: Outputs, b: Outputs) =>
    Object.keys(a).map((name) => relativeL2(a[name]!.data as Float32Array, b[name]!.data as Float32Array));

  onEveryBackend(() => {
    // Widths of a vector or less, of several, and of tiles that lie past the caches' sets.
    it.for([1, 19, 64, 150])('rgLru, heads of %i', (P, { skip }) => {
      skip(onDevice, 'the processor kernels');
      const all = samples.rgLruBackward.args(new Random(5), { ...dims, P }) as Args;
      const { initialState: _, dlastState: __, dy, ...given } = { ...all, cuSeqlens: bounds } as Args;
      const { y, gates } = callSync('rgLru', { ...given, withGates: true });
      expect(bytes(y!.data), 'y').toEqual(bytes(callSync('rgLru', given).y!.data));
      const gradients = callSync('rgLruBackward', { ...given, dy });
      expect(Math.max(...far(callSync('rgLruBackward', { ...given, dy, y, gates }), gradients))).toBeLessThan(2e-6);
      (gates!.data as Float32Array).fill(0.5);
      expect(Math.max(...far(callSync('rgLruBackward', { ...given, dy, y, gates }), gradients))).toBeGreaterThan(1e-3);
    });

    it.for([1, 2, 3, 4, 5])('mamba3 of rank %i, with norm and gate', (R, { skip }) => {
      skip(onDevice, 'the processor kernels');
      const r = new Random(6);
      const [H, P, N] = [2, 19, 20];
      const ranks = R > 1 ? [R] : [];
      const given: Args = {
        x: r.tensor([1, 202, H, P]),
        B: r.tensor([1, 202, ...ranks, 1, N]),
        C: r.tensor([1, 202, ...ranks, 1, N]),
        dt: r.tensor([1, 202, H], 0.01, 0.2),
        adt: r.tensor([1, 202, H], -1, -0.01),
        trap: r.tensor([1, 202, H]),
        angles: r.tensor([1, 202, ...(R % 2 ? [H] : []), 5]),
        BBias: r.tensor([H, ...ranks, N]),
        CBias: r.tensor([H, ...ranks, N]),
        D: r.tensor([H]),
        z: r.tensor([1, 202, H, P]),
        normWeight: r.tensor([H, P]),
        ...(R > 1 && Object.fromEntries(['mimoX', 'mimoZ', 'mimoO'].map((name) => [name, r.tensor([H, R, P])]))),
        cuSeqlens: bounds,
      };
      const { y, states, outputs } = callSync('mamba3', { ...given, withStates: true });
      expect(bytes(y!.data), 'y').toEqual(bytes(callSync('mamba3', given).y!.data));
      const dy = r.tensor([1, 202, H, P]);
      const gradients = callSync('mamba3Backward', { ...given, dy });
      const kept = callSync('mamba3Backward', { ...given, dy, states, outputs });
      expect(Math.max(...far(kept, gradients))).toBeLessThan(1e-5);
      (outputs!.data as Float32Array).fill(1);
      const changed = callSync('mamba3Backward', { ...given, dy, outputs });
      expect(Math.max(...far(changed, gradients))).toBeGreaterThan(1e-3);
    });
  });
});

describe('products whose matrices are large', () => {
  // Rows of the kernels for few and for many, and matrices that are written past the caches (from 1 MB, whole lines).
  const out = 520;
  const sizes = [512, 513].flatMap((width) => [0, 1, 5, 16, 17, 130].map((rows) => ({ width, rows })));

  /** (a.rows, b.columns) of f64: aᵀb over the rows of both, or a·b. */
  function product(a: Float32Array, b: Float32Array, [m, k, n]: [number, number, number], transposed: boolean) {
    const c = new Float64Array(m * n);
    for (let i = 0; i < m; i++)
      for (let l = 0; l < k; l++) {
        const x = a[transposed ? l * m + i : i * k + l]!;
        for (let j = 0; j < n; j++) c[i * n + j]! += x * b[l * n + j]!;
      }
    return c;
  }

  onEveryBackend(() => {
    it.for(sizes)('linear, $rows rows of $width', ({ rows, width }, { skip }) => {
      skip(onDevice, 'the processor kernels');
      const r = new Random(5);
      const [x, weight, dy] = [r.tensor([rows, width]), r.tensor([out, width]), r.tensor([rows, out])];
      const { dx, dweight } = callSync('linearBackward', { x, weight, dy });
      const expected = {
        dx: product(dy.data, weight.data, [rows, out, width], false),
        dweight: product(dy.data, x.data, [out, rows, width], true),
      };
      if (rows === 0) return expect((dweight!.data as Float32Array).every((v) => v === 0)).toBe(true);
      expect(relativeL2(dx!.data as Float32Array, expected.dx)).toBeLessThan(2e-6);
      expect(relativeL2(dweight!.data as Float32Array, expected.dweight)).toBeLessThan(2e-6);
    });

    it('moe: experts that no token chose get zeros', ({ skip }) => {
      skip(onDevice, 'the processor kernels');
      const r = new Random(6);
      const [experts, d, f] = [4, 512, 520];
      const [x, dy] = [r.tensor([1, 1, d]), r.tensor([1, 1, d])];
      // Logits in the order of these factors: the second and the fourth expert are chosen.
      const factors = [-0.01, 0.02, -0.02, 0.01];
      const router = {
        data: Float32Array.from(factors.flatMap((c) => Array.from(x.data, (v) => c * v))),
        shape: [experts, d],
      };
      const shapes = { gateUp: [experts, 2 * f, d], down: [experts, d, f] };
      const [gateUp, down] = [r.tensor(shapes.gateUp, -0.05, 0.05), r.tensor(shapes.down, -0.05, 0.05)];
      const given = { x, router, gateUp, down, dy, topK: 2 };
      for (let again = 0; again < 2; again++) {
        const gradients = callSync('moeBackward', given);
        for (const name of ['dgateUp', 'ddown']) {
          const data = gradients[name]!.data as Float32Array;
          const largest = Array.from({ length: experts }, (_, e) =>
            data
              .subarray((e * data.length) / experts, ((e + 1) * data.length) / experts)
              .reduce((m, v) => Math.max(m, Math.abs(v)), 0),
          );
          expect(largest.map((v) => v > 0)).toEqual([false, true, false, true]);
          gradients[name]!.data.fill(1); // memory that a second call may be given again
        }
        for (const t of Object.values(gradients)) t.dispose();
      }
    });
  });
});

describe('gradients larger than the caches', () => {
  // From 16 MB in all the head recurrences write past them: half the heads at a time stay below.
  const [length, heads, width] = [256, 64, 64];
  const shape = [1, length, heads, width];
  const half = (t: { data: Float32Array; shape: readonly number[] }, first: number) => {
    const values = t.data.length / length / heads;
    const data = new Float32Array(t.data.length / 2);
    for (let i = 0; i < length; i++) {
      const from = (i * heads + first) * values;
      data.set(t.data.subarray(from, from + (heads / 2) * values), (i * heads * values) / 2);
    }
    return { data, shape: t.shape.map((n, i) => (i === 2 ? n / 2 : n)) };
  };

  onEveryBackend(() => {
    it.for(['wkv6Backward', 'wkv7Backward', 'gatedDeltaRuleBackward'] as const)('%s', (op, { skip }) => {
      skip(onDevice, 'the processor kernels');
      const r = new Random(11);
      const rows = (low = -1, high = 1) => r.tensor(shape, low, high);
      const keys = () => r.unit(shape);
      const u = r.tensor([heads, width]);
      const perToken = {
        wkv6Backward: () => ({ r: rows(), k: rows(), v: rows(), w: rows(-0.7, -0.01) }),
        wkv7Backward: () => ({ r: rows(), w: rows(-0.6, -0.01), k: rows(), v: rows(), a: keys(), b: keys() }),
        gatedDeltaRuleBackward: () => ({
          ...{ q: keys(), k: keys(), v: rows(), g: rows(-0.5, -0.01) },
          beta: r.tensor([1, length, heads], 0.1, 0.9),
        }),
      }[op]();
      const given: Record<string, { data: Float32Array; shape: readonly number[] }> = { ...perToken, dy: rows() };
      const whole = callSync(op, { ...given, ...(op === 'wkv6Backward' && { u }) });
      for (const first of [0, heads / 2]) {
        const cut = Object.fromEntries(Object.entries(given).map(([name, t]) => [name, half(t, first)]));
        const own = { data: u.data.slice(first * width, (first + heads / 2) * width), shape: [heads / 2, width] };
        const part = callSync(op, { ...cut, ...(op === 'wkv6Backward' && { u: own }) });
        for (const name of Object.keys(given).filter((n) => n !== 'dy')) {
          const all = whole[`d${name}`]! as unknown as { data: Float32Array; shape: number[] };
          expect(
            Buffer.from(half(all, first).data.buffer).equals(bytes(part[`d${name}`]!.data)),
            `${op} d${name}`,
          ).toBe(true);
        }
      }
    });
  });
});

const bytes = (data: ArrayBufferView) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);

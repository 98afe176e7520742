// What must hold for any shape and values: the formula, any cut in time, any packing, any mode, any place in memory.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expectClose } from '../support/golden.js';
import { needs } from '../support/needs.js';
import { hasKernel, onEveryBackend } from './backends.js';
import { callSync, type OpName, type Outputs } from './check.js';
import { Random } from './random.js';
import type { Args } from './reference.js';
import { type Dims, type Sample, samples } from './samples.js';
import { type Plain, slice } from './tensors.js';

const dims = (length: fc.Arbitrary<number>): fc.Arbitrary<Dims> =>
  fc.record({
    B: fc.integer({ min: 1, max: 3 }),
    L: length,
    G: fc.integer({ min: 1, max: 3 }),
    R: fc.integer({ min: 1, max: 3 }),
    P: fc.integer({ min: 1, max: 20 }),
    N: fc.integer({ min: 1, max: 20 }),
    K: fc.integer({ min: 1, max: 6 }),
  });
// Around the lengths of chunks and tiles as well as tiny ones.
const lengths = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constantFrom(16, 17, 31, 63, 65, 100, 130));
const seeds = fc.integer({ min: 1, max: 2 ** 30 });
const options = { numRuns: 12 };

/** Relative to the largest value, as sums in another order differ. */
const bound = (expected: ArrayLike<number>) => ({
  atol:
    2e-5 *
    Math.max(
      1,
      Array.from(expected).reduce((m, x) => Math.max(m, Math.abs(x)), 0),
    ),
  rtol: 1e-4,
});

function expectSame(actual: Outputs, expected: Record<string, { data: ArrayLike<number> }>, what: string): void {
  for (const [name, { data }] of Object.entries(expected))
    expectClose(actual[name]!.data as Float32Array, data, bound(data), `${what} ${name}`);
}

const perToken = (sample: Sample, a: Args) =>
  (sample.perToken ?? []).filter(
    (name) => a[name]?.shape.length > 2 && a[name].shape[1] === a[sample.perToken![0]!].shape[1],
  );

/** The tokens [from, to) of every sequence. */
function inTime(sample: Sample, a: Args, from: number, to: number): Args {
  const cut = Object.fromEntries(perToken(sample, a).map((name) => [name, slice(a[name], 1, from, to)]));
  return { ...a, ...cut };
}

/** Sequence b alone. */
function sequence(sample: Sample, a: Args, b: number): Args {
  const cut = Object.fromEntries(perToken(sample, a).map((name) => [name, slice(a[name], 0, b, b + 1)]));
  return { ...a, ...cut, ...initialState(sample, (part) => slice(part(a), 0, b, b + 1)) };
}

/** The argument that is the state, made of its parts; `make` is given how to find a part among arguments. */
function initialState(sample: Sample, make: (part: (a: Args) => Plain) => Plain): Args {
  if (!sample.state) return {};
  const [initial] = sample.state;
  if (!sample.stateParts) return { [initial]: make((a) => a[initial]) };
  return {
    [initial]: Object.fromEntries(sample.stateParts.map((name) => [name, make((a) => a[initial][name])])),
  };
}

/** Names of the results that are the state. */
function lastStates({ state, stateParts }: Sample): string[] {
  return state ? (stateParts?.map((part) => `${state[1]}.${part}`) ?? [state[1]]) : [];
}

/** The state that a call has left, as an argument. */
function stateOf(sample: Sample, out: Outputs): Plain | Record<string, Plain> {
  const [, last] = sample.state!;
  return sample.stateParts
    ? Object.fromEntries(sample.stateParts.map((part) => [part, out[`${last}.${part}`] as Plain]))
    : (out[last] as Plain);
}

/** Outputs one after another, along axis 0 or 1. */
const joined = (parts: Outputs[], name: string, axis: 0 | 1): Plain =>
  together(
    parts.map((p) => p[name]! as Plain),
    axis,
  );

const together = (tensors: Plain[], axis: 0 | 1): Plain => {
  const shape = tensors[0]!.shape.map((s, i) => (i === axis ? tensors.reduce((n, t) => n + t.shape[axis]!, 0) : s));
  const rows = axis === 0 ? 1 : shape[0]!;
  const data = Array.from({ length: rows }, (_, b) =>
    tensors.flatMap((t) => Array.from(axis === 0 ? t.data : slice(t, 0, b, b + 1).data)),
  );
  return { data: Float32Array.from(data.flat()), shape };
};

const nan = (t: Plain): Plain => ({ data: new Float32Array(t.data.length).fill(Number.NaN), shape: t.shape });

/** Values at an odd place of a larger buffer. */
function moved(a: Args): Args {
  return Object.fromEntries(
    Object.entries(a).map(([name, t]) => {
      if (!(t?.data instanceof Float32Array)) return [name, t];
      const data = new Float32Array(t.data.length + 7).subarray(3, 3 + t.data.length);
      data.set(t.data);
      return [name, { data, shape: t.shape }];
    }),
  );
}

function suite(op: OpName, sample: Sample): void {
  const any = (run: (a: Args, d: Dims) => void, length = lengths) =>
    fc.assert(
      fc.property(dims(length), seeds, (d, seed) => run(sample.args(new Random(seed), d), d)),
      options,
    );

  if (sample.formula) {
    it('is its formula', () => {
      any((a) => {
        const expected = sample.formula!(a);
        const wrapped = Object.fromEntries(Object.entries(expected).map(([name, data]) => [name, { data }]));
        for (const mode of sample.modes ?? [undefined])
          expectSame(callSync(op, mode ? { ...a, mode } : a), wrapped, `${op} ${mode ?? ''}`);
      });
    });
  }

  it('changes no input, and gives the same bits again and wherever its inputs lie', () => {
    any((a) => {
      const before = structuredClone(a);
      const first = callSync(op, a);
      expect(a).toEqual(before);
      expect(callSync(op, moved(a))).toEqual(first);
    });
  });

  if (sample.perToken) {
    it('a NaN reaches no token before its own', () => {
      any((a, { L, K }) => {
        if (a.causal === false) return;
        const from = Math.max(0, L - K);
        const spoilt = Object.fromEntries(
          perToken(sample, a).map((name) => [
            name,
            together([slice(a[name], 1, 0, from), nan(slice(a[name], 1, from, L))], 1),
          ]),
        );
        for (const mode of sample.modes ?? [undefined]) {
          const before = callSync(op, { ...inTime(sample, a, 0, from), ...(mode && { mode }) }).y as Plain;
          const after = callSync(op, { ...a, ...spoilt, ...(mode && { mode }) }).y as Plain;
          expectSame({ y: slice(after, 1, 0, from) } as unknown as Outputs, { y: before }, `${op} ${mode ?? ''}`);
        }
      });
    });
  }

  if (sample.state) {
    const [initial] = sample.state;
    it('continues from its state: any cut in time gives the whole', () => {
      any(
        (a, { L, K, N }) => {
          const cuts = [...new Set([0, Math.min(K, L), Math.min(K + N, L), L])].sort((x, y) => x - y);
          let state = a[initial];
          const parts = cuts.slice(1).map((to, i) => {
            const out = callSync(op, { ...inTime(sample, a, cuts[i]!, to), [initial]: state });
            state = stateOf(sample, out);
            return out;
          });
          const states = lastStates(sample).map((name) => [name, parts.at(-1)![name]!.data] as const);
          const expected = Object.fromEntries(states.map(([name, data]) => [name, { data }]));
          expectSame(callSync(op, a), { y: joined(parts, 'y', 1), ...(expected as Record<string, Plain>) }, op);
        },
        lengths.filter((l) => l > 0),
      );
    });
  }

  if (sample.perToken) {
    it('keeps sequences apart: batched, packed and alone agree', () => {
      any((a, { B, L, K }) => {
        const results = ['y', ...lastStates(sample)];
        const alone = Array.from({ length: B }, (_, b) => callSync(op, sequence(sample, a, b)));
        expectSame(callSync(op, a), Object.fromEntries(results.map((n) => [n, joined(alone, n, 0)])), `${op} batched`);

        // Ragged: the first sequence is cut short, and one is empty.
        const ends = Array.from({ length: B }, (_, b) => (b === 0 ? Math.max(0, L - K) : L));
        const ragged = ends.map((to, b) => inTime(sample, sequence(sample, a, b), 0, to));
        const empty = { ...ragged[0]!, ...inTime(sample, ragged[0]!, 0, 0) };
        const all = [...ragged, empty];
        const rows = perToken(sample, a);
        const packed = Object.fromEntries(rows.map((n) => [n, joined(all as unknown as Outputs[], n, 1)]));
        const cuSeqlens = Int32Array.from(all, () => 0);
        const bounds = Int32Array.of(0, ...cuSeqlens);
        for (const [s, one] of all.entries()) bounds[s + 1] = bounds[s]! + one[rows[0]!].shape[1];
        const state = initialState(sample, (part) => together(all.map(part), 0));
        const separate = all.map((one) => callSync(op, one));
        const expected = Object.fromEntries(results.map((n) => [n, joined(separate, n, n === 'y' ? 1 : 0)]));
        expectSame(callSync(op, { ...a, ...packed, ...state, cuSeqlens: bounds }), expected, `${op} packed`);
      });
    });
  }
}

onEveryBackend(() => {
  for (const [op, sample] of Object.entries(samples))
    describe.runIf(needs(hasKernel(op), `a backend with a kernel of ${op}`))(op, () => suite(op as OpName, sample));
});

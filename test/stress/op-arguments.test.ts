/**
 * Every op with arguments of every kind: what comes back is tensors of finite shapes, or a StatespaceError. 100,000 calls
 * in check:full.
 */
import fc from 'fast-check';
import { StatespaceError, Tensor } from 'statespace';
import { afterAll, describe, expect, test } from 'vitest';
import { callAsync, callSync, type OpName, opNames } from '../conformance/check.js';
import { Random } from '../conformance/random.js';
import { samples } from '../conformance/samples.js';
import { amount } from '../support/scale.js';

const calls = Math.ceil(amount(3000, 100_000) / opNames.length);
const codes = /^ERR_(SHAPE|DTYPE|ARGUMENT|OUT_OF_MEMORY)$/;

const dims = fc.record({
  B: fc.integer({ min: 0, max: 3 }),
  L: fc.integer({ min: 0, max: 70 }),
  G: fc.integer({ min: 1, max: 3 }),
  R: fc.integer({ min: 1, max: 3 }),
  P: fc.integer({ min: 1, max: 9 }),
  N: fc.integer({ min: 1, max: 17 }),
  K: fc.integer({ min: 1, max: 6 }),
});

/** Values that break arithmetic. */
const values = fc.constantFrom(0, -0, 1, -1, 1e-40, 3e38, -3e38, Infinity, -Infinity, Number.NaN, 88.8, -104);
const size = fc.oneof(fc.integer({ min: 0, max: 6 }), fc.constantFrom(-1, 0.5, 2 ** 31, 2 ** 53, Number.NaN));
const shape = fc.array(
  fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max: 6 }) }, { weight: 1, arbitrary: size }),
  {
    maxLength: 6,
  },
);
const arrays = [Float32Array, Int32Array, Uint16Array, Uint8Array, Float64Array, Array] as const;
const fits = (s: readonly number[]) => {
  const n = s.reduce((product, axis) => product * axis, 1);
  return Number.isInteger(n) && n >= 0 && n < 50_000 ? n : 3;
};

/** A tensor of any shape and type; mostly one that holds together. */
const anyTensor = fc
  .record({
    shape,
    array: fc.constantFrom(...arrays),
    value: values,
    extra: fc.constantFrom(0, 0, 0, 0, 1, -1),
    dtype: fc.constantFrom(undefined, undefined, 'f32', 'f16', 'bf16', 'i32', 'q8_0', 'q4_0', 'f64', '', 7, null),
  })
  .map(({ shape, array, value, extra, dtype }) => ({
    data: new array(Math.max(0, fits(shape) + extra)).fill(value as never),
    shape,
    ...(dtype !== undefined && { dtype }),
  }));

const anything = fc.oneof(
  { weight: 4, arbitrary: anyTensor },
  {
    weight: 3,
    arbitrary: fc.constantFrom(-1, 0, 1, 2, 7, 1.5, 1e-3, 2 ** 40, 2 ** 53, Number.NaN, Infinity, -Infinity),
  },
  { weight: 2, arbitrary: fc.constantFrom(undefined, null, true, false, '', 'silu', 'zoh', 'x', '__proto__') },
  {
    weight: 1,
    arbitrary: fc.constantFrom<unknown>([], {}, [1], { shape: [1] }, { data: 1, shape: 'x' }, 5n, Symbol('s'), () => 1),
  },
  { weight: 1, arbitrary: fc.object({ maxDepth: 2 }) },
);

interface Change {
  at: number;
  how: 'replace' | 'values' | 'remove' | 'add';
  value: unknown;
  special: number;
}
const changes = fc.array(
  fc.record<Change>({
    at: fc.nat(30),
    how: fc.constantFrom('replace', 'replace', 'values', 'values', 'remove', 'add'),
    value: anything,
    special: values,
  }),
  { maxLength: 4 },
);

function spoil(args: Record<string, unknown>, list: readonly Change[]): Record<string, unknown> {
  const out = { ...args };
  for (const { at, how, value, special } of list) {
    const names = Object.keys(out);
    const name = names[at % Math.max(1, names.length)];
    if (how === 'add') out[`extra${at}`] = value;
    else if (name === undefined) continue;
    else if (how === 'remove') delete out[name];
    else if (how === 'replace') out[name] = value;
    else {
      const tensor = out[name] as { data?: unknown; shape?: readonly number[] } | undefined;
      if (!(tensor?.data instanceof Float32Array)) continue;
      const data = tensor.data.slice();
      for (let i = at % 3; i < data.length; i += 1 + (at % 5)) data[i] = special;
      out[name] = { ...tensor, data };
    }
  }
  return out;
}

let succeeded = 0;
let refused = 0;

function accept(outputs: unknown): void {
  succeeded++;
  for (const [name, t] of Object.entries(outputs as Record<string, unknown>)) {
    expect(t, name).toBeInstanceOf(Tensor);
    const { data, shape } = t as Tensor;
    expect(data.length).toBe(shape.reduce((n, axis) => n * axis, 1));
  }
}
function refuse(op: OpName, error: unknown): void {
  if (!(error instanceof StatespaceError) || !codes.test(error.code)) throw error;
  expect(error.message).toMatch(new RegExp(`^(${op}|Tensor)\\b`));
  refused++;
}

describe.each(opNames)('%s', (op) => {
  test('returns tensors or a typed error', { timeout: 30 * 60_000 }, async () => {
    const property = fc.asyncProperty(dims, fc.nat(), changes, fc.boolean(), async (d, seed, list, sync) => {
      const args = spoil(samples[op].args(new Random(seed), d), list);
      try {
        accept(sync ? callSync(op, args) : await callAsync(op, args));
      } catch (error) {
        refuse(op, error);
      }
    });
    await fc.assert(property, { numRuns: calls, interruptAfterTimeLimit: 25 * 60_000, markInterruptAsFailure: true });
  });
});

afterAll(() => {
  // Neither side may be empty: the changes must leave valid calls, and spoil others.
  expect(succeeded).toBeGreaterThan(calls);
  expect(refused).toBeGreaterThan(calls);
});

import { describe, expect, test } from 'vitest';
import { expectClose, kernelCase, kernelNames, modelCase, modelNames, relativeL2 } from './golden.js';

describe('the golden corpus', () => {
  test('holds kernel cases of the manifest’s 29 ops and more, each with outputs and tolerances', () => {
    const cases = kernelNames().map(kernelCase);
    expect(cases.length).toBeGreaterThanOrEqual(164);
    expect(new Set(cases.map((c) => c.op)).size).toBeGreaterThanOrEqual(29);
    for (const c of cases) {
      expect(c.name).toMatch(/^(seed-C\/)?\w+__\w+$/);
      expect(Object.keys(c.outputs).length).toBeGreaterThan(0);
      for (const output of Object.keys(c.outputs)) expect(c.tolerance(output).atol).toBeGreaterThan(0);
      for (const { data, shape } of [...Object.values(c.inputs), ...Object.values(c.outputs)]) {
        expect(data.length).toBe(shape.reduce((a, b) => a * b, 1));
      }
    }
  });

  test('parses flags, infinity among them', () => {
    expect(kernelCase('ssd__n1').flags.dt_limit).toEqual([0, Infinity]);
    expect(kernelCase('selective_scan__complex_var').metadata.complex).toEqual(['in.A', 'out.last_state']);
  });

  test('holds 39 models and more with expected logits or outputs', () => {
    expect(modelNames().length).toBeGreaterThanOrEqual(39);
    const mamba = modelCase('mamba_hf');
    expect(mamba.expected.logits!.shape.slice(0, 2)).toEqual(mamba.expected.input_ids!.shape);
    expect(mamba.expected.input_ids!.data).toBeInstanceOf(Int32Array);
    expect(mamba.tolerance.atol).toBeGreaterThanOrEqual(1e-3);
  });
});

describe('expectClose', () => {
  const within = { atol: 0.1, rtol: 0.01 };

  test('accepts what is within the bound, infinities and NaNs where they are expected', () => {
    expectClose([1.05, Infinity, NaN, 1000], [1, Infinity, NaN, 1010], within);
  });

  test.each([
    ['a value off', [1, 2.5, 2.2], [1, 2, 2], /2 of 3 .*worst at 1: expected 2, received 2.5/],
    ['a NaN', [NaN], [0], /worst at 0: expected 0, received NaN/],
    ['a missing NaN', [0], [NaN], /expected NaN/],
    ['an infinity of the wrong sign', [-Infinity], [Infinity], /Infinity/],
    ['a missing value', [1], [1, 2], /expected 2 values, received 1/],
  ])('names the worst of %s', (_, actual, expected, message) => {
    expect(() => expectClose(actual, expected, within)).toThrow(message);
  });

  test('relativeL2 is zero for equals and one for zeros', () => {
    expect(relativeL2([3, 4], [3, 4])).toBe(0);
    expect(relativeL2([0, 0], [3, 4])).toBe(1);
  });
});

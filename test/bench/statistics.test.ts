import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crossover, fitPower, median, quantile, studentT975, summarise } from '../../dist/bench/statistics.js';

const lengths = [512, 1024, 2048, 4096, 8192];

describe('median and spread', () => {
  it('interpolates between order statistics', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(quantile([1, 2, 3, 4, 5], 0.25)).toBe(2);
    expect(() => median([])).toThrow(RangeError);
  });

  it('gives quartiles from five samples on and the range below', () => {
    expect(summarise([5, 1, 4, 2, 3]).spread).toEqual({ kind: 'quartiles', low: 2, high: 4 });
    expect(summarise([5, 1, 4]).spread).toEqual({ kind: 'range', low: 1, high: 5 });
  });

  it('brackets the median', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 1e-9, max: 1e3, noNaN: true }), { minLength: 1 }), (values) => {
        const { median: centre, spread } = summarise(values);
        expect(spread.low).toBeLessThanOrEqual(centre);
        expect(spread.high).toBeGreaterThanOrEqual(centre);
      }),
    );
  });
});

describe('fitted exponent', () => {
  it.each([0, 0.5, 1, 2, 3])('is exact for N^%s', (power) => {
    const fit = fitPower(
      lengths,
      lengths.map((n) => 7e-9 * n ** power),
    )!;
    expect(fit.exponent).toBeCloseTo(power, 10);
    expect(fit.factor).toBeCloseTo(7e-9, 15);
    expect(fit.interval!.high - fit.interval!.low).toBeLessThan(1e-6);
  });

  it('has no interval for two points, and no fit for one length or a zero', () => {
    expect(fitPower([1, 2], [1, 4])!.interval).toBeNull();
    expect(fitPower([8, 8], [1, 2])).toBeNull();
    expect(fitPower([1, 2, 3], [1, 0, 3])).toBeNull();
  });

  it('has the published interval for a worked example', () => {
    // log2 y = 0, 1, 1, 3 over log2 x = 0, 1, 2, 3: slope 0.9, residual sum 0.7, standard error sqrt(0.35 / 5).
    const fit = fitPower([1, 2, 4, 8], [1, 2, 2, 8])!;
    expect(fit.exponent).toBeCloseTo(0.9, 10);
    expect(fit.interval!.high - fit.exponent).toBeCloseTo(4.3027 * Math.sqrt(0.35 / 5), 4);
  });

  it('covers the true exponent in about 95 of 100 noisy series', () => {
    let seed = 12345;
    const uniform = () => {
      seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
      return ((seed >>> 0) + 0.5) / 2 ** 32;
    };
    const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
    const trials = 4000;
    let covered = 0;
    for (let trial = 0; trial < trials; trial++) {
      const { interval } = fitPower(
        lengths,
        lengths.map((n) => 1e-8 * n ** 1.7 * Math.exp(0.1 * normal())),
      )!;
      if (interval!.low <= 1.7 && interval!.high >= 1.7) covered++;
    }
    expect(covered / trials).toBeGreaterThan(0.935);
    expect(covered / trials).toBeLessThan(0.965);
  });

  it('uses Student quantiles as tables have them', () => {
    for (const [df, t] of [
      [1, 12.7062],
      [4, 2.7764],
      [12, 2.1788],
      [20, 2.086],
      [60, 2.0003],
    ] as const) {
      expect(studentT975(df)).toBeCloseTo(t, 3);
    }
    expect(() => studentT975(0)).toThrow(RangeError);
  });
});

describe('crossover', () => {
  const attention = lengths.map((n) => 1e-9 * n ** 2);

  it('finds where two power laws meet between measured lengths', () => {
    const found = crossover(
      lengths,
      attention,
      lengths.map((n) => 3000e-9 * n),
    );
    expect(found).toMatchObject({ kind: 'measured', between: [2048, 4096] });
    expect((found as { length: number }).length).toBeCloseTo(3000, 6);
  });

  it.each([
    [100, 512],
    [50_000, 8192],
  ])('marks a meeting at %d as extrapolated', (meeting, beyond) => {
    const found = crossover(
      lengths,
      attention,
      lengths.map((n) => meeting * 1e-9 * n),
    );
    expect(found).toMatchObject({ kind: 'extrapolated', beyond });
    expect((found as { length: number }).length / meeting).toBeCloseTo(1, 9);
  });

  it('does not extend a line to where nobody measured anything', () => {
    const far = lengths.map((n) => 8192 * 65 * 1e-9 * n);
    expect(crossover(lengths, attention, far)).toEqual({ kind: 'none', always: 'cheaper' });
  });

  it('takes the last of several', () => {
    expect(crossover([1, 2, 4, 8], [2, 0.5, 0.5, 2], [1, 1, 1, 1])).toMatchObject({ between: [4, 8] });
  });

  it('says so where there is none', () => {
    const flat = lengths.map(() => 1);
    expect(crossover(lengths, flat, flat)).toEqual({ kind: 'none', always: 'equal' });
    expect(
      crossover(
        lengths,
        flat,
        lengths.map(() => 2),
      ),
    ).toEqual({ kind: 'none', always: 'cheaper' });
    expect(
      crossover(
        lengths,
        flat.map(() => 3),
        flat,
      ),
    ).toEqual({ kind: 'none', always: 'costlier' });
  });

  it('is a crossing of the interpolated curves wherever it is measured', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0.1, max: 10, noNaN: true }), { minLength: 5, maxLength: 5 }), (costs) => {
        const found = crossover(
          lengths,
          costs,
          lengths.map(() => 1),
        );
        if (found.kind !== 'measured') return;
        const i = lengths.indexOf(found.between[0]);
        expect(lengths[i + 1]).toBe(found.between[1]);
        expect(found.length).toBeGreaterThanOrEqual(found.between[0] * (1 - 1e-9));
        expect(found.length).toBeLessThanOrEqual(found.between[1] * (1 + 1e-9));
        for (const cost of costs.slice(i + 1)) expect(cost).toBeGreaterThan(1);
      }),
    );
  });
});

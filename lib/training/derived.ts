import { StatespaceError } from '../errors.js';
import type { Terms, WeightSpec } from '../graph/weight-spec.js';

/** How a weight follows from its sources, laid end to end, as native code computes it and its gradient. */
export type Derived =
  | { readonly map: 'copy' }
  | { readonly map: 'constant'; readonly constants: Float32Array }
  | { readonly map: 'negativeExp' }
  | {
      readonly map: 'terms';
      /** Value i is the sum of the terms from starts[i] to starts[i + 1]. */
      readonly starts: Int32Array;
      /** Of each term: the value that is exponentiated, and two that are multiplied; -1: none. */
      readonly index: Int32Array;
      readonly factors: Float32Array;
    }
  | {
      readonly map: 'gather';
      /** Of each value: which of the sources' values it is, times a factor (none: 1), plus a constant (none: 0). */
      readonly index: Int32Array;
      readonly factors?: Float32Array;
      readonly constants?: Float32Array;
    };

const DIGIT = 4096; // products of one with a factor are exact in f32 for what factors there are

const near = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-5 * (1 + Math.abs(b));

/** Values in (0, 1) without a pattern. */
const scattered = (i: number): number => (Math.imul(i + 1, 0x9e3779b1) >>> 8) / 2 ** 24;

/** The terms of all values, as native code takes them. */
function flatTerms(terms: Terms, size: number): Derived {
  const starts = new Int32Array(size + 1);
  const [index, factors]: [number[], number[]] = [[], []];
  for (let i = 0; i < size; i++) {
    for (const { factor = 1, exp = -1, values: [a = -1, b = -1] = [] } of terms(i)) {
      index.push(exp, a, b);
      factors.push(factor);
    }
    starts[i + 1] = factors.length;
  }
  return { map: 'terms', starts, index: Int32Array.from(index), factors: Float32Array.from(factors) };
}

/**
 * What a weight's load-time arithmetic does, found out by what it makes of a few inputs: families say it once, as a
 * function. Sums of products say what they are (`terms`); of the others each value is one of the sources' values, times a factor and plus a constant (rows in another order, a head
 * repeated, 1 − mix), or −exp of the one in its place; anything else has no gradient here.
 */
export async function derivedOf(spec: WeightSpec, size: number): Promise<Derived> {
  const { sources, transform } = spec;
  if (spec.terms) return flatTerms(spec.terms, size);
  if (!transform) return { map: 'copy' };
  const sizes = sources.map((s) => s.span?.[1] ?? s.shape.reduce((a, b) => a * b, 1));
  const apply = async (value: (i: number) => number): Promise<Float32Array> => {
    let at = 0;
    const given = sizes.map((n) => {
      const first = at;
      at += n;
      return Float32Array.from({ length: n }, (_, i) => value(first + i));
    });
    return transform(given);
  };
  const constants = await apply(() => 0);
  if (sources.length === 0) return { map: 'constant', constants };
  const trial = await apply(scattered);
  const total = sizes.reduce((a, b) => a + b, 0);
  if (trial.length === total && trial.every((v, i) => near(v, -Math.exp(Math.fround(scattered(i))))))
    return { map: 'negativeExp' };
  const [ones, low, high] = [
    await apply(() => 1),
    await apply((i) => i % DIGIT),
    await apply((i) => Math.floor(i / DIGIT)),
  ];
  const factors = ones.map((v, i) => v - constants[i]!);
  const digit = (from: Float32Array, i: number) => Math.round((from[i]! - constants[i]!) / factors[i]!);
  const index = Int32Array.from(factors, (_, i) => digit(high, i) * DIGIT + digit(low, i));
  const fits = index.every(
    (at, i) => at >= 0 && at < total && near(trial[i]!, factors[i]! * Math.fround(scattered(at)) + constants[i]!),
  );
  if (!fits) {
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `training: what the model makes of ${sources.map((s) => s.name).join(', ')} has no gradient`,
    );
  }
  return {
    map: 'gather',
    index,
    factors: factors.every((f) => f === 1) ? undefined : factors,
    constants: constants.every((c) => c === 0) ? undefined : constants,
  };
}

import { StatespaceError } from '../errors.js';
import type { Terms, Transform, WeightSpec } from '../graph/weight-spec.js';
import { Turns } from '../turns.js';

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

/** Values between looks at the clock. */
const PIECE = 1 << 12;

/** Work on each of [0, count), in turns of the event loop. */
async function each(count: number, turns: Turns, work: (i: number) => void): Promise<void> {
  for (let from = 0; from < count; from += PIECE) {
    for (let i = from; i < Math.min(count, from + PIECE); i++) work(i);
    const pause = turns.due();
    if (pause) await pause;
  }
}

/** The terms of all values, as native code takes them. */
async function flatTerms(terms: Terms, size: number, turns: Turns): Promise<Derived> {
  const starts = new Int32Array(size + 1);
  const [index, factors]: [number[], number[]] = [[], []];
  await each(size, turns, (i) => {
    for (const { factor = 1, exp = -1, values: [a = -1, b = -1] = [] } of terms(i)) {
      index.push(exp, a, b);
      factors.push(factor);
    }
    starts[i + 1] = factors.length;
  });
  return { map: 'terms', starts, index: Int32Array.from(index), factors: Float32Array.from(factors) };
}

/** Weights that the same function makes of sources of the same sizes, as those of a network's layers, follow alike. */
export class Derivations {
  private readonly known = new Map<Transform, Map<string, Derived>>();
  private readonly turns = new Turns();

  async of(spec: WeightSpec, size: number): Promise<Derived> {
    const pause = this.turns.due();
    if (pause) await pause;
    const { sources, transform } = spec;
    if (spec.terms) return flatTerms(spec.terms, size, this.turns);
    if (!transform) return { map: 'copy' };
    const sizes = sources.map((s) => s.span?.[1] ?? s.shape.reduce((a, b) => a * b, 1));
    const alike = this.known.get(transform) ?? new Map<string, Derived>();
    this.known.set(transform, alike);
    const key = `${sizes}`;
    const derived = alike.get(key) ?? (await derivedOf(spec, transform, sizes, this.turns));
    alike.set(key, derived);
    return derived;
  }
}

/**
 * What a weight's load-time arithmetic does, found out by what it makes of a few inputs: families say it once, as a
 * function. Sums of products say what they are (`terms`); of the others each value is one of the sources' values, times a factor and plus a constant (rows in another order, a head
 * repeated, 1 − mix), or −exp of the one in its place; anything else has no gradient here.
 */
async function derivedOf(
  { sources }: WeightSpec,
  transform: Transform,
  sizes: readonly number[],
  turns: Turns,
): Promise<Derived> {
  const total = sizes.reduce((a, b) => a + b, 0);
  const apply = async (value: (i: number) => number): Promise<Float32Array> => {
    const all = new Float32Array(total);
    await each(total, turns, (i) => {
      all[i] = value(i);
    });
    let at = 0;
    const given = sizes.map((n) => {
      at += n;
      return all.slice(at - n, at);
    });
    const made = await transform(given);
    const pause = turns.due();
    if (pause) await pause;
    return made;
  };
  const constants = await apply(() => 0);
  if (sources.length === 0) return { map: 'constant', constants };
  const trial = await apply(scattered);
  const size = trial.length;
  let isNegativeExp = size === total;
  if (isNegativeExp)
    await each(size, turns, (i) => {
      isNegativeExp &&= near(trial[i]!, -Math.exp(Math.fround(scattered(i))));
    });
  if (isNegativeExp) return { map: 'negativeExp' };
  const [ones, low, high] = [
    await apply(() => 1),
    await apply((i) => i % DIGIT),
    await apply((i) => Math.floor(i / DIGIT)),
  ];
  const [factors, index] = [new Float32Array(size), new Int32Array(size)];
  let [fits, scaled, shifted] = [true, false, false];
  await each(size, turns, (i) => {
    const [factor, constant] = [Math.fround(ones[i]! - constants[i]!), constants[i]!];
    const digit = (from: Float32Array) => Math.round((from[i]! - constant) / factor);
    index[i] = digit(high) * DIGIT + digit(low); // 0 where it is a constant
    const at = index[i]!;
    fits &&= at >= 0 && at < total && near(trial[i]!, factor * Math.fround(scattered(at)) + constant);
    scaled ||= factor !== 1;
    shifted ||= constant !== 0;
    factors[i] = factor;
  });
  if (!fits) {
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `training: what the model makes of ${sources.map((s) => s.name).join(', ')} has no gradient`,
    );
  }
  return { map: 'gather', index, factors: scaled ? factors : undefined, constants: shifted ? constants : undefined };
}

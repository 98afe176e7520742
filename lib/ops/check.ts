import type { DType } from '../dtype.js';
import { mismatch, show } from '../errors.js';
import { checkKnown } from '../options.js';
import { bitsOf, checkTensor, pinned, same, type Tensor, type TensorLike } from '../tensor.js';
import { Outs } from './outs.js';

/** An axis as rules write it: a number, or `factor` times a symbol less `less`. */
interface Axis {
  symbol?: string | undefined;
  /** The symbol alone: an axis that binds it. */
  binds: boolean;
  factor: number;
  less: number;
}

const axes = new Map<string, Axis>();

/** Read once: calls of small ops took longer over their shapes than over their work. */
function axisOf(text: string): Axis {
  const known = axes.get(text);
  if (known) return known;
  const [, factor, symbol, less] = /^(?:(\d+)\*)?([A-Za-z]\w*)(?:-(\d+))?$/.exec(text) ?? [];
  const axis = {
    symbol,
    binds: symbol === text,
    factor: Number(symbol ? (factor ?? 1) : text),
    less: Number(less ?? 0),
  };
  axes.set(text, axis);
  return axis;
}

/** A checked input: nothing left to default. */
export interface Input {
  readonly data: Tensor['data'];
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/**
 * The sizes of one call's symbols. A symbol is bound by the first tensor that shows it and holds for all others; `...`
 * stands for any number of leading axes.
 */
export class Sizes {
  private readonly bound = new Map<string, number>();
  private leading: readonly number[] | undefined;

  constructor(
    readonly op: string,
    /** Where the caller wants results written to. */
    readonly outs = new Outs(op, {}),
  ) {}

  /** The size of a bound symbol. */
  of(symbol: string): number {
    const size = this.bound.get(symbol);
    if (size === undefined) throw new Error(`${this.op}: no argument has bound ${symbol}`);
    return size;
  }
  all<T extends readonly string[]>(...symbols: T): { -readonly [K in keyof T]: number } {
    return symbols.map((s) => this.of(s)) as { -readonly [K in keyof T]: number };
  }
  bind(symbol: string, size: number): void {
    this.bound.set(symbol, size);
  }

  /** What an axis must measure, where that is known: a number, a bound symbol, or 2*F or K-1 of one. */
  expected(axis: string): number | undefined {
    const { symbol, factor, less } = axisOf(axis);
    if (!symbol) return factor;
    const size = this.bound.get(symbol);
    return size === undefined ? undefined : factor * size - less;
  }

  /**
   * Whether `shape` has these axes; binds the symbols that it shows first. Loops, as calls for each axis and slices were a
   * tenth of what a call costs in JavaScript.
   */
  match(axes: readonly string[], shape: readonly number[]): boolean {
    const rest = axes[0] === '...';
    const skipped = rest ? 1 : 0;
    const leading = shape.length - (axes.length - skipped);
    if (rest ? leading < 0 : leading !== 0) return false;
    if (rest && this.leading && !same(this.leading, shape.slice(0, leading))) return false;
    for (let i = skipped; i < axes.length; i++) {
      const size = this.expected(axes[i]!);
      if (size !== undefined && size !== shape[leading + i - skipped]) return false;
    }
    if (rest) this.leading = shape.slice(0, leading);
    for (let i = skipped; i < axes.length; i++)
      if (axisOf(axes[i]!).binds) this.bind(axes[i]!, shape[leading + i - skipped]!);
    return true;
  }

  /** "(B=2, L=7, D)", as messages show what was expected. */
  describe(axes: readonly string[]): string {
    const parts = axes.map((axis) => {
      if (axis === '...') return this.leading?.join(', ') ?? '...';
      const size = this.expected(axis);
      return size === undefined || String(size) === axis ? axis : `${axis}=${size}`;
    });
    return `(${parts.filter((p) => p !== '').join(', ')})`;
  }
}

/** Reads one argument as the caller gave it (undefined when absent); `where` begins every message. */
export type Rule<T> = (value: unknown, where: string, sizes: Sizes) => T;
/** A rule for every argument of A, in the order in which they bind symbols. */
export type Rules<A> = { readonly [K in Exclude<keyof A, 'out'>]-?: Rule<unknown> };
export type Checked<R> = { [K in keyof R]: R[K] extends Rule<infer T> ? T : never };

/** Names that a call knows, `out` last. */
const known = new WeakMap<object, readonly string[]>();

function namesOf(rules: Record<string, unknown>): readonly string[] {
  let names = known.get(rules);
  if (!names) {
    names = [...Object.keys(rules), 'out'];
    known.set(rules, names);
  }
  return names;
}

/** Checks the arguments of one call: no unknown names (`out` is everybody's), then each by its rule. */
export function check<R extends Record<string, Rule<unknown>>>(
  op: string,
  args: unknown,
  rules: R,
): Checked<R> & { sizes: Sizes } {
  if (typeof args !== 'object' || args === null)
    throw mismatch('ERR_ARGUMENT', op, 'one object of named arguments', show(args));
  const names = namesOf(rules);
  checkKnown(op, args, names, 'argument');
  const sizes = new Sizes(op, new Outs(op, args));
  const checked: Record<string, unknown> = { sizes };
  for (let i = 0; i + 1 < names.length; i++) {
    const name = names[i]!;
    checked[name] = rules[name]!((args as Record<string, unknown>)[name], `${op}: ${name}`, sizes);
  }
  return checked as Checked<R> & { sizes: Sizes };
}

// Batches and times may be empty; every other axis has at least one entry.
const mayBeEmpty = new Set(['B', 'L', 'Lk', 'S', 'K-1']);

const floats: readonly DType[] = ['f32', 'f16', 'bf16'];
/** Types of the large matrices of models. */
export const weightTypes: readonly DType[] = [...floats, 'q8_0', 'q4_0'];

/** A tensor that must be given. `shape`: axis symbols, alternatives separated by " | ". */
export function tensor(shape: string, dtypes = floats): Rule<Input> {
  const shapes = shape.split(' | ').map((s) => s.split(' '));
  return (value, where, sizes) => {
    const wanted = () => `shape ${shapes.map((axes) => sizes.describe(axes)).join(' or ')}`;
    if (value === undefined || value === null) throw mismatch('ERR_ARGUMENT', where, `a tensor of ${wanted()}`, 'none');
    const given = value as TensorLike;
    const dtype = checkTensor(where, given);
    if (!dtypes.includes(dtype)) throw mismatch('ERR_DTYPE', where, dtypes.join(', '), dtype);
    const received = () => `(${given.shape.join(', ')})`;
    const axes = shapes.find((s) => sizes.match(s, given.shape));
    if (!axes) throw mismatch('ERR_SHAPE', where, wanted(), received());
    if (given.shape.includes(0)) {
      const own = axes[0] === '...' ? axes.slice(1) : axes;
      const empty = own.find((axis, i) => given.shape.at(i - own.length) === 0 && !mayBeEmpty.has(axis));
      if (empty) throw mismatch('ERR_SHAPE', where, `${empty} of at least 1`, received());
    }
    return { data: pinned(bitsOf(given.data)), shape: [...given.shape], dtype };
  };
}

/** A tensor that may be absent. */
export function optional(shape: string): Rule<Input | undefined> {
  const rule = tensor(shape);
  return (value, where, sizes) => (value === undefined || value === null ? undefined : rule(value, where, sizes));
}

export function flag(otherwise: boolean): Rule<boolean> {
  return (value = otherwise, where) => {
    if (typeof value !== 'boolean') throw mismatch('ERR_ARGUMENT', where, 'true or false', show(value));
    return value;
  };
}

/** One of these names; the first when absent. */
export function choice<T extends string>(...names: readonly T[]): Rule<T> {
  return (value = names[0], where) => {
    if (!names.includes(value as T))
      throw mismatch('ERR_ARGUMENT', where, names.map((n) => `'${n}'`).join(' or '), show(value));
    return value as T;
  };
}

/** A finite number that fits; `wanted` says in words which. Undefined without a default. */
export function number(wanted: string, fits: (n: number) => boolean): Rule<number | undefined>;
export function number(wanted: string, fits: (n: number) => boolean, otherwise: number): Rule<number>;
export function number(
  wanted: string,
  fits: (n: number) => boolean,
  otherwise?: number,
): Rule<number | undefined> | Rule<number> {
  return (value = otherwise, where) => {
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isFinite(value) || !fits(value))
      throw mismatch('ERR_ARGUMENT', where, wanted, show(value));
    return value;
  };
}

/** The same, but it must be given. */
export function required(rule: Rule<number | undefined>): Rule<number> {
  return (value, where, sizes) => {
    const n = rule(value, where, sizes);
    if (n === undefined) throw mismatch('ERR_ARGUMENT', where, 'a number', 'none');
    return n;
  };
}

const largest = 2 ** 31 - 1;

/** An integer from `least` to `most`. */
export function integer(least: number, otherwise?: undefined, most?: number): Rule<number | undefined>;
export function integer(least: number, otherwise: number, most?: number): Rule<number>;
export function integer(least: number, otherwise?: number, most = largest): Rule<number | undefined> | Rule<number> {
  const wanted = `an integer from ${least} to ${most}`;
  const fits = (n: number) => Number.isInteger(n) && n >= least && n <= most;
  return otherwise === undefined ? number(wanted, fits) : number(wanted, fits, otherwise);
}

/** What norms add below the root. */
export const epsilon: Rule<number> = number('a number of at least 0', (n) => n >= 0, 1e-5);

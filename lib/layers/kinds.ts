// What an option of a layer may be: a name that is none would be left out in silence, and a value that is none of its kind
// would be seen in some shape that follows from it.
import { mismatch, StatespaceError, show } from '../errors.js';
import { checkOptions } from '../options.js';

/** One option's values; `Needed` tells the compiler whether it may be absent. */
export interface Kind<Needed extends boolean = boolean> {
  readonly needed: Needed;
  /** In words. */
  readonly wanted: string;
  readonly fits: (value: unknown) => boolean;
  /** Of options that are options themselves. */
  readonly parts?: Kinds<never> | undefined;
}

type May<O, K extends keyof O> = Record<never, never> extends Pick<O, K> ? false : true;

/** A kind for every option of O, as needed as its type says. */
export type Kinds<O> = { readonly [K in keyof O]-?: Kind<May<O, K>> };

const kind = (wanted: string, fits: (value: unknown) => boolean): Kind<false> => ({ needed: false, wanted, fits });

/** The same, which must be given. */
export const needed = ({ wanted, fits, parts }: Kind): Kind<true> => ({ needed: true, wanted, fits, parts });

const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);
const isWithin = (value: unknown, from: number, to: number): boolean =>
  Number.isInteger(value) && (value as number) >= from && (value as number) <= to;
const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

const MOST = 2 ** 31 - 1;

export const integer = (from: number, to = MOST): Kind<false> =>
  kind(`an integer from ${from} to ${to}`, (value) => isWithin(value, from, to));
/** Of an axis. */
export const size = integer(1);
export const even = kind(
  `an even number from 2 to ${MOST}`,
  (value) => isWithin(value, 2, MOST) && (value as number) % 2 === 0,
);
export const finite = kind('a finite number', isNumber);
export const positive = kind('a number above 0', (value) => isNumber(value) && value > 0);
export const notNegative = kind('a number of at least 0', (value) => isNumber(value) && value >= 0);
/** Of a norm. */
export const eps = needed(notNegative);
export const flag = kind('true or false', (value) => typeof value === 'boolean');
export const name = kind('a name', (value) => typeof value === 'string');
export const names = kind('an array of names', (v) => Array.isArray(v) && v.every((x) => typeof x === 'string'));
export const numbers = (count: number): Kind<false> =>
  kind(`${count} numbers`, (v) => Array.isArray(v) && v.length === count && v.every(isNumber));
export const value = kind('a value of this graph', (v) => isObject(v) && 'dims' in v);
export const object = kind('an object', isObject);
export const twoSizes = kind(
  `two integers from 1 to ${MOST}`,
  (v) => Array.isArray(v) && v.length === 2 && v.every((x) => isWithin(x, 1, MOST)),
);
export const bounds = kind(
  'two numbers [low, high]',
  (v) => Array.isArray(v) && v.length === 2 && typeof v[0] === 'number' && v[0] <= v[1],
);

export function oneOf(...known: readonly (string | number)[]): Kind<false> {
  const shown = known.map((x) => (typeof x === 'string' ? `'${x}'` : String(x)));
  return kind(`${shown.slice(0, -1).join(', ')} or ${shown.at(-1)}`, (v) => known.includes(v as string));
}

/** Options in an option. */
export const nested = <O>(parts: Kinds<NonNullable<O>>): Kind<false> => ({ ...object, parts: parts as Kinds<never> });

/** ERR_SHAPE where `count` does not divide what it is to divide; both with their names. */
export function checkDivides(where: string, [what, count]: [string, number], [whole, of]: [string, number]): void {
  if (of % count !== 0)
    throw new StatespaceError('ERR_SHAPE', `${where}: ${whole} ${of} is no multiple of ${what} ${count}`);
}

type Table = Readonly<Record<string, Kind>>;

/**
 * ERR_ARGUMENT for an option that is unknown, absent where it is needed, or no such value. Names come first: one that is
 * misspelt is absent as well.
 */
export function checkKinds(where: string, options: unknown, kinds: Table): void {
  checkNames(where, options, kinds);
  checkValues(where, options, kinds);
}

function checkNames(where: string, options: unknown, kinds: Table): void {
  checkOptions(where, options, Object.keys(kinds));
  for (const [key, { parts }] of Object.entries(kinds)) {
    const given = (options as Record<string, unknown>)[key];
    if (parts && isObject(given)) checkNames(`${where}: ${key}`, given, parts as Table);
  }
}

function checkValues(where: string, options: unknown, kinds: Table): void {
  for (const [key, { needed, wanted, fits, parts }] of Object.entries(kinds)) {
    const given = (options as Record<string, unknown>)[key];
    if (given === undefined && !needed) continue;
    if (!fits(given)) throw mismatch('ERR_ARGUMENT', `${where}: ${key}`, wanted, show(given));
    if (parts) checkValues(`${where}: ${key}`, given, parts as Table);
  }
}

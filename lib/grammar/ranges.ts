/**
 * Numbers between two bounds, digit by digit. (The grammar engine's own converter of schemas, web-xgrammar 0.1.27, lets
 * 121 through where the maximum is 120, and 1.99 where it is 1.)
 */
import { choice, repeated, sequence } from './ebnf.js';

/** Digits of the largest number that is written where there is no bound: all of them are exact in doubles. */
const DIGITS = 15;
const FRACTION = `[0-9]{0,${DIGITS}}`;

export interface Bound {
  value: number;
  exclusive: boolean;
}

/** Whole numbers, written plainly; undefined where there is none. */
export function integersBetween(low: Bound | undefined, high: Bound | undefined): string | undefined {
  const limit = 10 ** DIGITS - 1;
  const least = low ? (low.exclusive ? Math.floor(low.value) + 1 : Math.ceil(low.value)) : -limit;
  const most = high ? (high.exclusive ? Math.ceil(high.value) - 1 : Math.floor(high.value)) : limit;
  const [from, to] = [Math.max(least, -limit), Math.min(most, limit)];
  if (from > to) return undefined;
  const parts: string[] = [];
  if (from < 0) parts.push(sequence(['"-"', naturals(Math.max(1, -to), -from)]));
  if (to >= 0) parts.push(naturals(Math.max(0, from), to));
  return choice(parts);
}

/** From a to b, both not negative: one alternative for each number of digits. */
function naturals(a: number, b: number): string {
  const parts: string[] = [];
  for (let digits = `${a}`.length; digits <= `${b}`.length; digits++) {
    const from = Math.max(a, digits === 1 ? 0 : 10 ** (digits - 1));
    const to = Math.min(b, 10 ** digits - 1);
    parts.push(sameLength(`${from}`, `${to}`));
  }
  return choice(parts);
}

function sameLength(a: string, b: string): string {
  if (a === '') return '""';
  const [first, last] = [Number(a[0]), Number(b[0])];
  const rest = a.length - 1;
  const any = repeated('[0-9]', rest, rest);
  if (/^0*$/.test(a.slice(1)) && /^9*$/.test(b.slice(1))) return sequence([digit(first, last), any]);
  if (first === last) return sequence([digit(first, last), sameLength(a.slice(1), b.slice(1))]);
  const parts = [sequence([digit(first, first), sameLength(a.slice(1), '9'.repeat(rest))])];
  if (last - first > 1) parts.push(sequence([digit(first + 1, last - 1), any]));
  parts.push(sequence([digit(last, last), sameLength('0'.repeat(rest), b.slice(1))]));
  return choice(parts);
}

const digit = (from: number, to: number): string => (from === to ? `"${from}"` : `[${from}-${to}]`);

/** Numbers with or without a fraction, no exponent; undefined where there is none. */
export function numbersBetween(low: Bound | undefined, high: Bound | undefined): string | undefined {
  const limit = 10 ** DIGITS - 1;
  const [a, b] = [low ?? { value: -limit, exclusive: false }, high ?? { value: limit, exclusive: false }];
  const parts: string[] = [];
  const zero: Bound = { value: 0, exclusive: true };
  const negated = ({ value, exclusive }: Bound): Bound => ({ value: -value, exclusive });
  if (a.value < 0) {
    const negative = positives(b.value < 0 ? negated(b) : zero, negated(a));
    if (negative) parts.push(sequence(['"-"', negative]));
  }
  if (b.value >= 0) {
    const positive = positives(a.value < 0 ? { value: 0, exclusive: false } : a, b);
    if (positive) parts.push(positive);
  }
  return parts.length > 0 ? choice(parts) : undefined;
}

/** From a to b, both not negative: by the whole part, and at its ends by the fraction. */
function positives(a: Bound, b: Bound): string | undefined {
  if (a.value > b.value || (a.value === b.value && (a.exclusive || b.exclusive))) return undefined;
  const [low, high] = [parted(a.value), parted(b.value)];
  const parts: string[] = [];
  const add = (whole: string, fraction: string | undefined) => {
    if (fraction !== undefined) parts.push(sequence([whole, fraction]));
  };
  if (low.whole === high.whole) {
    add(`"${low.whole}"`, fractions({ ...a, digits: low.fraction }, { ...b, digits: high.fraction }));
  } else {
    add(`"${low.whole}"`, fractions({ ...a, digits: low.fraction }, undefined));
    if (high.whole - low.whole > 1)
      add(naturals(low.whole + 1, high.whole - 1), choice(['""', `"." [0-9] ${FRACTION}`]));
    add(`"${high.whole}"`, fractions(undefined, { ...b, digits: high.fraction }));
  }
  return parts.length > 0 ? choice(parts) : undefined;
}

interface FractionBound {
  /** After the point, without zeros at the end. */
  digits: string;
  exclusive: boolean;
}

function parted(value: number): { whole: number; fraction: string } {
  const [whole, fraction = ''] = plain(value).split('.');
  return { whole: Number(whole), fraction: fraction.replace(/0+$/, '') };
}

/** Without an exponent. */
const plain = (value: number): string => {
  const text = `${value}`;
  return text.includes('e') ? value.toFixed(20) : text;
};

/** The point and what follows, or nothing, so that the fraction lies between. */
function fractions(low: FractionBound | undefined, high: FractionBound | undefined): string | undefined {
  const parts: string[] = [];
  const zeroFits = (!low || (low.digits === '' && !low.exclusive)) && (high?.digits !== '' || !high.exclusive);
  if (zeroFits) parts.push('""');
  const digits = digitsBetween(low, high, true);
  if (digits !== undefined) parts.push(`"." ${digits}`);
  return parts.length > 0 ? choice(parts) : undefined;
}

/** Digits of a fraction; `first`: at least one. */
function digitsBetween(
  low: FractionBound | undefined,
  high: FractionBound | undefined,
  first = false,
): string | undefined {
  if (!low && !high) return first ? `[0-9] ${FRACTION}` : FRACTION;
  const parts: string[] = [];
  const lowDone = !low || low.digits === '';
  // It may end here: all digits to come count as zeros.
  const endsAbove = !low || (lowDone && !low.exclusive);
  const endsBelow = high?.digits !== '' || !high.exclusive;
  if (!first && endsAbove && endsBelow) parts.push('""');
  const [from, to] = [Number(low?.digits[0] ?? 0), Number(high?.digits[0] ?? 0)];
  const begin = low ? from : 0;
  const end = high ? to : 9;
  const after = (bound: FractionBound | undefined, at: number, d: number) =>
    bound && at === d ? { ...bound, digits: bound.digits.slice(1) } : undefined;
  const depth = Math.max(low?.digits.length ?? 0, high?.digits.length ?? 0);
  for (let d = begin; d <= end; d++) {
    const [l, h] = [after(low, from, d), after(high, to, d)];
    // Behind the digits of both bounds the same question comes again and again: zeros, then what is clear.
    const rest = depth === 0 && d === 0 && (l || h) ? tail(l, h) : digitsBetween(l, h);
    if (rest !== undefined) parts.push(sequence([digit(d, d), rest]));
  }
  return parts.length > 0 ? choice(parts) : undefined;
}

/** After all digits of the bounds that still matter, and a zero. */
function tail(low: FractionBound | undefined, high: FractionBound | undefined): string | undefined {
  if (high) return low?.exclusive || high.exclusive ? undefined : `"0"{0,${DIGITS}}`;
  return low!.exclusive ? `"0"{0,${DIGITS}} [1-9] ${FRACTION}` : FRACTION;
}

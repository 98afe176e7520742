// Python's operators.
import { formatPercent } from './format.js';
import { escapeHtml, str } from './text.js';
import {
  characters,
  compare,
  Dict,
  equal,
  Float,
  integer,
  isInt,
  isNumber,
  isText,
  iterate,
  Lazy,
  Markup,
  NONE,
  numberOf,
  Range,
  TemplateError,
  Tuple,
  textOf,
  typeName,
  Undefined,
  type Value,
} from './values.js';

/** Of what a template repeats. */
const maxLength = 10_000_000;
const big = (value: boolean | number | bigint): bigint => BigInt(value);

export function binary(operator: string, a: Value, b: Value): Value {
  if (a instanceof Undefined) a.fail();
  if (b instanceof Undefined && !(operator === '%' && isText(a))) b.fail();
  if (isNumber(a) && isNumber(b)) return arithmetic(operator, a, b);
  if (operator === '+') {
    if (isText(a) && isText(b)) return joinTexts(a, b);
    if (Array.isArray(a) && Array.isArray(b)) return [...a, ...b];
    if (a instanceof Tuple && b instanceof Tuple) return new Tuple([...a.items, ...b.items]);
    if (isText(a)) throw new TemplateError(`can only concatenate str (not "${typeName(b)}") to str`);
    if (Array.isArray(a)) throw new TemplateError(`can only concatenate list (not "${typeName(b)}") to list`);
  }
  if (operator === '*' && isInt(b)) return repeat(a, Number(b));
  if (operator === '*' && isInt(a)) return repeat(b, Number(a));
  if (operator === '%' && isText(a)) return formatPercent(a, b);
  throw new TemplateError(`unsupported operand type(s) for ${operator}: '${typeName(a)}' and '${typeName(b)}'`);
}

/** Text beside text that needs no escaping is escaped. */
export function joinTexts(a: string | Markup, b: string | Markup): string | Markup {
  if (typeof a === 'string' && typeof b === 'string') return a + b;
  const safe = (v: string | Markup) => (typeof v === 'string' ? escapeHtml(v) : v.text);
  return new Markup(safe(a) + safe(b));
}

/** a ~ b: everything as text. Without autoescape, Markup is text like any other here. */
export const concat = (parts: readonly Value[]): string => parts.map(str).join('');

function repeat(value: Value, times: number): Value {
  const n = Math.max(0, times);
  const limit = (size: number) => {
    if (size * n > maxLength) throw new TemplateError(`a repetition of more than ${maxLength} items`);
  };
  if (isText(value)) {
    limit(textOf(value).length);
    const text = textOf(value).repeat(n);
    return typeof value === 'string' ? text : new Markup(text);
  }
  const items = Array.isArray(value) ? value : value instanceof Tuple ? value.items : undefined;
  if (!items) throw new TemplateError(`can't multiply sequence by non-int of type '${typeName(value)}'`);
  limit(items.length);
  const all = Array.from({ length: n }, () => items).flat();
  return Array.isArray(value) ? all : new Tuple(all);
}

function arithmetic(operator: string, a: boolean | number | bigint | Float, b: typeof a): Value {
  const whole = isInt(a) && isInt(b);
  const zero = numberOf(b) === 0;
  if (zero && ['/', '//', '%'].includes(operator)) throw new TemplateError('division by zero');
  const [x, y] = [numberOf(a), numberOf(b)];
  switch (operator) {
    case '+':
      return whole ? integer(big(a) + big(b)) : new Float(x + y);
    case '-':
      return whole ? integer(big(a) - big(b)) : new Float(x - y);
    case '*':
      return whole ? integer(big(a) * big(b)) : new Float(x * y);
    case '/':
      return new Float(x / y);
    case '//':
      return whole ? integer(floorDivide(big(a), big(b))) : new Float(Math.floor(x / y));
    case '%':
      if (whole) return integer(big(a) - floorDivide(big(a), big(b)) * big(b));
      return new Float(x - Math.floor(x / y) * y);
    case '**':
      return power(a, b, whole);
  }
  throw new TemplateError(`unknown operator ${operator}`);
}

function floorDivide(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  return a % b !== 0n && a < 0n !== b < 0n ? quotient - 1n : quotient;
}

function power(a: boolean | number | bigint | Float, b: typeof a, whole: boolean): Value {
  if (!whole || numberOf(b) < 0) return new Float(numberOf(a) ** numberOf(b));
  if (numberOf(b) * Math.log2(Math.abs(numberOf(a)) + 1) > 4096) throw new TemplateError('a power of too many digits');
  return integer(big(a as never) ** big(b as never));
}

export function unary(operator: '-' | '+', value: Value): Value {
  if (value instanceof Undefined) value.fail();
  if (!isNumber(value)) throw new TemplateError(`bad operand type for unary ${operator}: '${typeName(value)}'`);
  if (value instanceof Float) return new Float(operator === '-' ? -value.value : value.value);
  return integer(operator === '-' ? -big(value) : big(value));
}

export function comparison(operator: string, a: Value, b: Value): boolean {
  switch (operator) {
    case '==':
      return equal(a, b);
    case '!=':
      return !equal(a, b);
    case 'in':
      return contains(b, a);
    case 'not in':
      return !contains(b, a);
  }
  const order = compare(a, b, operator);
  switch (operator) {
    case '<':
      return order < 0;
    case '<=':
      return order <= 0;
    case '>':
      return order > 0;
    default:
      return order >= 0;
  }
}

export function contains(container: Value, item: Value): boolean {
  if (isText(container)) {
    if (!isText(item)) throw new TemplateError(`'in <string>' requires string as left operand, not ${typeName(item)}`);
    return textOf(container).includes(textOf(item));
  }
  if (container instanceof Dict) return container.has(item);
  for (const value of iterate(container)) if (equal(value, item)) return true;
  return false;
}

export interface Slice {
  start: Value;
  stop: Value;
  step: Value;
}

/** a[start:stop:step] */
export function slice(value: Value, { start, stop, step }: Slice): Value {
  if (value instanceof Undefined) value.fail();
  if (isText(value)) {
    const text = pick(characters(textOf(value)), start, stop, step).join('');
    return typeof value === 'string' ? text : new Markup(text);
  }
  if (Array.isArray(value)) return pick(value, start, stop, step);
  if (value instanceof Tuple) return new Tuple(pick(value.items, start, stop, step));
  if (value instanceof Range) return pick([...value], start, stop, step);
  if (value instanceof Lazy) throw new TemplateError(`'${typeName(value)}' object is not subscriptable`);
  return new Undefined(`'${typeName(value)} object' has no such element`);
}

function pick<T>(items: readonly T[], start: Value, stop: Value, step: Value): T[] {
  const by = step === NONE ? 1 : asIndex(step);
  if (by === 0) throw new TemplateError('slice step cannot be zero');
  const n = items.length;
  const bound = (value: Value, fallback: number): number => {
    if (value === NONE) return fallback;
    const i = asIndex(value);
    const from = i < 0 ? i + n : i;
    return by > 0 ? Math.min(Math.max(from, 0), n) : Math.min(Math.max(from, -1), n - 1);
  };
  const [from, to] = [bound(start, by > 0 ? 0 : n - 1), bound(stop, by > 0 ? n : -1)];
  const out: T[] = [];
  for (let i = from; by > 0 ? i < to : i > to; i += by) out.push(items[i]!);
  return out;
}

function asIndex(value: Value): number {
  if (!isInt(value)) throw new TemplateError('slice indices must be integers or None');
  return Number(value);
}

// Jinja's filters that make numbers, as Python rounds and reads them.
import type { Bound } from './arguments.js';
import { stripText } from './methods.js';
import { str } from './text.js';
import {
  Float,
  integer,
  isInt,
  isNumber,
  isText,
  numberOf,
  TemplateError,
  textOf,
  typeName,
  type Value,
} from './values.js';

export function round(value: Value, a: Bound): Value {
  const precision = a.int(0, 'precision', 0);
  const method = a.text(1, 'method', 'common');
  if (!['common', 'ceil', 'floor'].includes(method))
    throw new TemplateError('round: method must be common, ceil or floor');
  if (!isNumber(value)) throw new TemplateError(`round: expected a number, received ${typeName(value)}`);
  const x = numberOf(value);
  if (method === 'common') {
    if (isInt(value)) return precision >= 0 ? Number(value) : Number(value) - (Number(value) % 10 ** -precision);
    return new Float(halfEven(x, precision));
  }
  const scale = 10 ** precision;
  return new Float((method === 'ceil' ? Math.ceil(x * scale) : Math.floor(x * scale)) / scale);
}

/** Python's round(): the exact binary value decides, and a tie goes to the even digit. */
function halfEven(x: number, precision: number): number {
  if (!Number.isFinite(x)) return x;
  if (precision < 0) return Math.round(x / 10 ** -precision) * 10 ** -precision;
  const text = x.toFixed(Math.min(100, precision + 30));
  const cut = text.length - (Math.min(100, precision + 30) - precision) - (precision === 0 ? 1 : 0);
  const tie =
    /^5?0*$/.test(text.slice(precision === 0 ? cut + 1 : cut)) && text[precision === 0 ? cut + 1 : cut] === '5';
  if (!tie) return Number(x.toFixed(Math.min(100, precision)));
  const down = text.slice(0, cut);
  const even = Number(down[down.length - 1]) % 2 === 0;
  return even ? Number(down) : Number(down) + (x < 0 ? -1 : 1) * 10 ** -precision;
}

export function toInt(value: Value, a: Bound): Value {
  const fallback = a.get(0, 'default') ?? 0;
  if (isInt(value)) return integer(BigInt(value));
  if (value instanceof Float) return Number.isFinite(value.value) ? integer(BigInt(Math.trunc(value.value))) : fallback;
  if (!isText(value)) return fallback;
  const text = stripText(textOf(value)).replace(/(?<=\d)_(?=\d)/g, '');
  const base = a.int(1, 'base', 10);
  const digits =
    base === 16
      ? text.replace(/^([+-]?)0x/i, '$1')
      : base === 8
        ? text.replace(/^([+-]?)0o/i, '$1')
        : base === 2
          ? text.replace(/^([+-]?)0b/i, '$1')
          : text;
  const allowed = new RegExp(`^[+-]?[${'0123456789abcdefghijklmnopqrstuvwxyz'.slice(0, base)}]+$`, 'i');
  if (allowed.test(digits)) {
    const sign = digits.startsWith('-') ? -1n : 1n;
    let n = 0n;
    for (const c of digits.replace(/^[+-]/, '')) n = n * BigInt(base) + BigInt(Number.parseInt(c, base));
    return integer(sign * n);
  }
  const float = parseFloatText(text);
  return float === undefined || !Number.isFinite(float) ? fallback : integer(BigInt(Math.trunc(float)));
}

function parseFloatText(text: string): number | undefined {
  const t = stripText(text).toLowerCase();
  if (/^[+-]?(inf|infinity)$/.test(t)) return t.startsWith('-') ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  if (/^[+-]?nan$/.test(t)) return Number.NaN;
  return /^[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?$/.test(t) ? Number(t.replaceAll('_', '')) : undefined;
}

export function toFloat(value: Value, a: Bound): Value {
  if (isNumber(value)) return new Float(numberOf(value));
  const parsed = isText(value) ? parseFloatText(textOf(value)) : undefined;
  return parsed === undefined ? (a.get(0, 'default') ?? new Float(0)) : new Float(parsed);
}

export function filesize(value: Value, a: Bound): string {
  const bytes = isNumber(value) ? numberOf(value) : Number(str(value));
  const base = a.flag(0, 'binary', false) ? 1024 : 1000;
  const units = ['k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y'].map((u) => (base === 1024 ? `${u.toUpperCase()}iB` : `${u}B`));
  if (bytes === 1) return '1 Byte';
  if (bytes < base) return `${Math.trunc(bytes)} Bytes`;
  let power = 1;
  while (power < units.length && bytes >= base ** (power + 1)) power++;
  return `${(bytes / base ** power).toFixed(1)} ${units[power - 1]}`;
}

// Python's two ways of formatting: "%s" % x, and "{}".format(x) with its specifications.
import { escapeHtml, floatText, repr, str } from './text.js';
import {
  type Arguments,
  characters,
  Dict,
  Float,
  isInt,
  isNumber,
  Markup,
  numberOf,
  TemplateError,
  Tuple,
  textOf,
  typeName,
  Undefined,
  type Value,
} from './values.js';

/** Of one field. */
const maxWidth = 100_000;

interface Spec {
  fill: string;
  align: string;
  sign: string;
  alternate: boolean;
  width: number;
  comma: string;
  precision?: number;
  type: string;
}

export function formatPercent(format: string | Markup, args: Value): string | Markup {
  const values = args instanceof Tuple ? [...args.items] : [args];
  let used = 0;
  const next = (): Value => {
    if (used >= values.length) throw new TemplateError('not enough arguments for format string');
    return values[used++]!;
  };
  const safe = (value: Value, text: string) =>
    format instanceof Markup && !(value instanceof Markup) ? escapeHtml(text) : text;
  const pattern = /%(?:\(([^)]*)\))?([-+ #0]*)(\*|\d+)?(?:\.(\*|\d+))?[hlL]?([a-zA-Z%])?/g;
  const out = textOf(format).replace(pattern, (whole, key, flags: string, width, precision, type) => {
    if (type === '%') return '%';
    if (type === undefined) throw new TemplateError(`incomplete format ${JSON.stringify(whole)}`);
    const size = width === '*' ? Number(next()) : Number(width ?? 0);
    const digits = precision === '*' ? Number(next()) : precision === undefined ? undefined : Number(precision);
    let value: Value;
    if (key === undefined) value = next();
    else {
      if (!(args instanceof Dict)) throw new TemplateError('format requires a mapping');
      used = values.length;
      const found = args.get(key);
      if (found === undefined) throw new TemplateError(`format: no key ${JSON.stringify(key)}`);
      value = found;
    }
    const left = flags.includes('-');
    const numeric = 'diufFeEgGxXo'.includes(type);
    const spec: Spec = {
      fill: flags.includes('0') && !left && numeric ? '0' : ' ',
      align: left ? '<' : flags.includes('0') && numeric ? '=' : '>',
      sign: flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '-',
      alternate: flags.includes('#'),
      width: checkedWidth(size),
      comma: '',
      precision: digits,
      type: type === 'i' || type === 'u' ? 'd' : type,
    };
    if ('sra'.includes(type)) {
      const text = type === 's' ? str(value) : repr(value);
      return pad(safe(value, digits === undefined ? text : characters(text).slice(0, digits).join('')), spec);
    }
    if (type === 'c') return pad(isInt(value) ? String.fromCodePoint(Number(value)) : str(value), spec);
    if (!isNumber(value)) throw new TemplateError(`%${type} format: a real number is required, not ${typeName(value)}`);
    return formatNumber(spec.type === 'd' && value instanceof Float ? Math.trunc(value.value) : value, spec);
  });
  if (used < values.length && !(args instanceof Dict))
    throw new TemplateError('not all arguments converted during string formatting');
  return format instanceof Markup ? new Markup(out) : out;
}

/** "{0} {name!r:>8}".format(…); `attribute` and `item` follow dots and brackets. */
export function formatBraces(
  format: string,
  args: Arguments,
  follow: (value: Value, key: string, item: boolean) => Value,
): string {
  let automatic = 0;
  const field = (body: string): string => {
    const [, path = '', conversion, spec = ''] = /^([^!:]*)(?:!([rsa]))?(?::([\s\S]*))?$/.exec(body) ?? [];
    const [, head = '', rest = ''] = /^([^.[]*)([\s\S]*)$/.exec(path)!;
    let value =
      head === '' || /^\d+$/.test(head)
        ? args.positional[head === '' ? automatic++ : Number(head)]
        : args.named.get(head);
    if (value === undefined)
      throw new TemplateError(`format: no argument ${JSON.stringify(head === '' ? automatic - 1 : head)}`);
    for (const [, name, index] of rest.matchAll(/\.([^.[]+)|\[([^\]]+)\]/g))
      value = follow(value!, name ?? index!, name === undefined);
    const full = spec.replace(/\{([^{}]*)\}/g, (_, inner: string) => field(inner));
    return formatSpec(conversion === undefined ? value! : conversion === 's' ? str(value!) : repr(value!), full);
  };
  return format.replace(/\{\{|\}\}|\{((?:[^{}]|\{[^{}]*\})*)\}|[{}]/g, (whole, body: string | undefined) => {
    if (whole === '{{' || whole === '}}') return whole[0]!;
    if (body === undefined) throw new TemplateError(`format: single '${whole}' in ${JSON.stringify(format)}`);
    return field(body);
  });
}

/** format(value, spec) */
export function formatSpec(value: Value, text: string): string {
  if (value instanceof Undefined) return '';
  const found = /^(?:([\s\S])?([<>=^]))?([-+ ])?(z)?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([bcdeEfFgGnosxX%])?$/u.exec(text);
  if (!found) throw new TemplateError(`invalid format specifier ${JSON.stringify(text)}`);
  const [, fill, align, sign, , alternate, zero, width, comma = '', precision, type = ''] = found;
  const number = isNumber(value) && (text !== '' || typeof value !== 'boolean');
  const spec: Spec = {
    fill: fill ?? (zero ? '0' : ' '),
    align: align ?? (zero && number ? '=' : number ? '>' : '<'),
    sign: sign ?? '-',
    alternate: alternate !== undefined,
    width: checkedWidth(Number(width ?? 0)),
    comma,
    precision: precision === undefined ? undefined : Number(precision),
    type,
  };
  if (type === 's' && isNumber(value))
    throw new TemplateError(`unknown format code 's' for object of type '${typeName(value)}'`);
  if (number && isNumber(value)) return formatNumber(value, spec);
  if (type !== '' && type !== 's')
    throw new TemplateError(`unknown format code '${type}' for object of type '${typeName(value)}'`);
  const plain = str(value);
  return pad(spec.precision === undefined ? plain : characters(plain).slice(0, spec.precision).join(''), spec);
}

function checkedWidth(width: number): number {
  if (!(width <= maxWidth)) throw new TemplateError(`format: a width of at most ${maxWidth}, received ${width}`);
  return width;
}

function formatNumber(value: boolean | number | bigint | Float, spec: Spec): string {
  const negative = numberOf(value) < 0 || Object.is(numberOf(value), -0);
  const sign = negative ? '-' : spec.sign === '-' ? '' : spec.sign;
  return pad(digitsOf(value, spec), spec, sign);
}

/** Without a sign. */
function digitsOf(value: boolean | number | bigint | Float, spec: Spec): string {
  const { type, precision } = spec;
  const size = Math.abs(numberOf(value));
  const whole = isInt(value) ? String(BigInt(value)).replace('-', '') : '';
  switch (type) {
    case 'b':
    case 'o':
    case 'x':
    case 'X': {
      if (!isInt(value)) throw new TemplateError(`format code '${type}' needs an int, received a float`);
      const base = type === 'b' ? 2 : type === 'o' ? 8 : 16;
      const digits = BigInt(whole).toString(base);
      const marked = (spec.alternate ? `0${type.toLowerCase()}` : '') + digits;
      return type === 'X' ? marked.toUpperCase() : marked;
    }
    case 'c':
      return String.fromCodePoint(size);
    case 'd':
    case 'n':
      if (isInt(value)) return grouped(whole, spec.comma);
      if (type === 'd') throw new TemplateError("unknown format code 'd' for object of type 'float'");
      return general(size, 6, false);
    case '%':
      return `${fixed(size * 100, precision ?? 6)}%`;
    case 'f':
    case 'F':
      return grouped(fixed(size, precision ?? 6), spec.comma);
    case 'e':
    case 'E':
      return cased(exponential(size, precision ?? 6), type);
    case 'g':
    case 'G':
      return cased(general(size, precision ?? 6, spec.alternate), type);
  }
  if (isInt(value)) return grouped(whole, spec.comma);
  if (precision !== undefined) {
    const text = general(size, precision, false);
    return /[.e]|inf|nan/.test(text) ? text : `${text}.0`;
  }
  return grouped(floatText(size), spec.comma);
}

const cased = (text: string, type: string): string => (type < 'a' ? text.toUpperCase() : text);

function fixed(value: number, precision: number): string {
  if (!Number.isFinite(value)) return floatText(value);
  if (value < 1e21) return value.toFixed(Math.min(precision, 100));
  return String(BigInt(value)) + (precision > 0 ? `.${'0'.repeat(precision)}` : '');
}

function exponential(value: number, precision: number): string {
  if (!Number.isFinite(value)) return floatText(value);
  return value.toExponential(Math.min(precision, 100)).replace(/e([+-])(\d)$/, 'e$10$2');
}

function general(value: number, precision: number, keepZeros: boolean): string {
  if (!Number.isFinite(value)) return floatText(value);
  const digits = Math.max(1, precision);
  const exponent = value === 0 ? 0 : Number(value.toExponential(digits - 1).split('e')[1]);
  const strip = (text: string) => (keepZeros || !text.includes('.') ? text : text.replace(/\.?0+$/, ''));
  if (exponent >= -4 && exponent < digits) return strip(value.toFixed(Math.max(0, digits - 1 - exponent)));
  const [mantissa, power] = exponential(value, digits - 1).split('e') as [string, string];
  return `${strip(mantissa)}e${power}`;
}

function grouped(text: string, comma: string): string {
  if (comma === '') return text;
  const [, whole = '', rest = ''] = /^(\d+)([\s\S]*)$/.exec(text) ?? [];
  return whole.replace(/\B(?=(\d{3})+$)/g, comma) + rest;
}

function pad(text: string, { fill, align, width }: Spec, sign = ''): string {
  const missing = width - characters(text).length - sign.length;
  if (missing <= 0) return sign + text;
  if (align === '=') return sign + fill.repeat(missing) + text;
  if (align === '<') return sign + text + fill.repeat(missing);
  if (align === '^') return fill.repeat(Math.floor(missing / 2)) + sign + text + fill.repeat(Math.ceil(missing / 2));
  return fill.repeat(missing) + sign + text;
}

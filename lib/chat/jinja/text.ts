// How Python writes its values: str(), repr(), and json.dumps().
import {
  Callable,
  Dict,
  Float,
  iterate,
  Lazy,
  Markup,
  Namespace,
  NONE,
  Range,
  TemplateError,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.js';

/** str(value) */
export function str(value: Value): string {
  if (typeof value === 'string') return value;
  if (value instanceof Markup) return value.text;
  if (value instanceof Undefined) return '';
  return repr(value);
}

export function repr(value: Value): string {
  if (value === NONE) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  if (typeof value === 'string') return quoted(value);
  if (value instanceof Float) return floatText(value.value);
  if (value instanceof Markup) return `Markup(${quoted(value.text)})`;
  if (value instanceof Undefined) return 'Undefined';
  if (Array.isArray(value)) return `[${value.map(repr).join(', ')}]`;
  if (value instanceof Tuple) {
    return value.items.length === 1 ? `(${repr(value.items[0]!)},)` : `(${value.items.map(repr).join(', ')})`;
  }
  if (value instanceof Dict) {
    return `{${value
      .entries()
      .map(([k, v]) => `${repr(k)}: ${repr(v)}`)
      .join(', ')}}`;
  }
  if (value instanceof Range) {
    const { start, stop, step } = value;
    return step === 1 ? `range(${start}, ${stop})` : `range(${start}, ${stop}, ${step})`;
  }
  if (value instanceof Lazy) {
    return value.view ? `${value.view}([${[...iterate(value)].map(repr).join(', ')}])` : '<generator object>';
  }
  if (value instanceof Namespace) return `<Namespace ${repr(Dict.from(value.attributes))}>`;
  return value instanceof Callable ? `<${value.name}>` : String(value);
}

/** The shortest digits that mean the number, as repr(float) writes them. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (Object.is(value, -0)) return '-0.0';
  const [digits, exponent] = value.toExponential().split('e') as [string, string];
  const e = Number(exponent);
  if (value !== 0 && (e < -4 || e >= 16)) {
    return `${digits}e${e < 0 ? '-' : '+'}${String(Math.abs(e)).padStart(2, '0')}`;
  }
  const text = plainDigits(value, digits, e);
  return text.includes('.') ? text : `${text}.0`;
}

function plainDigits(value: number, digits: string, exponent: number): string {
  const text = String(value);
  if (!text.includes('e')) return text;
  const [sign, figures] = digits.startsWith('-') ? ['-', digits.slice(1)] : ['', digits];
  return `${sign}0.${'0'.repeat(-exponent - 1)}${figures.replace('.', '')}`; // JavaScript changes to exponents at 1e-7
}

const ESCAPES: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\' };

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let out = quote;
  for (const c of text) {
    const code = c.codePointAt(0)!;
    if (c === quote) out += `\\${c}`;
    else if (ESCAPES[c]) out += ESCAPES[c];
    else if (c === ' ' || !/[\p{C}\p{Z}]/u.test(c)) out += c;
    else if (code < 0x100) out += `\\x${code.toString(16).padStart(2, '0')}`;
    else if (code < 0x10000) out += `\\u${code.toString(16).padStart(4, '0')}`;
    else out += `\\U${code.toString(16).padStart(8, '0')}`;
  }
  return out + quote;
}

export interface JsonOptions {
  ensureAscii: boolean;
  indent?: string;
  separators?: readonly [item: string, key: string];
  sortKeys: boolean;
}

/** json.dumps(value) */
export function dumps(value: Value, options: JsonOptions): string {
  const indent = options.indent;
  const [comma, colon] = options.separators ?? [indent === undefined ? ', ' : ',', ': '];
  const write = (v: Value, depth: number): string => {
    if (v === NONE) return 'null';
    if (typeof v === 'boolean') return String(v);
    if (typeof v === 'number' || typeof v === 'bigint') return String(v);
    if (v instanceof Float) return jsonFloat(v.value);
    if (typeof v === 'string') return jsonText(v, options.ensureAscii);
    if (v instanceof Markup) return jsonText(v.text, options.ensureAscii);
    if (Array.isArray(v) || v instanceof Tuple)
      return enclosed(
        '[',
        [...iterate(v)].map((x) => write(x, depth + 1)),
        ']',
        depth,
      );
    if (v instanceof Dict) {
      const entries = v.entries().map(([k, x]) => [jsonKey(k), x] as const);
      if (options.sortKeys) entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
      return enclosed(
        '{',
        entries.map(([k, x]) => `${jsonText(k, options.ensureAscii)}${colon}${write(x, depth + 1)}`),
        '}',
        depth,
      );
    }
    throw new TemplateError(`tojson: Object of type ${typeName(v)} is not JSON serializable`);
  };
  const enclosed = (open: string, parts: string[], close: string, depth: number): string => {
    if (parts.length === 0) return open + close;
    if (indent === undefined) return open + parts.join(comma) + close;
    const inner = `\n${indent.repeat(depth + 1)}`;
    return `${open}${inner}${parts.join(comma + inner)}\n${indent.repeat(depth)}${close}`;
  };
  return write(value, 0);
}

function jsonFloat(value: number): string {
  if (Number.isFinite(value)) return floatText(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? 'Infinity' : '-Infinity';
}

function jsonKey(key: Value): string {
  if (typeof key === 'string') return key;
  if (key instanceof Markup) return key.text;
  if (key instanceof Float) return jsonFloat(key.value);
  if (key === NONE) return 'null';
  if (typeof key === 'boolean' || typeof key === 'number' || typeof key === 'bigint') return String(key);
  throw new TemplateError(`tojson: keys must be str, int, float, bool or None, not ${typeName(key)}`);
}

function jsonText(text: string, ascii: boolean): string {
  const plain = JSON.stringify(text).replace(/\\u[0-9a-f]{4}/g, (e) => {
    const code = Number.parseInt(e.slice(2), 16);
    return code >= 0xd800 && code <= 0xdfff && !ascii ? String.fromCharCode(code) : e; // a lone half stays itself
  });
  if (!ascii) return plain;
  return plain.replace(/[\u007f-\uffff]/g, (c) =>
    c === '\u007f' ? c : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Markup(text).escape(): what HTML must not hold. */
export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('>', '&gt;')
    .replaceAll('<', '&lt;')
    .replaceAll("'", '&#39;')
    .replaceAll('"', '&#34;');
}

/** Of what a template may fill a text up with. */
const maxWidth = 1_000_000;

/** A number of characters to fill up with, from 0 on. */
export function checkWidth(n: number): number {
  if (n > maxWidth) throw new TemplateError(`a width of at most ${maxWidth}`);
  return Math.max(0, n);
}

export const blanks = (n: number): string => ' '.repeat(checkWidth(n));

// The methods of str, list, tuple, dict and numbers that a template may call. What changes a list or dict in place is
// refused, as transformers' sandbox does.
import { formatBraces } from './format.js';
import { SPACE } from './lexer.js';
import { blanks, checkWidth, escapeHtml } from './text.js';
import {
  type Arguments,
  Callable,
  characters,
  Dict,
  equal,
  Float,
  isInt,
  isText,
  iterate,
  Lazy,
  Markup,
  NONE,
  TemplateError,
  Tuple,
  textOf,
  typeName,
  Undefined,
  type Value,
} from './values.js';

type Method = (self: string, args: Value[], call: Arguments, markup: boolean) => Value;
const MUTATING: Record<string, string[]> = {
  list: ['append', 'clear', 'extend', 'insert', 'pop', 'remove', 'reverse', 'sort'],
  dict: ['clear', 'pop', 'popitem', 'setdefault', 'update'],
};

/** A bound method, or undefined where the type has none of that name. */
export function methodOf(value: Value, name: string): Callable | Undefined | undefined {
  const type = typeName(value);
  if (name.startsWith('_') || MUTATING[type]?.includes(name)) {
    // As the sandbox does: undefined, which fails once it is used.
    return new Undefined(`access to attribute '${name}' of '${type}' object is unsafe.`);
  }
  if (isText(value)) {
    const method = Object.hasOwn(TEXT, name) ? TEXT[name] : undefined;
    if (!method) return undefined;
    const markup = value instanceof Markup;
    return new Callable(`built-in method ${name}`, (call) => {
      const args = markup ? call.positional.map((a) => (typeof a === 'string' ? escapeHtml(a) : a)) : call.positional;
      const result = method(textOf(value), args, call, markup);
      return markup ? marked(result) : result;
    });
  }
  const table = Array.isArray(value) || value instanceof Tuple ? SEQUENCE : value instanceof Dict ? DICT : NUMBER;
  const method = Object.hasOwn(table, name) ? (table as Record<string, unknown>)[name] : undefined;
  const known = table !== NUMBER || isInt(value) || value instanceof Float;
  if (!method || !known) return undefined;
  return new Callable(`built-in method ${name}`, (call) =>
    (method as (self: Value, args: Value[], call: Arguments) => Value)(value, call.positional, call),
  );
}

/** Markup's methods give Markup. */
function marked(value: Value): Value {
  if (typeof value === 'string') return new Markup(value);
  if (Array.isArray(value)) return value.map(marked);
  return value instanceof Tuple ? new Tuple(value.items.map(marked)) : value;
}

const need = (value: Value | undefined, what: string): string => {
  if (value === undefined || !isText(value))
    throw new TemplateError(`${what}: expected a str, received ${value === undefined ? 'nothing' : typeName(value)}`);
  return textOf(value);
};
const count = (value: Value | undefined, fallback: number): number =>
  value === undefined || value === NONE
    ? fallback
    : isInt(value)
      ? Number(value)
      : fail(`expected an int, received ${typeName(value)}`);
function fail(message: string): never {
  throw new TemplateError(message);
}

const literal = (text: string): string => text.replace(/[\\\]^-]/g, '\\$&');
/** Characters to strip: white space, or those of a text. */
function edge(set: Value | undefined): string {
  if (set === undefined || set === NONE) return `[${SPACE}]`;
  const text = need(set, 'strip');
  return text === '' ? '[]' : `[${literal(text)}]`;
}
const lstrip = (self: string, set?: Value): string => self.replace(new RegExp(`^${edge(set)}+`, 'u'), '');
function rstrip(self: string, set?: Value): string {
  const strips = new RegExp(`^${edge(set)}$`, 'u');
  const all = characters(self);
  let end = all.length;
  while (end > 0 && strips.test(all[end - 1]!)) end--;
  return all.slice(0, end).join('');
}
export const stripText = (self: string, set?: Value): string => lstrip(rstrip(self, set), set);

/** Upper case where a word begins. */
export function titleCase(text: string): string {
  return text.replace(/\p{L}+/gu, (word) => {
    const [first = '', ...rest] = characters(word);
    return (TITLE[first.toLowerCase()] ?? first.toUpperCase()) + rest.join('').toLowerCase();
  });
}
/** Letters of two letters, of which only the first is a capital. */
const TITLE: Record<string, string> = { ǆ: 'ǅ', ǉ: 'ǈ', ǌ: 'ǋ', ǳ: 'ǲ' };

function split(self: string, args: Value[], call: Arguments, fromRight: boolean): Value {
  const separator = args[0] ?? call.named.get('sep') ?? NONE;
  const most = count(args[1] ?? call.named.get('maxsplit'), -1);
  const limit = most < 0 ? Number.POSITIVE_INFINITY : most;
  return separator === NONE
    ? splitSpace(self, limit, fromRight)
    : splitAt(self, need(separator, 'split'), limit, fromRight);
}

function splitAt(self: string, separator: string, limit: number, fromRight: boolean): string[] {
  if (separator === '') fail('empty separator');
  const parts = self.split(separator);
  const extra = parts.length - 1 - limit;
  if (extra <= 0) return parts;
  return fromRight
    ? [parts.slice(0, extra + 1).join(separator), ...parts.slice(extra + 1)]
    : [...parts.slice(0, limit), parts.slice(limit).join(separator)];
}

function splitSpace(self: string, limit: number, fromRight: boolean): string[] {
  const words = [...self.matchAll(new RegExp(`[^${SPACE}]+`, 'g'))];
  if (words.length <= limit + 1 && words.length <= limit) return words.map((w) => w[0]);
  if (words.length <= limit) return words.map((w) => w[0]);
  if (limit === Number.POSITIVE_INFINITY) return words.map((w) => w[0]);
  if (fromRight) {
    const first = words[words.length - limit];
    const head = rstrip(first ? self.slice(0, first.index) : self);
    return [...(head ? [head] : []), ...words.slice(words.length - limit).map((w) => w[0])];
  }
  const rest = words[limit];
  return [...words.slice(0, limit).map((w) => w[0]), ...(rest ? [self.slice(rest.index)] : [])];
}

/** Where something lies among characters, within [start, end). */
function find(self: string, args: Value[], last = false): number {
  const all = characters(self);
  const [from, to] = bounds(args, all.length);
  const part = all.slice(from, Math.max(from, to)).join('');
  const wanted = need(args[0], 'find');
  const at = last ? part.lastIndexOf(wanted) : part.indexOf(wanted);
  return at < 0 || from > all.length ? -1 : from + characters(part.slice(0, at)).length;
}

function bounds(args: Value[], length: number): [number, number] {
  const clip = (i: number) => (i < 0 ? Math.max(0, i + length) : i);
  return [clip(count(args[1], 0)), Math.min(length, clip(count(args[2], length)))];
}

function affix(self: string, args: Value[], test: (text: string, affix: string) => boolean): boolean {
  const all = characters(self);
  const [from, to] = bounds(args, all.length);
  const part = all.slice(from, Math.max(from, to)).join('');
  const wanted = args[0] instanceof Tuple ? args[0].items : [args[0]];
  return from <= all.length && wanted.some((w) => test(part, need(w, 'startswith')));
}

const every = (pattern: RegExp) => (self: string) => self !== '' && characters(self).every((c) => pattern.test(c));
const fill = (args: Value[]): string => (args[1] === undefined ? ' ' : need(args[1], 'fill character'));
const missing = (self: string, args: Value[]): number => {
  const n = count(args[0], 0) - characters(self).length;
  return checkWidth(n);
};
const isLower = (self: string): boolean => /\p{Ll}/u.test(self) && !/[\p{Lu}\p{Lt}]/u.test(self);
const isUpper = (self: string): boolean => /\p{Lu}/u.test(self) && !/[\p{Ll}\p{Lt}]/u.test(self);

function partition(self: string, at: number, separator: string, none: [string, string, string]): Tuple {
  if (separator === '') fail('empty separator');
  return new Tuple(at < 0 ? none : [self.slice(0, at), separator, self.slice(at + separator.length)]);
}

function replace(self: string, args: Value[], call: Arguments): string {
  const [from, to] = [need(args[0], 'replace'), need(args[1], 'replace')];
  const most = count(args[2] ?? call.named.get('count'), -1);
  const limit = most < 0 ? Number.POSITIVE_INFINITY : most;
  if (from === '') {
    const all = characters(self);
    let left = limit;
    const put = () => (left-- > 0 ? to : '');
    return all.map((c) => put() + c).join('') + put();
  }
  return splitAt(self, from, limit, false).join(to);
}

/** Where str.splitlines() cuts. */
const LINE_ENDS = '\n\r\v\f\x1c-\x1e\x85\u2028\u2029';
export const LINES = new RegExp(`\\r\\n|[${LINE_ENDS}]`, 'g');

const TEXT: Record<string, Method> = {
  capitalize: (s) => capitalize(s),
  casefold: (s) => s.toLowerCase().replaceAll('ß', 'ss'),
  center: (s, a) => {
    const n = missing(s, a);
    const width = count(a[0], 0);
    const left = Math.floor(n / 2) + (n & width & 1);
    return fill(a).repeat(left) + s + fill(a).repeat(n - left);
  },
  count: (s, a) => {
    const all = characters(s);
    const [from, to] = bounds(a, all.length);
    const part = all.slice(from, Math.max(from, to)).join('');
    const wanted = need(a[0], 'count');
    return wanted === '' ? characters(part).length + 1 : part.split(wanted).length - 1;
  },
  endswith: (s, a) => affix(s, a, (text, end) => text.endsWith(end)),
  expandtabs: (s, a) => expandTabs(s, count(a[0], 8)),
  find: (s, a) => find(s, a),
  format: (s, _, call) => formatBraces(s, call, follow),
  index: (s, a) => found(find(s, a)),
  isalnum: every(/[\p{L}\p{N}]/u),
  isalpha: every(/\p{L}/u),
  isascii: (s) => /^[\0-\x7f]*$/.test(s),
  isdecimal: every(/\p{Nd}/u),
  isdigit: every(/[\p{Nd}\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u2080-\u2089]/u),
  isidentifier: (s) => /^[\p{ID_Start}_][\p{ID_Continue}]*$/u.test(s),
  islower: isLower,
  isnumeric: every(/\p{N}/u),
  isprintable: (s) => !/[\p{C}\p{Z}]/u.test(s.replaceAll(' ', '')),
  isspace: (s) => new RegExp(`^[${SPACE}]+$`).test(s),
  istitle: (s) => /\p{L}/u.test(s) && titleCase(s) === s,
  isupper: isUpper,
  join: (s, a, _, markup) =>
    [...iterate(a[0] ?? fail('join: expected an iterable'))]
      .map((v) => (markup && typeof v === 'string' ? escapeHtml(v) : v))
      .map((v, i) => (isText(v) ? textOf(v) : fail(`sequence item ${i}: expected str instance, ${typeName(v)} found`)))
      .join(s),
  ljust: (s, a) => s + fill(a).repeat(missing(s, a)),
  lower: (s) => s.toLowerCase(),
  lstrip: (s, a) => lstrip(s, a[0]),
  partition: (s, a) => partition(s, s.indexOf(need(a[0], 'partition')), textOf(a[0] as string), [s, '', '']),
  removeprefix: (s, a) => (s.startsWith(need(a[0], 'removeprefix')) ? s.slice(textOf(a[0] as string).length) : s),
  removesuffix: (s, a) => {
    const end = need(a[0], 'removesuffix');
    return end !== '' && s.endsWith(end) ? s.slice(0, -end.length) : s;
  },
  replace,
  rfind: (s, a) => find(s, a, true),
  rindex: (s, a) => found(find(s, a, true)),
  rjust: (s, a) => fill(a).repeat(missing(s, a)) + s,
  rpartition: (s, a) => partition(s, s.lastIndexOf(need(a[0], 'rpartition')), textOf(a[0] as string), ['', '', s]),
  rsplit: (s, a, call) => split(s, a, call, true),
  rstrip: (s, a) => rstrip(s, a[0]),
  split: (s, a, call) => split(s, a, call, false),
  splitlines: (s, a, call) => splitLines(s, (a[0] ?? call.named.get('keepends')) === true),
  startswith: (s, a) => affix(s, a, (text, start) => text.startsWith(start)),
  strip: (s, a) => stripText(s, a[0]),
  swapcase: (s) =>
    characters(s)
      .map((c) => (c === c.toUpperCase() ? c.toLowerCase() : c.toUpperCase()))
      .join(''),
  title: (s) => titleCase(s),
  upper: (s) => s.toUpperCase(),
  zfill: (s, a) => {
    const [sign, digits] = /^[+-]/.test(s) ? [s[0]!, s.slice(1)] : ['', s];
    return sign + '0'.repeat(missing(s, a)) + digits;
  },
};

export function capitalize(text: string): string {
  const [first = '', ...rest] = characters(text);
  return first.toUpperCase() + rest.join('').toLowerCase();
}

function splitLines(self: string, keep: boolean): string[] {
  const lines: string[] = [];
  let at = 0;
  for (const end of self.matchAll(LINES)) {
    lines.push(self.slice(at, end.index) + (keep ? end[0] : ''));
    at = end.index + end[0].length;
  }
  if (at < self.length) lines.push(self.slice(at));
  return lines;
}

function expandTabs(self: string, size: number): string {
  let column = 0;
  return characters(self)
    .map((c) => {
      if (c !== '\t') {
        column = c === '\n' || c === '\r' ? 0 : column + 1;
        return c;
      }
      const n = size > 0 ? size - (column % size) : 0;
      column += n;
      return blanks(n);
    })
    .join('');
}

const found = (at: number): number => (at < 0 ? fail('substring not found') : at);

/** What "{0.name}" and "{0[key]}" mean. */
function follow(value: Value, key: string, item: boolean): Value {
  if (item && Array.isArray(value)) return value[Number(key)] ?? fail('list index out of range');
  if (item && value instanceof Dict) return value.get(key) ?? fail(`format: no key ${JSON.stringify(key)}`);
  return fail(`format: '${typeName(value)}' object has no ${key}`);
}

const items = (self: Value): readonly Value[] => (self instanceof Tuple ? self.items : (self as Value[]));

const SEQUENCE = {
  copy: (self: Value) => (Array.isArray(self) ? [...self] : fail("'tuple' object has no attribute 'copy'")),
  count: (self: Value, [value]: Value[]) => items(self).filter((v) => equal(v, value ?? NONE)).length,
  index: (self: Value, [value]: Value[]) => found(items(self).findIndex((v) => equal(v, value ?? NONE))),
};

const DICT = {
  copy: (self: Dict) => Dict.from(self.entries()),
  get: (self: Dict, [key, fallback]: Value[]) => self.get(key ?? NONE) ?? fallback ?? NONE,
  items: (self: Dict) =>
    new Lazy(
      self.entries().map((entry) => new Tuple(entry)),
      'dict_items',
    ),
  keys: (self: Dict) => new Lazy(self.keys(), 'dict_keys'),
  values: (self: Dict) => new Lazy(self.values(), 'dict_values'),
};

const NUMBER = {
  bit_length: (self: Value) => (isInt(self) ? BigInt(self).toString(2).replace('-', '').length : fail('not an int')),
  is_integer: (self: Value) => (self instanceof Float ? Number.isInteger(self.value) : true),
};

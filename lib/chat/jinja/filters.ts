// Jinja's filters (3.1), with transformers' tojson. Each takes the value, its arguments and what calls other filters.

import type { Bound, Filter, Runtime } from './arguments.js';
import { formatPercent } from './format.js';
import { capitalize, LINES, stripText } from './methods.js';
import { filesize, round, toFloat, toInt } from './numbers.js';
import { binary } from './operators.js';
import { blanks, dumps, escapeHtml, str } from './text.js';
import {
  characters,
  compare,
  Dict,
  equal,
  Float,
  integer,
  isInt,
  isText,
  iterate,
  keyOf,
  Lazy,
  lengthOf,
  Markup,
  NONE,
  numberOf,
  TemplateError,
  Tuple,
  textOf,
  truthy,
  typeName,
  Undefined,
  type Value,
} from './values.js';

const list = (value: Value): Value[] => [...iterate(value)];
const textual = (value: Value, work: (text: string) => string): Value =>
  value instanceof Markup ? new Markup(work(value.text)) : work(str(value));
const lazily = (values: Iterable<Value>): Lazy => new Lazy(values);

/** How filters compare and group: by an attribute's path, texts in one case. */
function keyReader(attribute: Value | undefined, sensitive: boolean, runtime: Runtime, fallback?: Value) {
  const path = attribute === undefined || attribute === NONE ? undefined : pathOf(attribute);
  return (value: Value): Value => {
    let key = value;
    for (const part of path ?? []) key = runtime.item(key, part);
    if (key instanceof Undefined && fallback !== undefined) key = fallback;
    return !sensitive && isText(key) ? textOf(key).toLowerCase() : key;
  };
}

const pathOf = (attribute: Value): Value[] =>
  isInt(attribute)
    ? [attribute]
    : str(attribute)
        .split('.')
        .map((part) => (/^\d+$/.test(part) ? Number(part) : part));

function sorted(values: Value[], key: (value: Value) => Value, reverse: boolean): Value[] {
  const keyed = values.map((value) => ({ value, key: key(value) }));
  keyed.sort((a, b) => (reverse ? compare(b.key, a.key) : compare(a.key, b.key)));
  return keyed.map(({ value }) => value);
}

function sorting(value: Value, a: Bound, runtime: Runtime): Value {
  const attribute = a.get(2, 'attribute');
  const paths = isText(attribute ?? NONE)
    ? textOf(attribute as string)
        .split(',')
        .map((p) => p.trim())
    : [attribute];
  const readers = paths.map((path) => keyReader(path, a.flag(1, 'case_sensitive', false), runtime));
  const key = (v: Value): Value => (readers.length > 1 ? readers.map((read) => read(v)) : readers[0]!(v));
  return sorted(list(value), key, a.flag(0, 'reverse', false));
}

function extreme(value: Value, a: Bound, runtime: Runtime, better: (order: number) => boolean): Value {
  const key = keyReader(a.get(1, 'attribute'), a.flag(0, 'case_sensitive', false), runtime);
  const [first, ...rest] = list(value);
  if (first === undefined) return new Undefined('No aggregated item, sequence was empty.');
  return rest.reduce((best, v) => (better(compare(key(v), key(best))) ? v : best), first);
}

function groupby(value: Value, a: Bound, runtime: Runtime): Value {
  const attribute = a.need(0, 'attribute');
  const fallback = a.get(1, 'default');
  const folded = keyReader(attribute, a.flag(2, 'case_sensitive', false), runtime, fallback);
  const exact = keyReader(attribute, true, runtime, fallback);
  const groups: { key: Value; grouper: Value; values: Value[] }[] = [];
  for (const v of sorted(list(value), folded, false)) {
    const last = groups[groups.length - 1];
    if (last && equal(last.key, folded(v))) last.values.push(v);
    else groups.push({ key: folded(v), grouper: exact(v), values: [v] });
  }
  return groups.map(({ grouper, values }) => new Tuple([grouper, values]));
}

/** select, reject and their forms over an attribute. */
const choosing =
  (keep: boolean, byAttribute: boolean): Filter =>
  (value, a, runtime) => {
    if (!truthy(value)) return lazily([]);
    const read = byAttribute ? keyReader(a.need(0, 'attribute'), true, runtime) : (v: Value) => v;
    const at = byAttribute ? 1 : 0;
    const test = a.all.positional[at];
    const passes = (v: Value) =>
      test === undefined ? truthy(read(v)) : runtime.test(str(test), read(v), a.rest(at + 1));
    return lazily(list(value).filter((v) => passes(v) === keep));
  };

function map(value: Value, a: Bound, runtime: Runtime): Value {
  if (!truthy(value)) return lazily([]);
  if (a.all.positional.length === 0) {
    const fallback = a.all.named.get('default');
    const read = keyReader(a.need(0, 'attribute'), true, runtime, fallback);
    return lazily(list(value).map(read));
  }
  const name = str(a.all.positional[0]!);
  return lazily(list(value).map((v) => runtime.filter(name, v, a.rest(1))));
}

function batch(value: Value, a: Bound): Value {
  const size = a.int(0, 'linecount', 1);
  const filler = a.get(1, 'fill_with');
  const rows: Value[] = [];
  const all = list(value);
  for (let i = 0; i < all.length; i += Math.max(1, size)) {
    const row = all.slice(i, i + size);
    while (filler !== undefined && filler !== NONE && row.length < size) row.push(filler);
    rows.push(row);
  }
  return lazily(rows);
}

function slices(value: Value, a: Bound): Value {
  const all = list(value);
  const n = a.int(0, 'slices', 1);
  const filler = a.get(1, 'fill_with');
  const [each, extra] = [Math.floor(all.length / n), all.length % n];
  let at = 0;
  return lazily(
    Array.from({ length: n }, (_, i): Value => {
      const size = each + (i < extra ? 1 : 0);
      const row = all.slice(at, at + size);
      at += size;
      if (filler !== undefined && filler !== NONE && i >= extra) row.push(filler);
      return row;
    }),
  );
}

function indent(value: Value, a: Bound): Value {
  const width = a.get(0, 'width') ?? 4;
  const by = isInt(width) ? blanks(Number(width)) : str(width);
  const [first, blank] = [a.flag(1, 'first', false), a.flag(2, 'blank', false)];
  return textual(value, (text) => {
    const lines = text.split(LINES);
    if (text.endsWith('\n') && lines.length > 1) lines[lines.length - 1] = '';
    return lines
      .map((line, i) =>
        (i === 0 ? first : true) && (line !== '' || blank) ? by + line : i === 0 && first && line === '' ? by : line,
      )
      .join('\n');
  });
}

function truncate(value: Value, a: Bound): Value {
  const [length, kill, end] = [a.int(0, 'length', 255), a.flag(1, 'killwords', false), a.text(2, 'end', '...')];
  const leeway = a.int(3, 'leeway', 5);
  return textual(value, (text) => {
    const all = characters(text);
    if (all.length <= length + leeway) return text;
    const cut = all.slice(0, length - end.length).join('');
    if (kill) return cut + end;
    const space = cut.lastIndexOf(' ');
    return (space < 0 ? cut : cut.slice(0, space)) + end;
  });
}

function tojson(value: Value, a: Bound): Value {
  const width = a.get(1, 'indent') ?? NONE;
  const separators = a.get(2, 'separators') ?? NONE;
  const pair = separators === NONE ? undefined : list(separators).map(str);
  return dumps(value, {
    ensureAscii: a.flag(0, 'ensure_ascii', false),
    indent: width === NONE ? undefined : isInt(width) ? blanks(Number(width)) : str(width),
    separators: pair && [pair[0] ?? ', ', pair[1] ?? ': '],
    sortKeys: a.flag(3, 'sort_keys', false),
  });
}

const size: Filter = (value) => lengthOf(value);
const fallback: Filter = (value, a) =>
  value instanceof Undefined || (a.flag(1, 'boolean', false) && !truthy(value))
    ? (a.get(0, 'default_value') ?? '')
    : value;
const escaping: Filter = (value) => (value instanceof Markup ? value : new Markup(escapeHtml(str(value))));
const unsupported =
  (name: string): Filter =>
  () => {
    throw new TemplateError(`the filter ${name} is not supported`);
  };

export const FILTERS: Record<string, Filter> = {
  abs: (v) => {
    if (v instanceof Float) return new Float(Math.abs(v.value));
    if (!isInt(v)) throw new TemplateError(`bad operand type for abs(): '${typeName(v)}'`);
    return numberOf(v) < 0 ? integer(-BigInt(v)) : integer(BigInt(v));
  },
  attr: (v, a, r) => r.attribute(v, str(a.need(0, 'name'))),
  batch,
  capitalize: (v) => textual(v, capitalize),
  center: (v, a) =>
    textual(v, (text) => {
      const width = a.int(0, 'width', 80);
      const missing = Math.max(0, width - characters(text).length);
      const left = Math.floor(missing / 2) + (missing & width & 1);
      return blanks(left) + text + blanks(missing - left);
    }),
  count: size,
  d: fallback,
  default: fallback,
  dictsort: (v, a, r) => {
    if (!(v instanceof Dict)) throw new TemplateError(`dictsort: expected a dict, received ${typeName(v)}`);
    const at = a.text(1, 'by', 'key') === 'value' ? 1 : 0;
    const key = keyReader(at, a.flag(0, 'case_sensitive', false), r);
    return sorted(
      v.entries().map((e) => new Tuple(e)),
      key,
      a.flag(2, 'reverse', false),
    );
  },
  e: escaping,
  escape: escaping,
  filesizeformat: filesize,
  first: (v) => {
    for (const item of iterate(v)) return item;
    return new Undefined('No first item, sequence was empty.');
  },
  float: toFloat,
  forceescape: (v) => new Markup(escapeHtml(str(v))),
  format: (v, a) => {
    if (a.all.positional.length > 0 && a.all.named.size > 0)
      throw new TemplateError('format: positional and named arguments at the same time');
    const given = a.all.named.size > 0 ? Dict.from(a.all.named) : new Tuple(a.all.positional);
    return formatPercent(v instanceof Markup ? v : str(v), given);
  },
  groupby,
  indent,
  int: toInt,
  items: (v) => {
    if (v instanceof Undefined) return lazily([]);
    if (!(v instanceof Dict)) throw new TemplateError('Can only get item pairs from a mapping.');
    return lazily(v.entries().map((e) => new Tuple(e)));
  },
  join: (v, a, r) => {
    const by = a.get(0, 'd') ?? '';
    const read = keyReader(a.get(1, 'attribute'), true, r);
    return list(v)
      .map((x) => str(read(x)))
      .join(str(by));
  },
  last: (v) => {
    if (v instanceof Lazy && !v.view) throw new TemplateError("'generator' object is not reversible");
    const all = list(v);
    return all.length > 0 ? all[all.length - 1]! : new Undefined('No last item, sequence was empty.');
  },
  length: size,
  list,
  lower: (v) => textual(v, (t) => t.toLowerCase()),
  map,
  max: (v, a, r) => extreme(v, a, r, (order) => order > 0),
  min: (v, a, r) => extreme(v, a, r, (order) => order < 0),
  pprint: unsupported('pprint'),
  random: (v) => {
    const all = list(v);
    return all[Math.floor(Math.random() * all.length)] ?? new Undefined('No random item, sequence was empty.');
  },
  reject: choosing(false, false),
  rejectattr: choosing(false, true),
  replace: (v, a) =>
    textual(v, (text) => {
      const [from, to] = [str(a.need(0, 'old')), str(a.need(1, 'new'))];
      const most = a.get(2, 'count');
      if (most === undefined || most === NONE)
        return from === '' ? `${to}${characters(text).join(to)}${text ? to : ''}` : text.replaceAll(from, to);
      const parts = text.split(from);
      const n = Number(most as number);
      return parts.length - 1 <= n ? parts.join(to) : [...parts.slice(0, n), parts.slice(n).join(from)].join(to);
    }),
  reverse: (v) => (isText(v) ? textual(v, (t) => characters(t).reverse().join('')) : lazily(list(v).reverse())),
  round,
  safe: (v) => (v instanceof Markup ? v : new Markup(str(v))),
  select: choosing(true, false),
  selectattr: choosing(true, true),
  slice: slices,
  sort: sorting,
  string: (v) => (v instanceof Markup ? v : str(v)),
  striptags: (v) =>
    str(v)
      .replace(/<!--[\s\S]*?-->|<[^>]*>/g, '')
      .split(/\s+/)
      .filter(Boolean)
      .join(' '),
  sum: (v, a, r) => {
    const read = keyReader(a.get(0, 'attribute'), true, r);
    return list(v).reduce<Value>((sum, x) => binary('+', sum, read(x)), a.get(1, 'start') ?? 0);
  },
  title: (v) => textual(v, (t) => t.replace(/[^\-\s({[<]+/gu, (word) => capitalize(word))),
  tojson,
  trim: (v, a) => textual(v, (t) => stripText(t, a.get(0, 'chars'))),
  truncate,
  unique: (v, a, r) => {
    const key = keyReader(a.get(1, 'attribute'), a.flag(0, 'case_sensitive', false), r);
    const seen = new Set<string>();
    return lazily(list(v).filter((x) => seen.size < seen.add(keyOf(key(x))).size));
  },
  upper: (v) => textual(v, (t) => t.toUpperCase()),
  urlencode: (v) => {
    const quote = (value: Value, plus: boolean) => {
      const text = encodeURIComponent(str(value)).replace(
        /[!'()*]/g,
        (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
      );
      return plus ? text.replaceAll('%20', '+') : text.replaceAll('%2F', '/');
    };
    if (isText(v) || !(v instanceof Dict || Array.isArray(v) || v instanceof Tuple)) return quote(v, false);
    const pairs = v instanceof Dict ? v.entries() : list(v).map((p) => list(p) as [Value, Value]);
    return pairs.map(([k, x]) => `${quote(k, true)}=${quote(x, true)}`).join('&');
  },
  urlize: unsupported('urlize'),
  wordcount: (v) => (str(v).match(/[\p{L}\p{N}_]+/gu) ?? []).length,
  wordwrap: unsupported('wordwrap'),
  xmlattr: unsupported('xmlattr'),
};

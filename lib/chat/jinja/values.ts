// Python's values, as far as templates see them: what JavaScript has no type of its own for is a class here.
import { StatespaceError } from '../../errors.js';

/** Python's None, apart from JavaScript's absent values. */
class NoneType {
  readonly none = true;
}
export const NONE = new NoneType();

/** Whole numbers are int (bigint past 2^53), every other number is a Float. */
export type Value =
  | NoneType
  | boolean
  | number
  | bigint
  | string
  | Float
  | Markup
  | Undefined
  | Value[]
  | Tuple
  | Dict
  | Range
  | Lazy
  | Namespace
  | Callable;

/** What a template does wrong, or says by raise_exception. */
export class TemplateError extends StatespaceError {
  constructor(message: string) {
    super('ERR_ARGUMENT', `chat template: ${message}`);
  }
}

export class Float {
  constructor(readonly value: number) {}
}

/** Text that needs no escaping: of |safe and |escape. */
export class Markup {
  constructor(readonly text: string) {}
}

export class Undefined {
  constructor(readonly why: string) {}
  fail(): never {
    throw new TemplateError(this.why);
  }
}

export class Tuple {
  constructor(readonly items: readonly Value[]) {}
}

export class Range {
  constructor(
    readonly start: number,
    readonly stop: number,
    readonly step: number,
  ) {}
  get length(): number {
    return Math.max(0, Math.ceil((this.stop - this.start) / this.step));
  }
  *[Symbol.iterator](): Generator<number> {
    for (let i = 0, n = this.length; i < n; i++) yield this.start + i * this.step;
  }
}

/** A generator or a dict's view: gone through once, or again and again. */
export class Lazy {
  private spent = false;
  constructor(
    private readonly values: Iterable<Value>,
    /** How Python shows it; a view has a length and can be gone through again. */
    readonly view?: 'dict_keys' | 'dict_values' | 'dict_items',
  ) {}
  *[Symbol.iterator](): Generator<Value> {
    if (this.spent) return;
    this.spent = !this.view;
    yield* this.values;
  }
}

export class Namespace {
  readonly attributes = new Map<string, Value>();
}

export type Arguments = { readonly positional: Value[]; readonly named: Map<string, Value> };

export class Callable {
  constructor(
    readonly name: string,
    readonly call: (args: Arguments) => Value,
    /** What templates may read off it (loop.index, a macro's name). */
    readonly attributes: ReadonlyMap<string, Value> | ((name: string) => Value | undefined) = new Map(),
  ) {}
  attribute(name: string): Value | undefined {
    return typeof this.attributes === 'function' ? this.attributes(name) : this.attributes.get(name);
  }
}

/** In the order of insertion; 1, 1.0 and True are one key. */
export class Dict {
  private readonly entries_ = new Map<string, [Value, Value]>();

  static from(entries: Iterable<readonly [Value, Value]>): Dict {
    const dict = new Dict();
    for (const [key, value] of entries) dict.set(key, value);
    return dict;
  }
  get size(): number {
    return this.entries_.size;
  }
  get(key: Value): Value | undefined {
    return this.entries_.get(keyOf(key))?.[1];
  }
  has(key: Value): boolean {
    return this.entries_.has(keyOf(key));
  }
  set(key: Value, value: Value): void {
    const hash = keyOf(key);
    this.entries_.set(hash, [this.entries_.get(hash)?.[0] ?? key, value]);
  }
  keys(): Value[] {
    return [...this.entries_.values()].map(([key]) => key);
  }
  values(): Value[] {
    return [...this.entries_.values()].map(([, value]) => value);
  }
  entries(): [Value, Value][] {
    return [...this.entries_.values()];
  }
}

/** What two equal hashable values share. */
export function keyOf(value: Value): string {
  if (typeof value === 'string') return `s${value}`;
  if (value instanceof Markup) return `s${value.text}`;
  if (typeof value === 'boolean') return `n${Number(value)}`;
  if (typeof value === 'number' || typeof value === 'bigint') return `n${value}`;
  if (value instanceof Float) return `n${value.value}`;
  if (value === NONE) return 'None';
  if (value instanceof Tuple) return `(${value.items.map((v) => JSON.stringify(keyOf(v))).join()})`;
  if (Array.isArray(value) || value instanceof Dict) throw new TemplateError(`unhashable type: '${typeName(value)}'`);
  return 'object';
}

/** A JavaScript value as Python would have got it from JSON. Cycles and functions are errors. */
export function fromJs(value: unknown, depth = 0): Value {
  if (depth > 200) throw new TemplateError('a value given to the template is nested too deeply, or holds itself');
  if (value === null || value === undefined) return NONE;
  if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'bigint') return value;
  if (typeof value === 'number') return Number.isSafeInteger(value) ? value : new Float(value);
  if (Array.isArray(value)) return value.map((item) => fromJs(item, depth + 1));
  if (typeof value === 'object') {
    const given = Object.entries(value).filter(([, v]) => v !== undefined);
    return Dict.from(given.map(([key, item]) => [key, fromJs(item, depth + 1)]));
  }
  throw new TemplateError(`a ${typeof value} cannot be given to a template`);
}

/** An int: a number as long as that is exact. */
export function integer(value: bigint): number | bigint {
  return BigInt.asIntN(54, value) === value && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

export function typeName(value: Value): string {
  if (value === NONE) return 'NoneType';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'number' || typeof value === 'bigint') return 'int';
  if (typeof value === 'string') return 'str';
  if (value instanceof Float) return 'float';
  if (value instanceof Markup) return 'Markup';
  if (value instanceof Undefined) return 'Undefined';
  if (Array.isArray(value)) return 'list';
  if (value instanceof Tuple) return 'tuple';
  if (value instanceof Dict) return 'dict';
  if (value instanceof Range) return 'range';
  if (value instanceof Lazy) return value.view ?? 'generator';
  if (value instanceof Namespace) return 'Namespace';
  return 'function';
}

export function truthy(value: Value): boolean {
  if (value === NONE || value instanceof Undefined) return false;
  if (typeof value === 'boolean') return value;
  if (typeof value === 'number' || typeof value === 'bigint') return Number(value) !== 0;
  if (typeof value === 'string') return value !== '';
  if (value instanceof Float) return value.value !== 0;
  if (value instanceof Markup) return value.text !== '';
  if (Array.isArray(value) || value instanceof Range) return value.length > 0;
  if (value instanceof Tuple) return value.items.length > 0;
  if (value instanceof Dict) return value.size > 0;
  return value instanceof Lazy && value.view ? [...value].length > 0 : true;
}

export const isText = (value: Value): value is string | Markup => typeof value === 'string' || value instanceof Markup;
export const textOf = (value: string | Markup): string => (typeof value === 'string' ? value : value.text);
export const isInt = (value: Value): value is boolean | number | bigint =>
  typeof value === 'boolean' || typeof value === 'number' || typeof value === 'bigint';
export const isNumber = (value: Value): value is boolean | number | bigint | Float =>
  isInt(value) || value instanceof Float;
/** As a JavaScript number. */
export const numberOf = (value: boolean | number | bigint | Float): number =>
  value instanceof Float ? value.value : Number(value);

/** Characters, as Python counts them. */
export const characters = (text: string): string[] => Array.from(text);

/** What `for` goes through. */
export function iterate(value: Value): Iterable<Value> {
  if (typeof value === 'string') return characters(value);
  if (value instanceof Markup) return characters(value.text).map((c) => new Markup(c));
  if (Array.isArray(value) || value instanceof Range || value instanceof Lazy) return value;
  if (value instanceof Tuple) return value.items;
  if (value instanceof Dict) return value.keys();
  if (value instanceof Undefined) return [];
  throw new TemplateError(`'${typeName(value)}' object is not iterable`);
}

export function lengthOf(value: Value): number {
  if (value instanceof Undefined) return 0;
  const sized = isText(value) || Array.isArray(value) || value instanceof Tuple || value instanceof Range;
  if (sized || value instanceof Dict || (value instanceof Lazy && value.view)) return [...iterate(value)].length;
  throw new TemplateError(`object of type '${typeName(value)}' has no len()`);
}

export function equal(a: Value, b: Value): boolean {
  if (a instanceof Undefined || b instanceof Undefined) return a instanceof Undefined && b instanceof Undefined;
  if (isNumber(a) && isNumber(b)) {
    return a instanceof Float || b instanceof Float
      ? numberOf(a) === numberOf(b)
      : BigInt(a as never) === BigInt(b as never);
  }
  if (isText(a) && isText(b)) return textOf(a) === textOf(b);
  if (Array.isArray(a) && Array.isArray(b)) return sameItems(a, b);
  if (a instanceof Tuple && b instanceof Tuple) return sameItems(a.items, b.items);
  if (a instanceof Range && b instanceof Range) return sameItems([...a], [...b]);
  if (a instanceof Dict && b instanceof Dict) {
    return a.size === b.size && a.entries().every(([k, v]) => b.has(k) && equal(v, b.get(k)!));
  }
  return a === b;
}

function sameItems(a: readonly Value[], b: readonly Value[]): boolean {
  return a.length === b.length && a.every((v, i) => equal(v, b[i]!));
}

/** Negative, zero, positive; a TypeError where Python orders the two not at all. */
export function compare(a: Value, b: Value, operator = '<'): number {
  if (isNumber(a) && isNumber(b)) {
    const [x, y] = isInt(a) && isInt(b) ? [BigInt(a), BigInt(b)] : [numberOf(a), numberOf(b)];
    return x < y ? -1 : x > y ? 1 : x === y ? 0 : Number.NaN;
  }
  if (isText(a) && isText(b)) return compareTexts(textOf(a), textOf(b));
  const [x, y] = [sequence(a), sequence(b)];
  if (x && y && Array.isArray(a) === Array.isArray(b)) {
    for (let i = 0; i < Math.min(x.length, y.length); i++)
      if (!equal(x[i]!, y[i]!)) return compare(x[i]!, y[i]!, operator);
    return x.length - y.length;
  }
  if (a instanceof Undefined) a.fail();
  if (b instanceof Undefined) b.fail();
  throw new TemplateError(`'${operator}' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`);
}

const sequence = (value: Value): readonly Value[] | undefined =>
  Array.isArray(value) ? value : value instanceof Tuple ? value.items : undefined;

/** By code points, where JavaScript compares halves of them. */
function compareTexts(a: string, b: string): number {
  if (a === b) return 0;
  const [x, y] = [characters(a), characters(b)];
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    if (x[i] !== y[i]) return x[i]!.codePointAt(0)! - y[i]!.codePointAt(0)!;
  }
  return x.length - y.length;
}

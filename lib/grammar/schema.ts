import { show } from '../errors.js';
import { choice, literal, one, Rules, repeated, sequence, union } from './ebnf.js';
import { formats } from './formats.js';
import { type JsonRules, jsonRules } from './json.js';
import { integersBetween, numbersBetween } from './ranges.js';
import { asJson, regexGrammar } from './regex.js';
import { ANNOTATIONS, bound, counts, isObject, merge, type Schema, typesOf, wrong } from './schema-keywords.js';

/** Keywords by the type that they are about. */
const KEYWORDS: Record<string, readonly string[]> = {
  object: ['properties', 'required', 'additionalProperties', 'patternProperties', 'minProperties', 'maxProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
};
const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'];
const ALL_KEYWORDS = new Set([
  ...Object.values(KEYWORDS).flat(),
  'type',
  'enum',
  'const',
  '$ref',
  'anyOf',
  'oneOf',
  'allOf',
]);
const MOST_RULES = 20_000;

/**
 * A JSON schema as a grammar, every text of which is JSON that the schema allows: properties in the order in which they
 * are listed, others only where additionalProperties asks for them. oneOf is read as anyOf. ERR_ARGUMENT for a schema that
 * allows nothing, and for keywords that no grammar can hold a text to.
 *
 * Of our own, as web-xgrammar 0.1.27's converter lets texts through that the schema forbids: numbers beyond their bounds,
 * unescaped quotes by patterns, all that allOf, not, uniqueItems and the like say (see test/grammar/schema.test.ts).
 */
export function schemaGrammar(schema: unknown): string {
  return new Converter(schema).grammar();
}

class Converter {
  private readonly rules = new Rules();
  private readonly json: JsonRules = jsonRules(this.rules);
  private readonly references = new Map<string, string>();
  private visited = 0;

  constructor(private readonly root: unknown) {}

  grammar(): string {
    return this.rules.grammar(this.value(this.root, '#'));
  }

  private value(schema: unknown, at: string): string {
    if (++this.visited > MOST_RULES) throw wrong(at, `more than ${MOST_RULES} parts`);
    if (schema === true) return this.json.value;
    if (schema === false) throw wrong(at, 'false allows no value');
    if (!isObject(schema)) throw wrong(at, `expected a schema, received ${show(schema)}`);
    for (const key of Object.keys(schema))
      if (!ALL_KEYWORDS.has(key) && !ANNOTATIONS.has(key) && !key.startsWith('x-'))
        throw wrong(at, `${key} cannot be kept to; supported are ${[...ALL_KEYWORDS].join(', ')}`);
    if (schema.$ref !== undefined) return this.reference(schema, at);
    if (schema.allOf !== undefined) return this.value(this.merged(schema, at), at);
    for (const key of ['anyOf', 'oneOf']) if (schema[key] !== undefined) return this.alternatives(schema, key, at);
    if (schema.const !== undefined) return this.constants({ ...schema, enum: [schema.const] }, at);
    if (schema.enum !== undefined) return this.constants(schema, at);
    return this.rules.define(choice(this.types(schema, at).map((type) => this.ofType(type, schema, at))));
  }

  private types(schema: Schema, at: string): string[] {
    const given = Array.isArray(schema.type) ? schema.type : schema.type === undefined ? undefined : [schema.type];
    if (given) {
      if (given.length === 0 || !given.every((t) => TYPES.includes(t as string)))
        throw wrong(at, `type: expected ${TYPES.join(', ')}, received ${show(schema.type)}`);
      return given as string[];
    }
    // Without a type a keyword is about values of its type alone; that is what whoever writes it has in mind.
    const meant = Object.keys(KEYWORDS).filter((type) => KEYWORDS[type]!.some((key) => schema[key] !== undefined));
    return meant.length > 0 ? meant : TYPES.filter((t) => t !== 'integer');
  }

  private ofType(type: string, schema: Schema, at: string): string {
    switch (type) {
      case 'object':
        return this.object(schema, at);
      case 'array':
        return this.array(schema, at);
      case 'string':
        return this.string(schema, at);
      case 'boolean':
        return '("true" | "false")';
      case 'null':
        return '"null"';
    }
    return this.number(type === 'integer', schema, at);
  }

  private reference(schema: Schema, at: string): string {
    const { $ref: ref, ...beside } = schema;
    if (typeof ref !== 'string' || !/^#(\/|$)/.test(ref))
      throw wrong(at, `$ref: expected '#/…', received ${show(ref)}`);
    const extra = Object.keys(beside).filter((key) => ALL_KEYWORDS.has(key));
    if (extra.length > 0) return this.value({ allOf: [{ $ref: ref }, beside] }, at);
    const known = this.references.get(ref);
    if (known) return known;
    const name = `ref${this.references.size}`;
    this.references.set(ref, name);
    this.rules.recursive(name, this.value(this.resolve(ref, at), ref));
    return name;
  }

  private resolve(ref: string, at: string): unknown {
    let found: unknown = this.root;
    for (const part of ref.split('/').slice(1)) {
      const key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
      found = isObject(found) || Array.isArray(found) ? (found as Schema)[key] : undefined;
    }
    if (found === undefined) throw wrong(at, `$ref: ${ref} is not there`);
    return found;
  }

  private alternatives(schema: Schema, key: string, at: string): string {
    const { [key]: list, ...rest } = schema;
    if (!Array.isArray(list) || list.length === 0) throw wrong(at, `${key}: expected an array of schemas`);
    const beside = Object.keys(rest).some((k) => ALL_KEYWORDS.has(k));
    const parts = list.map((s, i) => this.value(beside ? { allOf: [rest, s] } : s, `${at}/${key}/${i}`));
    return this.rules.define(choice(parts));
  }

  private constants(schema: Schema, at: string): string {
    const { enum: list, const: _const, type: _type, ...rest } = schema;
    if (!Array.isArray(list) || list.length === 0) throw wrong(at, 'enum: expected an array of values');
    const more = Object.keys(rest).filter((key) => ALL_KEYWORDS.has(key));
    if (more.length > 0) throw wrong(at, `${more.join(', ')} beside enum or const`);
    const types = schema.type === undefined ? TYPES : this.types(schema, at);
    const fits = list.filter((value) => typesOf(value).some((type) => types.includes(type)));
    if (fits.length === 0) throw wrong(at, 'no value of enum is of the type');
    return this.rules.define(choice(fits.map((value) => literal(JSON.stringify(value)))));
  }

  /** allOf as one schema, where its parts say nothing that cannot be put together. */
  private merged(schema: Schema, at: string): Schema {
    const { allOf, ...rest } = schema;
    if (!Array.isArray(allOf) || allOf.length === 0) throw wrong(at, 'allOf: expected an array of schemas');
    let all: Schema = rest;
    for (let part of allOf) {
      const seen = new Set<string>();
      while (isObject(part) && typeof part.$ref === 'string') {
        const { $ref, ...beside } = part;
        if (seen.has($ref)) throw wrong(at, `$ref: ${$ref} refers to itself`);
        seen.add($ref);
        const found = this.resolve($ref, at);
        part = isObject(found) ? merge(found, beside, at) : found;
      }
      if (part === true) continue;
      if (!isObject(part)) throw wrong(at, `allOf: expected schemas, received ${show(part)}`);
      all = merge(all, part.allOf === undefined ? part : this.merged(part, at), at);
    }
    return all;
  }

  private number(whole: boolean, schema: Schema, at: string): string {
    const [low, high] = [bound(schema, 'minimum', Math.max, at), bound(schema, 'maximum', Math.min, at)];
    const { multipleOf } = schema;
    if (multipleOf !== undefined && multipleOf !== 1) throw wrong(at, 'multipleOf: supported is 1 alone');
    if (!low && !high) return whole || multipleOf === 1 ? this.json.integer : this.json.number;
    const numbers = whole || multipleOf === 1 ? integersBetween(low, high) : numbersBetween(low, high);
    if (numbers === undefined) throw wrong(at, 'no number lies between the bounds');
    return numbers;
  }

  private string(schema: Schema, at: string): string {
    const { pattern, format } = schema;
    const [least, most] = counts(schema, 'minLength', 'maxLength', at);
    const sized = least > 0 || most < Infinity;
    const known = typeof format === 'string' ? formats[format] : undefined;
    if ([pattern !== undefined, sized, known !== undefined].filter(Boolean).length > 1)
      throw wrong(at, 'pattern, format and a length beside one another cannot be kept to');
    if (pattern !== undefined || known) {
      if (pattern !== undefined && typeof pattern !== 'string') throw wrong(at, `pattern: received ${show(pattern)}`);
      const inside = regexGrammar(known ?? (pattern as string), asJson, `responseFormat: schema: ${at}`, !known);
      return sequence([literal('"'), this.rules.define(inside), literal('"')]);
    }
    return sized ? sequence([literal('"'), repeated(this.json.char, least, most), literal('"')]) : this.json.string;
  }

  private array(schema: Schema, at: string): string {
    const [least, most] = counts(schema, 'minItems', 'maxItems', at);
    const { prefixItems = [] } = schema;
    if (!Array.isArray(prefixItems)) throw wrong(at, `prefixItems: expected an array, received ${show(prefixItems)}`);
    // A tuple is taken to be meant whole, where nothing else is said.
    const items = schema.items ?? (prefixItems.length === 0 || least > prefixItems.length);
    const first = prefixItems.slice(0, most).map((s, i) => this.value(s, `${at}/prefixItems/${i}`));
    const open = items !== false && most > first.length;
    if (!open && least > first.length) throw wrong(at, `minItems ${least}, and no items for them`);
    const { ws, comma } = this.json;
    const item = open ? this.value(items, `${at}/items`) : '';
    const more = (already: number): string => {
      if (!open) return '""';
      const [from, to] = [Math.max(0, least - already), most - already];
      if (already > 0) return repeated(sequence([comma, item]), from, to);
      const some = sequence([item, repeated(sequence([comma, item]), Math.max(0, from - 1), to - 1)]);
      return from > 0 ? some : choice(['""', some]);
    };
    // Of the first items as many as there must be, then one more and one more.
    let rest = more(first.length);
    for (let i = first.length - 1; i >= 0; i--) {
      const with_ = sequence(i === 0 ? [first[0]!, rest] : [comma, first[i]!, rest]);
      const optional = schema.minItems !== undefined && i >= least;
      rest = this.rules.define(optional ? choice(['""', with_]) : with_);
    }
    return sequence(['"["', ws, rest, ws, '"]"']);
  }

  private object(schema: Schema, at: string): string {
    const { properties = {}, required = [], patternProperties, additionalProperties } = schema;
    if (!isObject(properties)) throw wrong(at, `properties: expected an object, received ${show(properties)}`);
    if (!Array.isArray(required) || !required.every((name) => typeof name === 'string'))
      throw wrong(at, `required: expected an array of names, received ${show(required)}`);
    const [least, most] = counts(schema, 'minProperties', 'maxProperties', at);
    const listed: Schema = { ...properties };
    const other = additionalProperties ?? true;
    for (const name of required as string[])
      if (!Object.hasOwn(listed, name)) {
        if (other === false) throw wrong(at, `required: ${show(name)} is no property`);
        listed[name] = other;
      }
    const names = Object.keys(listed);
    const open = additionalProperties ?? names.length === 0;
    const pairs = names.map((name) =>
      this.pair(literal(JSON.stringify(name)), this.value(listed[name], `${at}/properties/${name}`)),
    );
    const extra = patternProperties === undefined ? this.other(open, names, at) : this.byPattern(schema, names, at);
    if (names.length === 0) return this.braces(this.counted(extra, least, most, at));
    const must = names.map((name) => (required as string[]).includes(name));
    const sure = must.filter(Boolean).length;
    if (least > sure || most < names.length || (extra && most < Infinity))
      return this.braces(this.fewer(pairs, must, extra, least, most, at));
    return this.braces(this.listed(pairs, must, extra));
  }

  private pair(key: string, value: string): string {
    return this.rules.define(sequence([key, this.json.colon, value]));
  }

  private braces(inside: string): string {
    const { ws } = this.json;
    return sequence(['"{"', ws, inside, ws, '"}"']);
  }

  /** A pair by patternProperties. */
  private byPattern({ patternProperties, additionalProperties }: Schema, names: readonly string[], at: string): string {
    const place = `${at}/patternProperties`;
    if (!isObject(patternProperties)) throw wrong(place, `expected an object, received ${show(patternProperties)}`);
    const patterns = Object.entries(patternProperties);
    if (patterns.length !== 1 || names.length > 0 || isObject(additionalProperties))
      throw wrong(place, 'supported is one pattern, without properties and a schema of additionalProperties beside it');
    const [pattern, schema] = patterns[0]!;
    const inside = regexGrammar(pattern, asJson, `responseFormat: schema: ${place}`, true);
    const key = sequence([literal('"'), this.rules.define(inside), literal('"')]);
    return this.pair(key, this.value(schema, `${place}/${pattern}`));
  }

  /** A pair whose key is not listed; undefined: there are none. */
  private other(schema: unknown, names: readonly string[], at: string): string | undefined {
    if (schema === false) return undefined;
    return this.pair(this.keyBut(names), this.value(schema, `${at}/additionalProperties`));
  }

  private counted(extra: string | undefined, least: number, most: number, at: string): string {
    if (!extra) {
      if (least > 0) throw wrong(at, `minProperties ${least}, and no properties for them`);
      return '""';
    }
    if (most === 0) return '""';
    const some = sequence([extra, repeated(sequence([this.json.comma, extra]), Math.max(0, least - 1), most - 1)]);
    return least > 0 ? some : choice(['""', some]);
  }

  /** Listed pairs in order, those that need not be there left out or not, then others. */
  private listed(pairs: readonly string[], must: readonly boolean[], extra: string | undefined): string {
    const { comma } = this.json;
    const others = extra ? repeated(sequence([comma, extra]), 0, Infinity) : '""';
    // after[i]: what may follow once something stands there; before[i]: while nothing does.
    let after = this.rules.define(others);
    let before = extra ? choice(['""', sequence([extra, others])]) : '""';
    for (let i = pairs.length - 1; i >= 0; i--) {
      const [first, next] = [sequence([pairs[i]!, after]), sequence([comma, pairs[i]!, after])];
      before = this.rules.define(must[i] ? first : choice([first, before]));
      after = this.rules.define(must[i] ? next : choice([next, after]));
    }
    return before;
  }

  /** The same with as many as minProperties and maxProperties say. */
  private fewer(
    pairs: readonly string[],
    must: readonly boolean[],
    extra: string | undefined,
    least: number,
    most: number,
    at: string,
  ): string {
    const { comma } = this.json;
    const made = new Map<string, string | undefined>();
    const from = (i: number, count: number): string | undefined => {
      const key = `${i},${count}`;
      if (made.has(key)) return made.get(key);
      const parts: string[] = [];
      const lead = (pair: string) => (count > 0 ? [comma, pair] : [pair]);
      if (i === pairs.length) {
        const [a, b] = [Math.max(0, least - count), most - count];
        if (b >= 0 && a === 0) parts.push('""');
        if (extra && b > 0)
          parts.push(sequence([...lead(extra), repeated(sequence([comma, extra]), Math.max(0, a - 1), b - 1)]));
      } else {
        const taken = count < most ? from(i + 1, count + 1) : undefined;
        if (taken !== undefined) parts.push(sequence([...lead(pairs[i]!), taken]));
        const left = must[i] ? undefined : from(i + 1, count);
        if (left !== undefined) parts.push(left);
      }
      const rule = parts.length > 0 ? this.rules.define(choice(parts)) : undefined;
      made.set(key, rule);
      return rule;
    };
    const all = from(0, 0);
    if (all === undefined) throw wrong(at, 'no number of properties is right');
    return all;
  }

  /** A key that is none of these, without escapes, which could spell one of them. */
  private keyBut(names: readonly string[]): string {
    if (names.length === 0) return this.json.string;
    const quote = literal('"');
    const barred = union([[0, 0x1f]], one('"'), one('\\'));
    const rest = this.rules.define(sequence([repeated(this.json.plain, 0, Infinity), quote]));
    const but = (left: readonly string[][]): string => {
      const ends = left.some((chars) => chars.length === 0);
      const next = [...new Set(left.filter((chars) => chars.length > 0).map((chars) => chars[0]!))];
      const parts = [sequence([this.json.plainBut(union(barred, ...next.map(one))), rest])];
      if (!ends) parts.push(quote);
      for (const char of next.filter((c) => !barredChar(c)))
        parts.push(sequence([literal(char), but(left.filter((c) => c[0] === char).map((c) => c.slice(1)))]));
      return this.rules.define(choice(parts));
    };
    return sequence([quote, but(names.map((name) => [...name]))]);
  }
}

const barredChar = (char: string): boolean => char < ' ' || char === '"' || char === '\\';

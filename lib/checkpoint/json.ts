// JSON as checkpoints contain it: with Python's bare NaN, Infinity and -Infinity, errors that tell line and column, and
// a choice about duplicate keys, none of which JSON.parse offers.
import { show } from '../errors.js';
import type { Turns } from '../turns.js';
import { checkpointError } from './stored.js';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

const maxDepth = 64;
/** Of one value of a long object: what a tensor's entry holds is some ten. */
const maxItems = 100_000;
/** Items of long containers between looks at the clock. */
const piece = 256;
const spaces = /[ \t\r\n]*/y;
const numberPattern = /-?(?:Infinity|(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)/y;
const wordPattern = /[A-Za-z]+/y;
const words: Record<string, Json> = { null: null, true: true, false: false, NaN: Number.NaN };

/** An object's text. Python keeps the last of duplicate keys; a header that has some is lying. */
export function parseJsonObject(text: string, where: string, duplicates: 'last' | 'refuse'): JsonObject {
  const parser = new Parser(text, where, duplicates);
  const value = parser.document();
  if (!isJsonObject(value)) throw checkpointError(where, `expected a JSON object, received ${show(value)}`);
  return value;
}

/**
 * The same for an object of very many small values: the event loop turns in between. ERR_CHECKPOINT for duplicate keys
 * and for a single value that holds too much.
 */
export async function parseLongJsonObject(text: string, where: string, turns: Turns): Promise<JsonObject> {
  const parser = new Parser(text, where, 'refuse', maxItems);
  const object: JsonObject = {};
  for (const [key, value] of parser.entries()) {
    object[key] = value;
    const pause = turns.due();
    if (pause) await pause;
  }
  return object;
}

/** Any JSON, however its values lie in each other; the event loop turns in between. */
export async function parseLongJson(
  text: string,
  where: string,
  duplicates: 'last' | 'refuse',
  turns: Turns,
): Promise<Json> {
  const parsing = new Parser(text, where, duplicates).pieces();
  for (;;) {
    const { done, value } = parsing.next();
    if (done) return value;
    const pause = turns.due();
    if (pause) await pause;
  }
}

export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

class Parser {
  private at = 0;

  constructor(
    private readonly text: string,
    private readonly where: string,
    private readonly duplicates: 'last' | 'refuse',
    private readonly maxItems = Number.POSITIVE_INFINITY,
  ) {}

  private count = 0;

  document(): Json {
    const value = this.value(0);
    this.space();
    if (this.at < this.text.length) throw this.unexpected('the end');
    return value;
  }

  /** The members of a document that is an object, one by one. */
  *entries(): Generator<[string, Json]> {
    this.space();
    if (this.text[this.at] !== '{') throw this.unexpected('a JSON object');
    const keys = new Set<string>();
    for (const first of this.items('}')) {
      this.count = 0;
      yield this.member(first, 0, (key) => keys.size === keys.add(key).size);
    }
    this.space();
    if (this.at < this.text.length) throw this.unexpected('the end');
  }

  /** The document, given back in between as often as a piece of it is read. */
  *pieces(): Generator<undefined, Json> {
    const value = yield* this.longValue(0);
    this.space();
    if (this.at < this.text.length) throw this.unexpected('the end');
    return value;
  }

  private *longValue(depth: number): Generator<undefined, Json> {
    this.space();
    if (depth > maxDepth) throw this.error(`expected at most ${maxDepth} levels of nesting`);
    const open = this.text[this.at];
    if (open === '[') {
      const array: Json[] = [];
      for (const _ of this.items(']')) {
        array.push(this.isContainer() ? yield* this.longValue(depth + 1) : this.value(depth + 1));
        if (++this.count % piece === 0) yield;
      }
      return array;
    }
    if (open !== '{') return this.value(depth);
    const object: JsonObject = Object.create(null); // any name is a key like others
    for (const first of this.items('}')) {
      const key = this.key(first, (name) => Object.hasOwn(object, name), true);
      object[key] = this.isContainer() ? yield* this.longValue(depth + 1) : this.value(depth + 1);
      if (++this.count % piece === 0) yield;
    }
    return object;
  }

  private isContainer(): boolean {
    this.space();
    return this.text[this.at] === '{' || this.text[this.at] === '[';
  }

  private value(depth: number): Json {
    this.space();
    if (++this.count > this.maxItems) throw this.error(`expected a value of at most ${this.maxItems} parts`);
    if (depth > maxDepth) throw this.error(`expected at most ${maxDepth} levels of nesting`);
    switch (this.text[this.at]) {
      case '{':
        return this.object(depth);
      case '[':
        return this.array(depth);
      case '"':
        return this.string();
      default:
        return this.scalar();
    }
  }

  private object(depth: number): JsonObject {
    const object: JsonObject = {};
    for (const first of this.items('}')) {
      const [key, value] = this.member(first, depth, (name) => Object.hasOwn(object, name));
      object[key] = value;
    }
    return object;
  }

  private member(first: boolean, depth: number, known: (key: string) => boolean): [string, Json] {
    return [this.key(first, known), this.value(depth + 1)];
  }

  private key(first: boolean, known: (key: string) => boolean, anyName = false): string {
    if (!first) this.space();
    const keyAt = this.at;
    if (this.text[this.at] !== '"') throw this.unexpected('a key in double quotes');
    const key = this.string();
    if (key === '__proto__' && !anyName) throw this.error('the key "__proto__" is refused', keyAt);
    if (this.duplicates === 'refuse' && known(key)) throw this.error(`the key ${show(key)} stands twice`, keyAt);
    this.space();
    this.expect(':');
    return key;
  }

  private array(depth: number): Json[] {
    const array: Json[] = [];
    for (const _ of this.items(']')) array.push(this.value(depth + 1));
    return array;
  }

  /** Steps over the opening bracket, then yields in front of every item, and ends behind the closing one. */
  private *items(close: string): Generator<boolean> {
    this.at++;
    this.space();
    if (this.text[this.at] === close) {
      this.at++;
      return;
    }
    for (let first = true; ; first = false) {
      yield first;
      this.space();
      if (this.text[this.at] === close) break;
      if (this.text[this.at] !== ',') throw this.unexpected(`"," or "${close}"`);
      this.at++;
    }
    this.at++;
  }

  private string(): string {
    const start = this.at++;
    for (let code = 0; code !== 34; this.at++) {
      if (this.at >= this.text.length) throw this.error('this string has no end', start);
      code = this.text.charCodeAt(this.at);
      if (code < 32) throw this.error('expected no control characters inside a string');
      if (code === 92) this.at++;
    }
    const literal = this.text.slice(start, this.at);
    if (!literal.includes('\\')) return literal.slice(1, -1);
    try {
      return JSON.parse(literal);
    } catch {
      throw this.error('expected valid escapes inside a string', start);
    }
  }

  private scalar(): Json {
    const number = this.match(numberPattern);
    if (number !== undefined) return Number(number);
    const start = this.at;
    const word = this.match(wordPattern);
    if (word !== undefined && Object.hasOwn(words, word)) return words[word]!;
    this.at = start;
    throw this.unexpected('a value');
  }

  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    this.at += found?.length ?? 0;
    return found;
  }

  private space(): void {
    spaces.lastIndex = this.at;
    this.at += spaces.exec(this.text)![0].length;
  }

  private expect(character: string): void {
    if (this.text[this.at] !== character) throw this.unexpected(`"${character}"`);
    this.at++;
  }

  private unexpected(wanted: string) {
    const rest = this.text.slice(this.at, this.at + 12).split(/[\s,\]}]/, 1)[0] || this.text[this.at];
    return this.error(`expected ${wanted}, received ${rest === undefined ? 'the end' : show(rest)}`);
  }

  private error(what: string, at = this.at) {
    const before = this.text.slice(0, at);
    const line = before.split('\n').length;
    const column = at - before.lastIndexOf('\n');
    return checkpointError(`${this.where}:${line}:${column}`, what);
  }
}

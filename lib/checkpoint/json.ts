// JSON as checkpoints contain it: with Python's bare NaN, Infinity and -Infinity, errors that tell line and column, and
// a choice about duplicate keys, none of which JSON.parse offers.
import { show } from '../errors.js';
import { checkpointError } from './stored.js';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

const maxDepth = 64;
/** Characters that are read without a look at the clock: less than a millisecond of work. */
export const PIECE = 1 << 14;
const spaces = /[ \t\r\n]{0,16384}/y;
const numberPattern = /-?(?:Infinity|(?:0|[1-9]\d{0,999})(?:\.\d{1,999})?(?:[eE][+-]?\d{1,9})?)/y;
const wordPattern = /[A-Za-z]+/y;
const words: Record<string, Json> = { null: null, true: true, false: false, NaN: Number.NaN };

/** An object's text. Python keeps the last of duplicate keys; a header that has some is lying. */
export function parseJsonObject(text: string, where: string, duplicates: 'last' | 'refuse'): JsonObject {
  const parser = new Parser(text, where, duplicates);
  const value = parser.document();
  if (!isJsonObject(value)) throw checkpointError(where, `expected a JSON object, received ${show(value)}`);
  return value;
}

export function isJsonObject(value: Json | ReadonlyMap<string, Json> | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Map);
}

/** What reads a text; see LongParser for one of many megabytes. */
export class Parser {
  protected at = 0;
  /** Up to here lines are counted; the line that begins last begins at `lineStart`. */
  private counted = 0;
  private line = 1;
  private lineStart = 0;
  /** Whether any name is a key like others, in objects without a prototype. */
  protected readonly anyName: boolean = false;

  constructor(
    protected readonly text: string,
    private readonly where: string,
    private readonly duplicates: 'last' | 'refuse',
  ) {}

  document(): Json {
    const value = this.value(0);
    this.space();
    this.checkEnd();
    return value;
  }

  protected value(depth: number): Json {
    this.space();
    this.checkDepth(depth);
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

  protected newObject(): JsonObject {
    return this.anyName ? Object.create(null) : {};
  }

  private object(depth: number): JsonObject {
    const object = this.newObject();
    this.at++;
    for (let first = true; !this.closes('}', first); first = false) {
      this.space();
      const keyAt = this.at;
      this.checkKeyBegins();
      const key = this.string();
      this.checkKey(key, keyAt, Object.hasOwn(object, key));
      this.space();
      this.expect(':');
      object[key] = this.value(depth + 1);
    }
    return object;
  }

  private array(depth: number): Json[] {
    const array: Json[] = [];
    this.at++;
    for (let first = true; !this.closes(']', first); first = false) array.push(this.value(depth + 1));
    return array;
  }

  /** Steps over the closing bracket of a container, or over the comma before its next item. */
  protected closes(close: string, first: boolean): boolean {
    this.space();
    const found = this.text[this.at] === close;
    if (!found && !first && this.text[this.at] !== ',') throw this.unexpected(`"," or "${close}"`);
    if (found || !first) this.at++;
    return found;
  }

  private string(): string {
    const start = this.at++;
    for (let code = 0; code !== 34; this.at++) {
      if (this.at >= this.text.length) throw this.error('this string has no end', start);
      code = this.text.charCodeAt(this.at);
      if (code < 32) throw this.error('expected no control characters inside a string');
      if (code === 92) this.at++;
    }
    return this.unescaped(this.text.slice(start + 1, this.at - 1), start);
  }

  /** What stands between quotes, or a part of it that cuts no escape. */
  protected unescaped(raw: string, start: number): string {
    if (!raw.includes('\\')) return raw;
    try {
      return JSON.parse(`"${raw}"`);
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

  protected space(): void {
    while (this.spaceOfPiece());
  }

  /** Steps over spaces; whether there may be more of them. */
  protected spaceOfPiece(): boolean {
    if (this.text.charCodeAt(this.at) > 32) return false;
    spaces.lastIndex = this.at;
    const { length } = spaces.exec(this.text)![0];
    this.at += length;
    return length === PIECE;
  }

  protected checkDepth(depth: number): void {
    if (depth > maxDepth) throw this.error(`expected at most ${maxDepth} levels of nesting`);
  }

  protected checkKeyBegins(): void {
    if (this.text[this.at] !== '"') throw this.unexpected('a key in double quotes');
  }

  protected checkKey(key: string, keyAt: number, isKnown: boolean): void {
    if (key === '__proto__' && !this.anyName) throw this.error('the key "__proto__" is refused', keyAt);
    if (this.duplicates === 'refuse' && isKnown) throw this.error(`the key ${show(key)} stands twice`, keyAt);
  }

  protected checkEnd(): void {
    if (this.at < this.text.length) throw this.unexpected('the end');
  }

  protected expect(character: string): void {
    if (this.text[this.at] !== character) throw this.unexpected(`"${character}"`);
    this.at++;
  }

  protected unexpected(wanted: string) {
    const rest = this.text.slice(this.at, this.at + 12).split(/[\s,\]}]/, 1)[0] || this.text[this.at];
    return this.error(`expected ${wanted}, received ${rest === undefined ? 'the end' : show(rest)}`);
  }

  /** Strings hold no line breaks: one that begins before what is counted begins in the same line. */
  protected error(what: string, at = this.at) {
    this.countLines(at);
    return checkpointError(`${this.where}:${this.line}:${at - this.lineStart + 1}`, what);
  }

  protected countLines(upTo = this.at): void {
    const text = this.text.slice(this.counted, upTo);
    for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) {
      this.line++;
      this.lineStart = this.counted + i + 1;
    }
    this.counted = Math.max(this.counted, upTo);
  }
}

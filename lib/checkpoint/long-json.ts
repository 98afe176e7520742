// JSON of many megabytes, which the event loop must not wait for: headers, indexes, vocabularies.
import type { Turns } from '../turns.js';
import { type Json, type JsonObject, Parser, PIECE } from './json.js';

/** Objects as {@link Json}, those under some keys as maps. */
export type LongJson = Json | ReadonlyMap<string, Json>;

export interface LongOptions {
  turns: Turns;
  /** Keys whose objects become maps: walking over a large object gathers all of its keys first, which holds the event loop. */
  maps?: readonly string[];
}

/**
 * Any JSON, however its values lie in each other and however long they are; the event loop turns in between.
 * @public
 */
export async function parseLongJson(
  text: string,
  where: string,
  { duplicates, turns, maps }: LongOptions & { duplicates: 'last' | 'refuse' },
): Promise<LongJson> {
  const reading = new LongParser(text, where, duplicates, maps).pieces();
  for (;;) {
    const { done, value } = reading.next();
    if (done) return value;
    const pause = turns.due();
    if (pause) await pause;
  }
}

/** The same for an object, whose members are handed over one by one. ERR_CHECKPOINT for duplicate keys. */
export async function readMembers(
  text: string,
  where: string,
  { turns, maps }: LongOptions,
  visit: (key: string, value: LongJson) => void,
): Promise<void> {
  for (const member of new LongParser(text, where, 'refuse', maps).members()) {
    if (member) visit(...member);
    const pause = turns.due();
    if (pause) await pause;
  }
}

type Member = [key: string, value: LongJson];

/** Gives its caller a turn after every piece of the text; what ends within a piece is read as short texts are. */
class LongParser extends Parser {
  protected override readonly anyName = true;
  /** Where the caller had its last turn. */
  private turned = 0;

  constructor(
    text: string,
    where: string,
    duplicates: 'last' | 'refuse',
    private readonly maps: readonly string[] = [],
  ) {
    super(text, where, duplicates);
  }

  *pieces(): Generator<undefined, LongJson> {
    const value = yield* this.longValue(0, false);
    while (this.spaceOfPiece()) yield this.turn();
    this.checkEnd();
    return value;
  }

  /** The members of a document that is an object. */
  *members(): Generator<Member | undefined> {
    while (this.spaceOfPiece()) yield this.turn();
    if (this.text[this.at] !== '{') throw this.unexpected('a JSON object');
    const keys = new Set<string>();
    for (const member of this.membersHere(0, (key) => keys.has(key))) {
      if (member) keys.add(member[0]);
      yield member;
    }
    while (this.spaceOfPiece()) yield this.turn();
    this.checkEnd();
  }

  private *longValue(depth: number, asMap: boolean): Generator<undefined, LongJson> {
    while (this.spaceOfPiece()) yield this.turn();
    if (this.at - this.turned > PIECE) yield this.turn();
    const open = this.text[this.at];
    const isLong = (open === '{' && asMap) || (/["[{]/.test(open ?? '') && !this.isShort());
    if (!isLong) return this.value(depth);
    if (open === '"') return yield* this.longString();
    this.checkDepth(depth);
    if (open === '[') return yield* this.longArray(depth);
    return yield* asMap ? this.longMap(depth) : this.longObject(depth);
  }

  private *longArray(depth: number): Generator<undefined, Json[]> {
    const array: Json[] = [];
    this.at++;
    for (let first = true; ; first = false) {
      while (this.spaceOfPiece()) yield this.turn();
      if (this.closes(']', first)) return array;
      array.push((yield* this.longValue(depth + 1, false)) as Json);
    }
  }

  private *longObject(depth: number): Generator<undefined, JsonObject> {
    const object = this.newObject();
    for (const member of this.membersHere(depth, (key) => Object.hasOwn(object, key))) {
      if (member) object[member[0]] = member[1] as Json;
      else yield;
    }
    return object;
  }

  private *longMap(depth: number): Generator<undefined, ReadonlyMap<string, Json>> {
    const map = new Map<string, Json>();
    for (const member of this.membersHere(depth, (key) => map.has(key))) {
      if (member) map.set(member[0], member[1] as Json);
      else yield;
    }
    return map;
  }

  private *membersHere(depth: number, isKnown: (key: string) => boolean): Generator<Member | undefined> {
    this.at++;
    for (let first = true; ; first = false) {
      while (this.spaceOfPiece()) yield this.turn();
      if (this.closes('}', first)) return;
      while (this.spaceOfPiece()) yield this.turn();
      const keyAt = this.at;
      this.checkKeyBegins();
      const key = this.isShort() ? (this.value(0) as string) : yield* this.longString();
      this.checkKey(key, keyAt, isKnown(key));
      while (this.spaceOfPiece()) yield this.turn();
      this.expect(':');
      yield [key, yield* this.longValue(depth + 1, this.maps.includes(key))];
    }
  }

  private *longString(): Generator<undefined, string> {
    const start = this.at++;
    const parts: string[] = [];
    for (let code = 0; code !== 34; yield this.turn()) {
      const from = this.at;
      while (this.at < from + PIECE) {
        if (this.at >= this.text.length) throw this.error('this string has no end', start);
        code = this.text.charCodeAt(this.at);
        if (code < 32) throw this.error('expected no control characters inside a string');
        if (code === 34) break;
        const escaped = code === 92 ? this.text[this.at + 1] : undefined;
        this.at += escaped === undefined ? 1 : escaped === 'u' ? 6 : 2;
      }
      parts.push(this.unescaped(this.text.slice(from, this.at), start));
    }
    this.at++;
    return parts.join('');
  }

  private turn(): undefined {
    this.countLines();
    this.turned = this.at;
  }

  /** Whether the value here ends within a piece of the text. */
  private isShort(): boolean {
    let depth = 0;
    let isQuoted = false;
    const end = Math.min(this.text.length, this.at + PIECE);
    for (let i = this.at; i < end; i++) {
      const code = this.text.charCodeAt(i);
      if (code === 34) isQuoted = !isQuoted;
      else if (isQuoted && code === 92) i++;
      else if (!isQuoted && (code === 91 || code === 123)) depth++;
      else if (!isQuoted && (code === 93 || code === 125)) depth--;
      else continue;
      if (depth <= 0 && !isQuoted) return true;
    }
    return end === this.text.length;
  }
}

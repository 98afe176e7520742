import { StatespaceError } from '../errors.js';
import {
  type CodePoints,
  choice,
  classOf,
  complement,
  intersection,
  literal,
  one,
  RARE_SPACES,
  repeated,
  sequence,
  union,
  without,
} from './ebnf.js';

/** How a set of characters is written in the text: as it is, or as the inside of a JSON string. */
export type Writing = (set: CodePoints) => string;

export const asText: Writing = (set) => classOf(set);

const ESCAPED: CodePoints = union([[0, 0x1f]], one('"'), one('\\'));
const SHORT = new Map([...'"\\/bfnrt'].map((c, i) => ['"\\/\b\f\n\r\t'[i]!, c]));

/** Characters that a JSON string cannot hold as they are stand there escaped. */
export const asJson: Writing = (set) => {
  const plain = without(set, ESCAPED);
  const parts = plain.length > 0 ? [classOf(plain)] : [];
  for (const [from, to] of intersection(set, ESCAPED))
    for (let point = from; point <= to; point++) {
      const short = SHORT.get(String.fromCodePoint(point));
      parts.push(literal(short ? `\\${short}` : `\\u${point.toString(16).padStart(4, '0')}`));
    }
  return choice(parts);
};

const DIGIT: CodePoints = [[0x30, 0x39]];
const WORD = union(DIGIT, [[0x41, 0x5a]], [[0x61, 0x7a]], one('_'));
const SPACE = union([[9, 13]], one(' '), RARE_SPACES);
const LINE_ENDS = union(one('\n'), one('\r'), [[0x2028, 0x2029]]);
const CLASSES: Record<string, CodePoints> = {
  ...{ d: DIGIT, w: WORD, s: SPACE, D: complement(DIGIT), W: complement(WORD), S: complement(SPACE) },
};
const CONTROLS: Record<string, string> = { n: '\n', r: '\r', t: '\t', f: '\f', v: '\v', '0': '\0' };
const ANY = complement([]);
const MOST_REPEATS = 10_000;

/**
 * A regular expression of ECMAScript as a grammar of the texts that it matches whole, or (`part`) that hold a match.
 * ERR_ARGUMENT for what is no regular language or looks around.
 */
export function regexGrammar(pattern: string, write: Writing, at: string, part = false): string {
  const reader = new Reader(pattern, write, at);
  const { body, begins, ends } = reader.all();
  if (!part) return body;
  const anything = repeated(write(ANY), 0, Infinity);
  return sequence([...(begins ? [] : [anything]), body, ...(ends ? [] : [anything])]);
}

class Reader {
  private readonly chars: string[];
  private next = 0;

  constructor(
    private readonly pattern: string,
    private readonly write: Writing,
    private readonly at: string,
  ) {
    try {
      new RegExp(pattern, 'u');
    } catch (error) {
      throw this.wrong((error as Error).message);
    }
    this.chars = [...pattern];
  }

  /** Anchors may stand at the beginning and the end of the whole only. */
  all(): { body: string; begins: boolean; ends: boolean } {
    const begins = this.take('^');
    const ends = this.chars.at(-1) === '$' && !/(^|[^\\])(\\\\)*\\\$$/.test(this.pattern);
    if (ends) this.chars.pop();
    const body = this.alternatives(begins || ends);
    if (this.next < this.chars.length) throw this.wrong(`'${this.chars[this.next]}' is not expected there`);
    return { body, begins, ends };
  }

  private alternatives(anchored = false): string {
    const parts = [this.series()];
    while (this.take('|')) parts.push(this.series());
    // `^a|b$` anchors one alternative each: then only `^(a|b)$` says what is meant.
    if (anchored && parts.length > 1) throw this.wrong('put the alternatives between ^ and $ into a group');
    return choice(parts);
  }

  private series(): string {
    const parts: string[] = [];
    while (this.next < this.chars.length && this.chars[this.next] !== '|' && this.chars[this.next] !== ')')
      parts.push(this.quantified());
    return sequence(parts);
  }

  private quantified(): string {
    const part = this.atom();
    const [least, most] = this.quantifier();
    this.take('?'); // lazy: the same texts
    return repeated(part, least, most);
  }

  private quantifier(): [number, number] {
    if (this.take('*')) return [0, Infinity];
    if (this.take('+')) return [1, Infinity];
    if (this.take('?')) return [0, 1];
    if (!this.take('{')) return [1, 1];
    const end = this.chars.indexOf('}', this.next);
    const [from, to] = this.chars.slice(this.next, end).join('').split(',');
    this.next = end + 1;
    const [least, most] = [Number(from), to === undefined ? Number(from) : to === '' ? Infinity : Number(to)];
    if (Math.max(least, most === Infinity ? 0 : most) > MOST_REPEATS)
      throw this.wrong(`at most ${MOST_REPEATS} repetitions`);
    return [least, most];
  }

  private atom(): string {
    const char = this.chars[this.next++]!;
    if (char === '(') return this.group();
    if (char === '[') return this.oneOf(this.filled(this.set()));
    if (char === '.') return this.oneOf(complement(LINE_ENDS));
    if (char === '\\') return this.oneOf(this.escape());
    if (char === '^' || char === '$') throw this.wrong(`'${char}' is supported at the beginning and the end only`);
    return this.oneOf(one(char));
  }

  private oneOf(set: CodePoints): string {
    try {
      return this.write(set);
    } catch (why) {
      throw this.wrong((why as Error).message);
    }
  }

  private group(): string {
    if (this.take('?')) {
      if (this.take('<')) {
        if (this.chars[this.next] === '=' || this.chars[this.next] === '!') throw this.wrong('no lookbehind');
        while (this.chars[this.next++] !== '>');
      } else if (!this.take(':')) throw this.wrong('no lookahead and no modifiers');
    }
    const body = this.alternatives();
    this.take(')');
    return `(${body})`;
  }

  private set(): CodePoints {
    const negated = this.take('^');
    let set: CodePoints = [];
    while (!this.take(']')) {
      const from = this.member();
      if (this.chars[this.next] === '-' && this.chars[this.next + 1] !== ']') {
        this.next++;
        const to = this.member();
        set = union(set, [[from[0]![0], to[0]![1]]]);
      } else set = union(set, from);
    }
    return negated ? complement(set) : set;
  }

  private member(): CodePoints {
    const char = this.chars[this.next++]!;
    return char === '\\' ? this.escape(true) : one(char);
  }

  private escape(inSet = false): CodePoints {
    const char = this.chars[this.next++]!;
    if (CLASSES[char]) return CLASSES[char];
    if (inSet && char === 'b') return one('\b');
    if (CONTROLS[char] !== undefined) return one(CONTROLS[char]);
    if (char === 'x') return this.code(2);
    if (char === 'u') {
      if (!this.take('{')) return this.code(4);
      const end = this.chars.indexOf('}', this.next);
      const set = this.code(end - this.next);
      this.next++;
      return set;
    }
    if (char === 'c') return [[this.chars[this.next]!.charCodeAt(0) & 31, this.chars[this.next++]!.charCodeAt(0) & 31]];
    if (/[A-Za-z1-9]/.test(char)) throw this.wrong(`\\${char} is not supported`);
    return one(char);
  }

  private code(digits: number): CodePoints {
    const point = Number.parseInt(this.chars.slice(this.next, this.next + digits).join(''), 16);
    this.next += digits;
    return [[point, point]];
  }

  private filled(set: CodePoints): CodePoints {
    if (set.length === 0) throw this.wrong('an empty class matches nothing');
    return set;
  }

  private take(char: string): boolean {
    if (this.chars[this.next] !== char) return false;
    this.next++;
    return true;
  }

  private wrong(why: string): StatespaceError {
    return new StatespaceError('ERR_ARGUMENT', `${this.at}: /${this.pattern}/: ${why}`);
  }
}

// Cuts a template into text and the tokens of its tags, by Jinja's rules with trim_blocks and lstrip_blocks, as
// transformers sets them: a block takes the newline after it and the blanks before it on its line.
import { TemplateError } from './values.js';

export interface Token {
  kind:
    | 'data'
    | 'variable'
    | 'variable end'
    | 'block'
    | 'block end'
    | 'name'
    | 'string'
    | 'integer'
    | 'float'
    | 'op'
    | 'end';
  text: string;
  line: number;
}

/** Python's str.isspace(). */
export const SPACE = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const trailing = new RegExp(`[${SPACE}]+$`);
const leading = new RegExp(`^[${SPACE}]+`);
const blank = new RegExp(`^[${SPACE}]+$`);

const RAW = new RegExp(`[${SPACE}]*raw[${SPACE}]*-?%}`, 'y');
const OPENINGS = /\{\{|\{%|\{#/g;
const CLOSED: Record<string, string> = { '(': ')', '[': ']', '{': '}' };
const tokens: [Token['kind'] | 'space', RegExp][] = [
  ['space', new RegExp(`[${SPACE}]+`, 'y')],
  ['float', /(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy],
  ['integer', /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy],
  ['name', /[\p{L}\p{N}_]+/uy],
  ['string', /'(?:[^'\\]|\\[\s\S])*'|"(?:[^"\\]|\\[\s\S])*"/y],
  ['op', /\*\*|\/\/|==|!=|>=|<=|[-+/*%~[\](){}><=.:|,;]/y],
];

export function tokenize(source: string): Token[] {
  const text = source.replace(/\r\n|\r/g, '\n').replace(/\n$/, '');
  return new Lexer(text).run();
}

class Lexer {
  private readonly out: Token[] = [];
  private at = 0;
  private line = 1;
  private lineStarting = true;

  constructor(private readonly text: string) {}

  run(): Token[] {
    while (this.at < this.text.length) {
      OPENINGS.lastIndex = this.at;
      const found = OPENINGS.exec(this.text);
      if (!found) {
        this.data(this.text.slice(this.at), this.text.length);
        break;
      }
      const opening = found[0];
      const sign = this.text[found.index + 2];
      this.before(this.text.slice(this.at, found.index), opening, sign, found.index);
      const start = found.index + 2 + (sign === '-' || sign === '+' ? 1 : 0);
      if (opening === '{#') this.comment(start);
      else if (opening === '{%' && this.rawAt(start)) continue;
      else this.tag(opening === '{{' ? 'variable' : 'block', start);
    }
    this.out.push({ kind: 'end', text: 'the end of the template', line: this.line });
    return this.out;
  }

  /** The text before a tag, cut as the tag's sign and lstrip_blocks say. */
  private before(text: string, opening: string, sign: string | undefined, end: number): void {
    let kept = text;
    if (sign === '-') kept = text.replace(trailing, '');
    else if (sign !== '+' && opening !== '{{') {
      const line = text.lastIndexOf('\n') + 1;
      if ((line > 0 || this.lineStarting) && blank.test(text.slice(line))) kept = text.slice(0, line);
    }
    this.data(kept, end);
  }

  private data(text: string, end: number): void {
    if (text !== '') this.out.push({ kind: 'data', text, line: this.line });
    this.advance(end);
  }

  private advance(end: number): void {
    for (let i = this.at; i < end; i++) if (this.text[i] === '\n') this.line++;
    if (end > this.at) this.lineStarting = this.text[end - 1] === '\n';
    this.at = end;
  }

  /** Behind `close`, and the white space that it takes along. */
  private after(close: number, closing: string, trims: boolean): number {
    const sign = this.text[close - 1];
    let end = close + closing.length;
    if (sign === '-') end += leading.exec(this.text.slice(end))?.[0].length ?? 0;
    else if (trims && sign !== '+' && this.text[end] === '\n') end++;
    return end;
  }

  private comment(start: number): void {
    const close = this.text.indexOf('#}', start);
    if (close < 0) throw this.error('a comment {# has no end');
    this.advance(this.after(close, '#}', true));
  }

  /** {% raw %} … {% endraw %}: text as it stands. */
  private rawAt(start: number): boolean {
    RAW.lastIndex = start;
    if (!RAW.test(this.text)) return false;
    let from = RAW.lastIndex;
    if (this.text[from - 3] === '-') from += leading.exec(this.text.slice(from))?.[0].length ?? 0;
    const end = new RegExp(`\\{%([-+]?)[${SPACE}]*endraw[${SPACE}]*[-+]?%\\}`, 'g');
    end.lastIndex = from;
    const closing = end.exec(this.text);
    if (!closing) throw this.error('{% raw %} has no {% endraw %}');
    this.advance(from);
    this.before(this.text.slice(from, closing.index), '{%', closing[1] || undefined, closing.index);
    this.advance(this.after(end.lastIndex - 2, '%}', true));
    return true;
  }

  private tag(kind: 'variable' | 'block', start: number): void {
    const closing = kind === 'variable' ? '}}' : '%}';
    this.out.push({ kind, text: kind === 'variable' ? '{{' : '{%', line: this.line });
    this.advance(start);
    const open: string[] = [];
    for (;;) {
      const close = this.closingAt(closing);
      if (close >= 0 && open.length === 0) {
        this.out.push({ kind: `${kind} end`, text: closing, line: this.line });
        this.advance(this.after(close, closing, kind === 'block'));
        return;
      }
      const token = this.token();
      if (token.kind !== 'op') continue;
      if (CLOSED[token.text]) open.push(CLOSED[token.text]!);
      else if (')]}'.includes(token.text) && open.pop() !== token.text) throw this.error(`unexpected '${token.text}'`);
    }
  }

  /** Where the tag's closing mark stands, if that is next; its sign belongs to it. */
  private closingAt(closing: string): number {
    if (this.text.startsWith(closing, this.at)) return this.at;
    const signed = '-+'.includes(this.text[this.at] ?? ' ') && this.text.startsWith(closing, this.at + 1);
    return signed ? this.at + 1 : -1;
  }

  private token(): Token {
    for (const [kind, pattern] of tokens) {
      pattern.lastIndex = this.at;
      const text = pattern.exec(this.text)?.[0];
      if (text === undefined) continue;
      const token = { kind: kind as Token['kind'], text, line: this.line };
      if (kind !== 'space') this.out.push(token);
      this.advance(this.at + text.length);
      return token;
    }
    const rest = this.text.slice(this.at, this.at + 10);
    throw this.error(rest === '' ? 'a tag has no end' : `unexpected ${JSON.stringify(rest)}`);
  }

  private error(what: string): TemplateError {
    return new TemplateError(`line ${this.line}: ${what}`);
  }
}

const SIMPLE: Record<string, string> = {
  n: '\n',
  t: '\t',
  r: '\r',
  a: '\x07',
  b: '\b',
  f: '\f',
  v: '\v',
  '\\': '\\',
  "'": "'",
  '"': '"',
  '\n': '',
};

/** The text of a string literal: Python's escapes, unknown ones left as they stand. */
export function unquote(literal: string): string {
  return literal
    .slice(1, -1)
    .replace(/\\(x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|[0-7]{1,3}|[\s\S])/g, (whole, code: string) => {
      if (/^[xuU]./.test(code)) return String.fromCodePoint(Number.parseInt(code.slice(1), 16));
      if (/^[0-7]/.test(code)) return String.fromCodePoint(Number.parseInt(code, 8));
      return SIMPLE[code] ?? whole;
    });
}

/**
 * Tokens to text as they come. What is given out is never taken back, and all of it is the text decoded whole; a token
 * costs the same however many came before: only the last few are decoded again, as what stands before a token may decide
 * how it reads (a first word loses its space, bytes join into a character).
 */
import type { Tokenizing } from './network.js';
import type { Stops } from './stops.js';
import { safeLength, tidied } from './tidy.js';

type Decode = (ids: number[]) => string;

const WINDOW = 16;
/** Tokens that are kept of a full window: more than an unfinished character can have bytes. */
const KEPT = 8;
const HALF = '\ufffd';
const CONTEXT = 16;

/** The last of `count` tokens: so many that there is a text among them, where there is one at all. */
export function lastWithText(
  tokenizer: Pick<Tokenizing, 'decode'>,
  count: number,
  tokens: (from: number) => Int32Array,
): Int32Array {
  for (let last = CONTEXT; ; last *= CONTEXT) {
    const ids = tokens(Math.max(0, count - last));
    if (last >= count || tokenizer.decode(ids) !== '') return ids;
  }
}

/** Turns ids into text: holds back the bytes of an unfinished character. */
class Decoding {
  private window: number[] = [];
  private text = '';
  /** Of the window's text, how much was given out, or stood before. */
  private shown = 0;

  constructor(
    private readonly decode: Decode,
    context: ArrayLike<number>,
  ) {
    for (let i = context.length - 1; i >= 0 && this.window.length < KEPT; i--)
      if (this.hasText(context[i]!)) this.window.unshift(context[i]!);
    this.text = decode(this.window);
    this.shown = wholeLength(this.text);
  }

  /** The last text that stood before. */
  get before(): string {
    return this.text.slice(0, this.shown);
  }

  push(id: number): string {
    this.add(id);
    const news = this.news(wholeLength(this.text));
    this.shorten();
    return news;
  }

  /** What a token would add here, that does not come. */
  peek(id: number): string {
    return this.decode([...this.window, id]).slice(this.shown);
  }

  get holds(): boolean {
    return this.shown < this.text.length;
  }

  /** What is left at the end: the bytes of an unfinished character. */
  rest(): string {
    return this.news(this.text.length);
  }

  private add(id: number): void {
    this.window.push(id);
    const text = this.decode(this.window);
    // The second byte of a character adds nothing yet, a space in front nothing at all: both matter to the next token.
    if (text === this.text && !this.hasText(id)) this.window.pop();
    this.text = text;
  }

  /** Whether it is one wherever it stands: a special token is not. */
  private hasText(id: number): boolean {
    return this.decode([id, id, id]) !== '';
  }

  private news(upTo: number): string {
    if (upTo <= this.shown) return '';
    const news = this.text.slice(this.shown, upTo);
    this.shown = upTo;
    return news;
  }

  private shorten(): void {
    if (this.window.length < WINDOW) return;
    const held = this.text.length - this.shown;
    this.window = this.window.slice(-KEPT);
    this.text = this.decode(this.window);
    this.shown = Math.max(0, this.text.length - held);
  }
}

/** Without the mark that an unfinished character leaves at the end: one, however many of its bytes are there. */
const wholeLength = (text: string): number => (text.endsWith(HALF) ? text.length - 1 : text.length);

/** Decoded text in which spaces before full stops and the like are left out, as a folder may ask; see tidy.ts. */
class Tidying {
  private held = '';
  /** What of the tidied `held` stood before, and is shown. */
  private shown: string;

  constructor(before: string) {
    this.held = before.slice(safeLength(before));
    this.shown = tidied(this.held);
  }

  push(news: string): string {
    this.held += news;
    const safe = safeLength(this.held);
    const text = this.after(tidied(this.held.slice(0, safe)), safe > 0);
    this.held = this.held.slice(safe);
    return text;
  }

  get holds(): boolean {
    return this.held.length > this.shown.length;
  }

  rest(): string {
    const text = this.after(tidied(this.held), true);
    this.held = '';
    return text;
  }

  /** Behind what is shown of it; a space that is shown stays, though what follows now would have taken it away. */
  private after(text: string, ends: boolean): string {
    const { shown } = this;
    if (!ends) return '';
    this.shown = '';
    if (text.startsWith(shown)) return text.slice(shown.length);
    let at = 0;
    for (let left = shown.replaceAll(' ', '').length; left > 0 && at < text.length; at++) if (text[at] !== ' ') left--;
    return text.slice(at);
  }
}

/** Decoded text whose stop texts end it: holds back what may become one. */
export class TextStream {
  /** The stop text that came. */
  stopped: string | undefined;
  private readonly decoding: Decoding;
  private readonly tidying: Tidying | undefined;
  private held = '';
  /** Of `held`, where a special token stands that a stop text spells: it may lead to the end, and is no part of the text. */
  private silent: [from: number, to: number][] = [];

  /** context: ids that stand before, of which the last few matter. */
  constructor(
    tokenizer: Pick<Tokenizing, 'decode' | 'tidies'>,
    private readonly stops: Pick<Stops, 'texts'> & Partial<Stops>,
    context: ArrayLike<number> = [],
  ) {
    const { tidies } = tokenizer;
    this.decoding = new Decoding(tidies ?? ((ids) => tokenizer.decode(ids)), context);
    this.tidying = tidies && new Tidying(this.decoding.before);
  }

  /** What this token adds for sure. */
  push(token: number): string {
    const text = this.filter(this.tidy(this.decoding.push(token)));
    const spelled = this.stops.spelled?.get(token);
    return spelled === undefined ? text : text + this.filter(spelled, true);
  }

  /** The text of another token in this place. */
  peek(token: number): string {
    return this.decoding.peek(token);
  }

  /** Whether text waits for what comes next. */
  get holds(): boolean {
    return this.held !== '' || this.decoding.holds || (this.tidying?.holds ?? false);
  }

  /** What was held back; at the end of all, an unfinished character as well. */
  rest(halves = true): string {
    if (this.stopped !== undefined) return '';
    const last = this.tidy(halves ? this.decoding.rest() : '') + (this.tidying?.rest() ?? '');
    const text = this.filter(last);
    return this.stopped === undefined ? text + this.release(this.held, this.held.length) : text;
  }

  private tidy(news: string): string {
    return this.tidying ? this.tidying.push(news) : news;
  }

  private filter(news: string, isSilent = false): string {
    if (this.stopped !== undefined || news === '') return '';
    const text = this.held + news;
    if (isSilent) this.silent.push([this.held.length, text.length]);
    let end = -1;
    for (const stop of this.stops.texts) {
      const at = this.find(text, stop);
      if (at >= 0 && (end < 0 || at < end)) {
        end = at;
        this.stopped = stop;
      }
    }
    if (end >= 0) return this.release(text.slice(0, end), end);
    return this.release(text, text.length - this.beginning(text));
  }

  /** Where it stands first, not cutting a special token in two; -1: nowhere. */
  private find(text: string, stop: string): number {
    const cuts = (at: number) => this.silent.some(([from, to]) => at > from && at < to);
    let at = text.indexOf(stop);
    while (at >= 0 && (cuts(at) || cuts(at + stop.length))) at = text.indexOf(stop, at + 1);
    return at;
  }

  /** Gives out the first `length` characters, without those that are silent, and holds the others. */
  private release(text: string, length: number): string {
    this.held = text.slice(length);
    if (this.silent.length === 0) return text.slice(0, length);
    let shown = '';
    let at = 0;
    for (const [from, to] of this.silent) {
      if (from >= length) break;
      shown += text.slice(at, from);
      at = Math.min(to, length);
    }
    shown += text.slice(at, length);
    const left = this.silent.map(([from, to]) => [Math.max(0, from - length), to - length] as [number, number]);
    this.silent = left.filter(([, to]) => to > 0);
    return shown;
  }

  /** Length of the longest end of `text` that begins a stop text. */
  private beginning(text: string): number {
    let longest = 0;
    for (const stop of this.stops.texts)
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--)
        if (text.endsWith(stop.slice(0, n))) longest = n;
    return longest;
  }
}

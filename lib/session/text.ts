/**
 * Tokens to text as they come. What is given out is never taken back, and all of it is the text decoded whole; a token
 * costs the same however many came before: only the last few are decoded again, as what stands before a token may decide
 * how it reads (a first word loses its space, bytes join into a character).
 */
import { safeLength, tidied } from '../tokenizers/tidy.js';
import { ByteRun } from './byte-run.js';
import type { Tokenizing } from './network.js';
import type { Stops } from './stops.js';

type Decode = (ids: number[]) => string;

const WINDOW = 16;
/** Tokens that are kept of a full window: more than an unfinished character can have bytes. */
const KEPT = 8;
const HALF = '\ufffd';
const CONTEXT = 16;
/** Bytes. */
const LONGEST_CHARACTER = 4;
/** Tokens of bytes that wait for the end of their run. */
const LONGEST_RUN = 64;

/** The last of `count` tokens: so many that there is a text among them, where there is one at all, and none of a run of bytes is left out. */
export function lastWithText(
  tokenizer: Pick<Tokenizing, 'decode' | 'fallbackByte'>,
  count: number,
  tokens: (from: number) => Int32Array,
): Int32Array {
  for (let last = CONTEXT; ; last *= CONTEXT) {
    const ids = tokens(Math.max(0, count - last));
    const isCut = last <= LONGEST_RUN && tokenizer.fallbackByte?.(ids[0]!) !== undefined;
    if (last >= count || (!isCut && tokenizer.decode(ids) !== '')) return ids;
  }
}

/** Turns ids into text: holds back the bytes of an unfinished character. */
class Decoding {
  private window: number[] = [];
  private text = '';
  /** Of the window's text, how much was given out, or stood before. */
  private shown = 0;
  /** Tokens of bytes behind the window that become text together, and how many of them are shown. */
  private run: number[] = [];
  private shownBytes = 0;
  private readonly bytes = new ByteRun();

  constructor(
    private readonly decode: Decode,
    /** Where tokens of bytes become text a run at a time; elsewhere bytes of a character wait for each other. */
    private readonly byteOf: ((id: number) => number | undefined) | undefined,
    context: ArrayLike<number>,
  ) {
    let run: number[] = [];
    for (let i = context.length - 1; i >= 0 && this.window.length < KEPT; i--) {
      const id = context[i]!;
      if (this.window.length > 0 || byteOf?.(id) === undefined) {
        if (this.hasText(id)) this.window.unshift(id);
      } else if (run.length < LONGEST_RUN) run.unshift(id);
      else {
        // Of a longer run the end: a whole character to stand before, and those behind it.
        const characters = this.fromCharacter(run);
        run = this.fromCharacter(characters, 1);
        this.window = characters.slice(0, characters.length - run.length);
        break;
      }
    }
    this.stand(this.window);
    this.shown = this.whole();
    for (const id of run) this.addByte(id, byteOf!(id)!);
    this.showWhole();
    if (this.bytes.isInvalid) this.keepSpoilt(this.bytes.wholeBytes);
  }

  /** The last text that stood before. */
  get before(): string {
    return this.text.slice(0, this.shown);
  }

  push(id: number): string {
    const byte = this.byteOf?.(id);
    if (byte !== undefined) return this.pushByte(id, byte);
    if (this.run.length === 0) return this.pushToken(id);
    return this.hasText(id) ? this.endRun() + this.pushToken(id) : '';
  }

  /** What a token would add here, that does not come. */
  peek(id: number): string {
    const whole = this.run.slice(0, this.bytes.wholeBytes);
    const before = whole.length > 0 ? this.decode([...this.window, ...whole]).length : this.shown;
    return this.decode([...this.window, ...this.run, id]).slice(before);
  }

  get holds(): boolean {
    return this.shown < this.text.length || this.shownBytes < this.run.length;
  }

  /** What is left at the end: the bytes of an unfinished character. */
  rest(): string {
    return this.run.length > 0 ? this.endRun() : this.news(this.text.length);
  }

  /** What is left where a call ends and another may follow: whole characters. */
  restWhole(): string {
    return this.bytes.isInvalid ? '' : this.showWhole();
  }

  private pushToken(id: number): string {
    this.window.push(id);
    const text = this.decode(this.window);
    // The second byte of a character adds nothing yet, a space in front nothing at all: both matter to the next token.
    if (text === this.text && !this.hasText(id)) this.window.pop();
    this.text = text;
    const news = this.news(this.whole());
    this.shorten();
    return news;
  }

  /** Without what comes before the first character that begins at `at` or later. */
  private fromCharacter(ids: readonly number[], at = 0): number[] {
    let from = at;
    while (from < ids.length && ((this.byteOf?.(ids[from]!) ?? 0) & 0xc0) === 0x80) from++;
    return ids.slice(from);
  }

  private addByte(id: number, byte: number): void {
    this.run.push(id);
    this.bytes.push(byte);
  }

  /** Characters wait for the end of the run: one byte that is wrong spoils all of it. Long ones are given out before. */
  private pushByte(id: number, byte: number): string {
    const wasInvalid = this.bytes.isInvalid;
    this.addByte(id, byte);
    if (this.bytes.isInvalid) {
      const halves = this.halves();
      this.keepSpoilt(wasInvalid ? 0 : this.bytes.wholeBytes);
      return halves;
    }
    return this.run.length >= LONGEST_RUN ? this.showWhole() : '';
  }

  /** Of a run that is shown, what is wrong whatever follows: the last byte alone may be a space, which a decoder strips. */
  private keepSpoilt(from: number): void {
    this.run = this.run.slice(from, from + LONGEST_CHARACTER);
    this.shownBytes = this.run.length;
  }

  /** Gives out the run's whole characters, which join the window; without a text yet (a space in front) they wait. */
  private showWhole(): string {
    const whole = this.run.slice(0, this.bytes.wholeBytes);
    if (whole.length === 0) return '';
    const news = this.decode([...this.window, ...whole]).slice(this.shown);
    if (news === '' && this.run.length < LONGEST_RUN) return '';
    const left = this.run.slice(whole.length);
    let from = whole.length - 1;
    while (from > 0 && (this.byteOf!(whole[from]!)! & 0xc0) === 0x80) from--;
    this.stand([...this.fromCharacter(this.window.slice(-KEPT)), ...whole.slice(from)]);
    this.clearRun();
    for (const id of left) this.addByte(id, this.byteOf!(id)!);
    return news;
  }

  private endRun(): string {
    const isWhole = !this.bytes.isInvalid && this.bytes.wholeBytes === this.run.length;
    const window = [...this.window, ...this.run];
    const news = isWhole ? this.decode(window).slice(this.shown) : this.halves();
    this.stand(window.slice(-WINDOW));
    this.clearRun();
    return news;
  }

  private halves(): string {
    return HALF.repeat(this.run.length - this.shownBytes);
  }

  private clearRun(): void {
    this.run = [];
    this.shownBytes = 0;
    this.bytes.clear();
  }

  /** All of the window's text is shown. */
  private stand(window: number[]): void {
    this.window = window;
    this.text = this.decode(window);
    this.shown = this.text.length;
  }

  /** Length of the window's text without the mark that an unfinished character leaves at the end: one, for all its bytes. */
  private whole(): number {
    return this.text.length - (!this.byteOf && this.text.endsWith(HALF) ? 1 : 0);
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
    tokenizer: Pick<Tokenizing, 'decode' | 'tidies' | 'fallbackByte'>,
    private readonly stops: Pick<Stops, 'texts'> & Partial<Stops>,
    context: ArrayLike<number> = [],
  ) {
    const { tidies } = tokenizer;
    this.decoding = new Decoding(tidies ?? ((ids) => tokenizer.decode(ids)), tokenizer.fallbackByte, context);
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
    const last = this.tidy(halves ? this.decoding.rest() : this.decoding.restWhole()) + (this.tidying?.rest() ?? '');
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

/**
 * Tokens to text as they come. What is given out is never taken back, and all of it is the text decoded whole; a token
 * costs the same however many came before: only the last few are decoded again, as what stands before a token may decide
 * how it reads (a first word loses its space, bytes join into a character).
 */
const CONTEXT = 4;
const WINDOW = 16;
const HALF = '\ufffd';

/** Turns ids into text: holds back the bytes of an unfinished character. */
class Decoding {
  private window: number[] = [];
  /** Text of the window that was given out, or stood before. */
  private shown = '';
  private text = '';
  /** Lengths of the window at which its text ended with a whole character. */
  private whole: number[] = [];

  constructor(
    private readonly decode: (ids: number[]) => string,
    context: ArrayLike<number>,
    private readonly tidies: boolean,
  ) {
    for (const id of Array.from(context).slice(-WINDOW)) this.add(id);
    this.shown = withoutHalf(this.text);
  }

  push(id: number): string {
    this.add(id);
    const news = this.news(this.tidies ? settled(this.text) : withoutHalf(this.text));
    this.shorten();
    return news;
  }

  get holds(): boolean {
    return this.shown.length < this.text.length;
  }

  /** What is left at the end; halves: unfinished characters as well. */
  rest(halves: boolean): string {
    return this.news(halves ? this.text : withoutHalf(this.text));
  }

  private add(id: number): void {
    this.window.push(id);
    const text = this.decode(this.window);
    // A token without text is none that stands before the next one.
    if (text === this.text) this.window.pop();
    this.text = text;
    if (!text.endsWith(HALF)) this.whole.push(this.window.length);
  }

  private news(upTo: string): string {
    if (upTo.length <= this.shown.length) return '';
    const news = upTo.slice(this.shown.length);
    this.shown = upTo;
    return news;
  }

  /** Forgets all but the last tokens, from the end of a whole character on. */
  private shorten(): void {
    if (this.window.length < WINDOW) return;
    const from = this.whole.findLast((n) => n <= this.window.length - CONTEXT);
    if (from === undefined && this.window.length < 4 * WINDOW) return;
    const kept = this.window.slice(from ?? -WINDOW);
    const unshown = this.text.length - this.shown.length;
    const text = this.decode(kept);
    this.window = kept;
    this.text = text;
    this.shown = text.slice(0, Math.max(0, text.length - unshown));
    this.whole = text.endsWith(HALF) ? [] : [kept.length];
  }
}

const withoutHalf = (text: string): string => text.replace(/\ufffd{1,4}$/, '');

/** What later tokens cannot change where decoding takes the space before a full stop or `n't` away. */
function settled(text: string): string {
  const whole = withoutHalf(text);
  const at = whole.search(/ +(?:n|n'|'|'v|'r| ?' ?)?$/);
  return at >= 0 ? whole.slice(0, at) : whole;
}

/** Decoded text whose stop texts end it: holds back what may become one. */
export class TextStream {
  /** The stop text that came. */
  stopped: string | undefined;
  private readonly decoding: Decoding;
  private held = '';

  /** context: ids that stand before, of which the last few matter; tidies: decoding takes spaces away again. */
  constructor(
    decode: (ids: number[]) => string,
    private readonly stops: readonly string[],
    context: ArrayLike<number> = [],
    tidies = false,
  ) {
    this.decoding = new Decoding(decode, context, tidies);
  }

  /** What this token adds for sure. */
  push(token: number): string {
    return this.filter(this.decoding.push(token));
  }

  /** Whether text waits for what comes next. */
  get holds(): boolean {
    return this.held !== '' || this.decoding.holds;
  }

  /** What was held back; at the end of all, an unfinished character as well. */
  rest(halves = true): string {
    if (this.stopped !== undefined) return '';
    const text = this.filter(this.decoding.rest(halves)) + this.held;
    this.held = '';
    return text;
  }

  private filter(news: string): string {
    if (this.stopped !== undefined) return '';
    const text = this.held + news;
    let end = -1;
    for (const stop of this.stops) {
      const at = text.indexOf(stop);
      if (at >= 0 && (end < 0 || at < end)) {
        end = at;
        this.stopped = stop;
      }
    }
    const safe = end >= 0 ? end : text.length - this.beginning(text);
    this.held = end >= 0 ? '' : text.slice(safe);
    return text.slice(0, safe);
  }

  /** Length of the longest end of `text` that begins a stop text. */
  private beginning(text: string): number {
    let longest = 0;
    for (const stop of this.stops)
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--)
        if (text.endsWith(stop.slice(0, n))) longest = n;
    return longest;
  }
}

import { checkOptions } from '../options.js';
import type { TokenTable } from './token-table.js';

/** What a token is, by the numbers of GGUF files. */
export const kinds = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

export interface Special {
  readonly text: string;
  readonly id: number;
  /** Found in a text whether special tokens are allowed in it or not. */
  readonly always: boolean;
  /** It takes the white space before it along, or behind it. */
  readonly lstrip?: boolean | undefined;
  readonly rstrip?: boolean | undefined;
}

/** Text without special tokens, to ids that are appended. */
export interface PieceEncoder {
  encode(text: string, out: number[]): void;
}

export interface VocabularyOptions {
  readonly tokens: TokenTable;
  readonly types: Int8Array;
  readonly encoder: PieceEncoder;
  readonly special: readonly Special[];
  readonly bos?: number | undefined;
  readonly eos?: number | undefined;
  /** Where a space is put in front: of the text and of what follows a special token, of the text alone, or nowhere. */
  readonly spacePrefix: 'always' | 'first' | 'never';
  /** None is put in front of what begins with one. */
  readonly oneSpace?: boolean | undefined;
  /** The space of a word stands behind it: normalize() has put it there, and none comes in front. */
  readonly spaceBehind?: boolean | undefined;
  /** What becomes of a piece of text between special tokens before that; whether it begins and ends the text. */
  normalize?(piece: string, isFirst: boolean, isLast: boolean): string;
  /** The bytes that a token stands for in a text. */
  text(id: number): Uint8Array;
}

export interface EncodeOptions {
  /** The marks of beginning and end that the model expects. Default: true. */
  addSpecialTokens?: boolean | undefined;
  /** Special tokens that are written out in the text become those tokens. Default: true. */
  allowSpecial?: boolean | undefined;
}

export interface DecodeOptions {
  /** Leave special tokens out. Default: true. */
  skipSpecialTokens?: boolean | undefined;
}

export const ENCODE_OPTIONS: readonly string[] = ['addSpecialTokens', 'allowSpecial'];
export const DECODE_OPTIONS: readonly string[] = ['skipSpecialTokens'];

/** A tokenizer: special tokens are found first, the text between them is the encoder's. */
export class Vocabulary {
  private readonly marks: readonly Special[];
  private readonly markIds: ReadonlySet<number>;

  /** Ids of control tokens by their texts. */
  readonly control: ReadonlyMap<string, number>;

  constructor(private readonly o: VocabularyOptions) {
    this.control = new Map(o.special.filter((s) => !s.always && s.text !== '').map((s) => [s.text, s.id]));
    this.markIds = new Set(o.special.map((s) => s.id));
    this.marks = o.special.filter((s) => s.text !== '').sort((a, b) => b.text.length - a.text.length);
  }

  encode(text: string, options: EncodeOptions = {}): Int32Array {
    checkOptions('tokenizer.encode', options, ENCODE_OPTIONS);
    const { bos, eos, encoder } = this.o;
    const marked = options.addSpecialTokens ?? true;
    const out: number[] = [];
    if (marked && bos !== undefined) out.push(bos);
    const parts = this.partition(text, options.allowSpecial ?? true);
    for (const [i, part] of parts.entries()) {
      if (typeof part === 'number') {
        out.push(part);
        continue;
      }
      const piece = this.o.normalize?.(part, i === 0, i === parts.length - 1) ?? part;
      if (piece === '') continue;
      const hasSpace = this.o.oneSpace === true && /^[ ▁]/.test(piece);
      encoder.encode(this.isPrefixed(parts, i) && !hasSpace ? ` ${piece}` : piece, out);
    }
    if (marked && eos !== undefined) out.push(eos);
    return Int32Array.from(out);
  }

  private isPrefixed(parts: readonly (string | number)[], i: number): boolean {
    const { spacePrefix, spaceBehind } = this.o;
    if (spaceBehind) return false;
    return spacePrefix === 'first' ? i === 0 : spacePrefix === 'always' && typeof parts[i - 1] !== 'string';
  }

  /** Longer special tokens are looked for before shorter ones, each in all of the text that is left. */
  private partition(text: string, allowed: boolean): (string | number)[] {
    let parts: (string | number)[] = text === '' ? [] : [text];
    for (const mark of this.marks) {
      if (!(allowed || mark.always) || !text.includes(mark.text)) continue;
      parts = parts.flatMap((part) => (typeof part === 'number' ? [part] : splitAt(part, mark)));
    }
    return parts;
  }

  /** What a token adds to a text; undefined for those that are no text. */
  tokenBytes(id: number): Uint8Array | undefined {
    const kind = this.o.types[id];
    const silent = kind === undefined || kind === kinds.control || kind === kinds.unknown || kind === kinds.unused;
    return silent ? undefined : this.o.text(id);
  }

  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    checkOptions('tokenizer.decode', options, DECODE_OPTIONS);
    const skip = options.skipSpecialTokens ?? true;
    const parts: Uint8Array[] = [];
    let first = true;
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      const kind = this.o.types[id];
      if (kind === undefined || (skip && (kind === kinds.control || kind === kinds.unknown))) continue;
      const bytes = this.o.text(id);
      const isText = kind === kinds.normal || (kind === kinds.userDefined && !this.markIds.has(id));
      const marked = this.o.spacePrefix !== 'never' && first && bytes[0] === 32 && isText;
      parts.push(marked ? bytes.subarray(1) : bytes);
      first = false;
    }
    return Buffer.concat(parts).toString('utf8');
  }
}

function splitAt(text: string, { text: mark, id, lstrip, rstrip }: Special): (string | number)[] {
  const parts: (string | number)[] = [];
  const pieces = text.split(mark);
  for (const [i, between] of pieces.entries()) {
    let piece = between;
    if (i > 0) parts.push(id);
    if (i > 0 && rstrip) piece = piece.trimStart();
    if (i < pieces.length - 1 && lstrip) piece = piece.trimEnd();
    if (piece !== '') parts.push(piece);
  }
  return parts;
}

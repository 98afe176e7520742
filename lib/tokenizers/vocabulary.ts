import { checkOptions } from '../options.js';
import type { TokenTable } from './token-table.js';

/** What a token is, by the numbers of GGUF files. */
export const kinds = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

interface Special {
  readonly text: string;
  readonly id: number;
  /** Found in a text whether special tokens are allowed in it or not. */
  readonly always: boolean;
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
  /** A space is put in front of the text, and of what follows a special token. */
  readonly spacePrefix: boolean;
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

  /** Ids of control tokens by their texts. */
  readonly control: ReadonlyMap<string, number>;

  constructor(private readonly o: VocabularyOptions) {
    this.control = new Map(o.special.filter((s) => !s.always && s.text !== '').map((s) => [s.text, s.id]));
    this.marks = o.special.filter((s) => s.text !== '').sort((a, b) => b.text.length - a.text.length);
  }

  encode(text: string, options: EncodeOptions = {}): Int32Array {
    checkOptions('tokenizer.encode', options, ENCODE_OPTIONS);
    const { bos, eos, spacePrefix, encoder } = this.o;
    const marked = options.addSpecialTokens ?? true;
    const out: number[] = [];
    if (marked && bos !== undefined) out.push(bos);
    let first = true;
    for (const part of this.partition(text, options.allowSpecial ?? true)) {
      if (typeof part === 'number') out.push(part);
      else encoder.encode(spacePrefix && first ? ` ${part}` : part, out);
      first = typeof part === 'number';
    }
    if (marked && eos !== undefined) out.push(eos);
    return Int32Array.from(out);
  }

  /** Longer special tokens are looked for before shorter ones, each in all of the text that is left. */
  private partition(text: string, allowed: boolean): (string | number)[] {
    let parts: (string | number)[] = text === '' ? [] : [text];
    for (const { text: mark, id, always } of this.marks) {
      if (!(allowed || always) || !text.includes(mark)) continue;
      parts = parts.flatMap((part) => (typeof part === 'number' ? [part] : splitAt(part, mark, id)));
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
      const marked = this.o.spacePrefix && first && bytes[0] === 32 && kind === kinds.normal;
      parts.push(marked ? bytes.subarray(1) : bytes);
      first = false;
    }
    return Buffer.concat(parts).toString('utf8');
  }
}

function splitAt(text: string, mark: string, id: number): (string | number)[] {
  const parts: (string | number)[] = [];
  text.split(mark).forEach((piece, i) => {
    if (i > 0) parts.push(id);
    if (piece !== '') parts.push(piece);
  });
  return parts;
}

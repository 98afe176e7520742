import { StatespaceError } from '../errors.js';
import { endOfCharacter } from './sentence-piece.js';
import type { TokenTable } from './token-table.js';

const encoder = new TextEncoder();
const nothing = { length: 0, value: 0 };
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
let segmenter: Intl.Segmenter | undefined;
/** Made when it is needed: that takes more than 10 ms. */
const graphemes = (): Intl.Segmenter => {
  segmenter ??= new Intl.Segmenter(undefined, { granularity: 'grapheme' });
  return segmenter;
};

/**
 * SentencePiece's compiled rules: a double array (darts-clone, of 32-bit units) over the UTF-8 of what is replaced, whose
 * values are places in a list of replacements, each ended by a zero byte. The longest match counts.
 */
export class Charsmap {
  private readonly units: Uint32Array;
  private readonly replacements: Uint8Array;

  /** ERR_CHECKPOINT, naming `where`, for bytes that are no such rules. */
  constructor(
    bytes: Uint8Array,
    where: string,
    /** Tokens that the rules leave alone. */
    private readonly kept?: TokenTable,
  ) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const size = bytes.length >= 4 ? view.getUint32(0, true) : 0;
    if (size % 4 !== 0 || size === 0 || size > bytes.length - 4)
      throw new StatespaceError(
        'ERR_CHECKPOINT',
        `${where}: expected rules for characters, received ${bytes.length} bytes that are none`,
      );
    this.units = new Uint32Array(new Uint8Array(bytes.subarray(4, 4 + size)).buffer);
    this.replacements = bytes.subarray(4 + size);
  }

  normalize(text: string): string {
    const bytes = encoder.encode(text);
    const out: number[] = [];
    for (let at = 0; at < bytes.length; ) {
      let end = at;
      this.kept?.forEachPrefix(bytes, at, (_, to) => {
        end = to;
      });
      const { length, value } = end > at ? nothing : this.match(bytes, at);
      if (length > 0) {
        for (let i = value; (this.replacements[i] ?? 0) !== 0; i++) out.push(this.replacements[i]!);
        at += length;
      } else {
        if (end === at) end = endOfCharacter(bytes, at);
        while (at < end) out.push(bytes[at++]!);
      }
    }
    return decoder.decode(Uint8Array.from(out));
  }

  /**
   * As Hugging Face tokenizers has it: rules are asked for whole graphemes of up to five bytes, then for characters, and the
   * first rule that begins either replaces all of it.
   */
  normalizeGraphemes(text: string): string {
    let out = '';
    for (const { segment } of graphemes().segment(text)) {
      const whole = Buffer.byteLength(segment) < 6 ? this.shortest(segment) : undefined;
      out += whole ?? Array.from(segment, (character) => this.shortest(character) ?? character).join('');
    }
    return out;
  }

  /** What the shortest rule at the beginning says, if there is one. */
  private shortest(text: string): string | undefined {
    const { length, value } = this.match(encoder.encode(text), 0, true);
    if (length === 0) return undefined;
    const end = this.replacements.indexOf(0, value);
    return decoder.decode(this.replacements.subarray(value, end < 0 ? undefined : end));
  }

  private match(bytes: Uint8Array, start: number, shortest = false): { length: number; value: number } {
    let found = nothing;
    let node = offsetOf(this.units[0]!);
    for (let at = start; at < bytes.length; at++) {
      node = (node ^ bytes[at]!) >>> 0;
      const unit = this.units[node];
      if (unit === undefined || (unit & 0x800000ff) !== bytes[at]!) break;
      node = (node ^ offsetOf(unit)) >>> 0;
      const leaf = unit & 0x100 ? this.units[node] : undefined;
      if (leaf !== undefined) found = { length: at - start + 1, value: leaf & 0x7fffffff };
      if (shortest && found.length > 0) break;
    }
    return found;
  }
}

const offsetOf = (unit: number): number => ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0;

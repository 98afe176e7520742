// The tokenizer.json of a folder as keys of a GGUF file.
import { bool, f32s, texts } from '../checkpoint/gguf/pairs.js';
import { takesSpaceBehind } from '../checkpoint/gguf/tokenizer-keys.js';
import { kinds } from '../tokenizers/vocabulary.js';
import { beyondRows, type Words, withoutBytes } from './words.js';

interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  single_word?: boolean;
}
/** tokenizer.json, as far as it is read. */
export interface Definition {
  model?: {
    type?: string;
    vocab?: Record<string, number> | [string, number][];
    merges?: (string | [string, string])[];
    unk_token?: string | null;
    byte_fallback?: boolean;
    unk_id?: number | null;
    ignore_merges?: boolean;
  };
  added_tokens?: AddedToken[];
  normalizer?: unknown;
  pre_tokenizer?: unknown;
  decoder?: unknown;
}

/** The words of a tokenizer.json. */
export class DefinedWords {
  constructor(
    private readonly definition: Definition,
    private readonly rows: number,
    /** general.name of the file. */
    private readonly name: string,
  ) {}

  words(): Words {
    const isBytes = JSON.stringify([this.definition.pre_tokenizer, this.definition.decoder]).includes('"ByteLevel"');
    const { tokens, types, notes } = this.tokens();
    const common = { tokens, types, notes };
    if (isBytes) {
      const merges = texts(this.merges().map(([a, b]) => `${a} ${b}`));
      const normalizer = normalForm(this.definition.normalizer);
      return { ...common, model: 'gpt2', pairs: [['merges', merges]], candidates: this.candidates(), normalizer };
    }
    const pairs = [
      ['scores', f32s(this.scores(tokens))],
      ['add_space_prefix', bool(prefixesSpace(this.definition))],
    ] as const;
    const all = [...notes, ...withoutBytes(types)];
    const spacePrefix = metaspacePrefix(this.definition.pre_tokenizer);
    return { ...common, notes: all, model: 'llama', pairs, candidates: ['default'], spacePrefix };
  }

  /** A text and a type for every row: ids beyond the embedding do not exist, and rows without a token are unused. */
  private tokens(): { tokens: string[]; types: Int32Array; notes: string[] } {
    const { model, added_tokens: added = [] } = this.definition;
    const tokens = Array.from({ length: this.rows }, (_, i) => `[PAD${i}]`);
    const types = new Int32Array(this.rows).fill(kinds.unused);
    let beyond = 0;
    const set = (id: number, token: string, kind: number) => {
      if (!Number.isSafeInteger(id) || id < 0 || id >= this.rows) beyond++;
      else {
        tokens[id] = token;
        types[id] = kind;
      }
    };
    for (const [token, id] of Object.entries(model!.vocab as Record<string, number>)) {
      const isByte = model!.byte_fallback === true && /^<0x[0-9A-F]{2}>$/.test(token);
      set(id, token, isByte ? kinds.byte : token === model!.unk_token ? kinds.unknown : kinds.normal);
    }
    for (const { id, content, special } of added) {
      const isUnknown = content === model!.unk_token && model!.byte_fallback === true;
      set(id, content, isUnknown ? kinds.unknown : special ? kinds.control : kinds.userDefined);
    }
    const notes = beyond > 0 ? [beyondRows(beyond, this.rows)] : [];
    const stays = (t: AddedToken) => t.rstrip && !takesSpaceBehind(this.name, t.content);
    const strict = added.filter((t) => t.lstrip || stays(t) || t.single_word).map((t) => JSON.stringify(t.content));
    if (strict.length > 0)
      notes.push(
        `white space around ${strict.slice(0, 4).join(', ')}${strict.length > 4 ? ' …' : ''} stays text in the file's tokenizer, and parts of words count as them (lstrip, rstrip, single_word)`,
      );
    return { tokens, types, notes };
  }

  private merges(): [string, string][] {
    return (this.definition.model!.merges ?? []).map((merge): [string, string] => {
      if (typeof merge !== 'string') return merge;
      const space = merge.indexOf(' ', 1);
      return [merge.slice(0, space), merge.slice(space + 1)];
    });
  }

  /** SentencePiece joins the pair of the highest score first: a merge's score is its place, counted down. */
  private scores(tokens: readonly string[]): Float32Array {
    const places = new Map<string, number>();
    for (const [i, [left, right]] of this.merges().entries()) {
      const whole = left + right;
      if (!places.has(whole)) places.set(whole, i);
    }
    const last = -places.size - 1;
    return Float32Array.from(tokens, (token) => {
      const place = places.get(token);
      return place === undefined ? (token.length === 1 ? last : 0) : -place;
    });
  }

  /** Names of pre-tokenizers, the likeliest first. */
  private candidates(): string[] {
    const said = JSON.stringify(this.definition.pre_tokenizer ?? {});
    const whole = this.definition.model?.ignore_merges === true;
    const isNeox = JSON.stringify(this.definition.added_tokens ?? []).includes('<|padding|>');
    const likely: string[] = [];
    if (said.includes('p{N}{1,3}')) likely.push(...(whole ? ['llama-bpe', 'smaug-bpe'] : ['smaug-bpe', 'llama-bpe']));
    else if (said.includes("(?i:'s") || said.includes('p{N}|')) likely.push('qwen2', 'qwen35');
    else if (said.includes('individual_digits":true')) likely.push('starcoder');
    else likely.push(isNeox ? 'olmo' : 'gpt-2');
    const others = ['gpt-2', 'llama-bpe', 'qwen2', 'smaug-bpe', 'gpt-4o', 'tekken', 'starcoder', 'falcon', 'qwen35'];
    const deepseek = ['deepseek-llm', 'deepseek-coder', 'deepseek-v3', 'default'];
    return [...new Set([...likely, ...others, ...deepseek])];
  }
}

/** Of a normaliser that does nothing else. */
function normalForm(normalizer: unknown): 'NFC' | undefined {
  const { type, normalizers } = (normalizer ?? {}) as { type?: unknown; normalizers?: unknown };
  if (type === 'Sequence' && Array.isArray(normalizers) && normalizers.length === 1) return normalForm(normalizers[0]);
  return type === 'NFC' ? type : undefined;
}

/** Where Metaspace puts a space in front: one only, unlike a normaliser that prepends it. */
function metaspacePrefix(part: unknown): 'always' | 'first' | undefined {
  const { type, pretokenizers, prepend_scheme, add_prefix_space } = (part ?? {}) as Record<string, unknown>;
  if (type === 'Sequence' && Array.isArray(pretokenizers))
    return pretokenizers.map(metaspacePrefix).find((found) => found !== undefined);
  if (type !== 'Metaspace' || add_prefix_space === false) return undefined;
  const scheme = String(prepend_scheme ?? 'always').toLowerCase();
  return scheme === 'always' || scheme === 'first' ? scheme : undefined;
}

/** Whether a space is put in front of a text. */
export function prefixesSpace({ normalizer, pre_tokenizer }: Definition): boolean {
  const said = JSON.stringify([normalizer, pre_tokenizer]);
  if (said.includes('"Prepend"')) return true;
  return said.includes('"Metaspace"') && !said.includes('"never"') && !said.includes('"add_prefix_space":false');
}

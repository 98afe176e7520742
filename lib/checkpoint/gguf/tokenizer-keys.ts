// What the keys tokenizer.ggml.* of a GGUF file say, checked.
import { StatespaceError, show } from '../../errors.js';
import { type PreTokenizer, preTokenizer, preTokenizerNames } from '../../tokenizers/pre-tokenizers.js';
import { kinds } from '../../tokenizers/vocabulary.js';
import { checkpointError } from '../stored.js';
import type { GgufArray, Metadata } from './values.js';

const prefix = 'tokenizer.ggml.';
/** What no key of the format says: the normal form that a text is brought into first. */
export const NORMALIZER = 'statespace.tokenizer.normalizer';
/** Nor where no space is put in front: of texts that begin with one, and for 'first' behind special tokens. */
export const SPACE_PREFIX = 'statespace.tokenizer.space_prefix';

const MODELS = ['gpt2', 'llama', 't5', 'rwkv'] as const;
/** Byte-level BPE, SentencePiece's BPE, its unigram model, RWKV's words. */
export type TokenizerKind = (typeof MODELS)[number];

/** Ids of the marks of beginning and end that a text gets. */
export interface Marks {
  readonly bos: number | undefined;
  readonly eos: number | undefined;
}

/** What a file of each kind means where it has no key: whether marks are added, and their ids. */
const STANDARD: Readonly<Record<TokenizerKind, { bos?: number; eos?: number; addBos: boolean; addEos: boolean }>> = {
  gpt2: { addBos: false, addEos: false },
  llama: { bos: 1, eos: 2, addBos: true, addEos: false },
  t5: { eos: 1, addBos: false, addEos: true },
  rwkv: { addBos: false, addEos: false },
};

const PHI3 = /phi-?3/i;
const PHI3_PLAIN: readonly string[] = ['<unk>', '<s>', '<|endoftext|>'];

/** Whether a special token takes the white space behind it along: no key says it, llama.cpp goes by the model's name. */
export const takesSpaceBehind = (name: string, token: string): boolean =>
  PHI3.test(name) && !PHI3_PLAIN.includes(token);

export class TokenizerKeys {
  readonly list: GgufArray;
  /** By the numbers of `kinds`. */
  readonly types: Int8Array;

  private constructor(
    readonly m: Metadata,
    readonly kind: TokenizerKind,
  ) {
    const list = m.array(`${prefix}tokens`);
    if (list === undefined) throw m.missing(`${prefix}tokens`);
    this.list = list;
    const types = this.oneForEach('token_type');
    this.types = types ? types.copyTo(new Int8Array(this.size)) : new Int8Array(this.size).fill(kinds.normal);
  }

  /** undefined: the file has ids only. */
  static of(m: Metadata): TokenizerKeys | undefined {
    const model = m.string(`${prefix}model`);
    if (model === undefined || model === 'none' || model === 'no_vocab') return undefined;
    const kind = MODELS.find((name) => name === model);
    if (kind === undefined)
      throw new StatespaceError(
        'ERR_UNSUPPORTED_MODEL',
        `${m.file}: metadata ${prefix}model ${show(model)} is not supported; supported: ${MODELS.join(', ')}, none`,
      );
    return new TokenizerKeys(m, kind);
  }

  /** Tokens. */
  get size(): number {
    return this.list.length;
  }

  private oneForEach(name: string): GgufArray | undefined {
    const values = this.m.array(prefix + name);
    if (values && values.length !== this.size)
      throw checkpointError(
        this.m.file,
        `metadata ${prefix}${name}: expected ${this.size} values, received ${values.length}`,
      );
    return values;
  }

  /** One for every token; without any, 0. */
  scores(): Float32Array {
    return this.oneForEach('scores')?.copyTo(new Float32Array(this.size)) ?? new Float32Array(this.size);
  }

  merges(): GgufArray {
    const merges = this.m.array(`${prefix}merges`);
    if (merges === undefined) throw this.m.missing(`${prefix}merges`);
    return merges;
  }

  id(name: string, standard?: number): number | undefined {
    const id = this.m.count(`${prefix}${name}_token_id`) ?? standard;
    return id !== undefined && id < this.size ? id : undefined;
  }

  flag(name: string): boolean | undefined {
    return this.m.boolean(prefix + name);
  }

  marks(): Marks {
    const { bos, eos, ...standard } = STANDARD[this.kind];
    const addBos =
      this.flag('add_bos_token') ?? (this.kind === 'gpt2' ? (this.pre().addBos ?? false) : standard.addBos);
    const addEos = this.flag('add_eos_token') ?? standard.addEos;
    return { bos: addBos ? this.id('bos', bos) : undefined, eos: addEos ? this.id('eos', eos) : undefined };
  }

  /** The token that stands for what is no other. */
  unknown(): number | undefined {
    return this.id('unknown', this.kind === 't5' ? 2 : 0);
  }

  /** A token that stands in a text as it is: found before anything else. */
  isPlain(id: number): boolean {
    const kind = this.types[id];
    return kind === kinds.control || kind === kinds.userDefined || kind === kinds.unknown;
  }

  /** Whether every byte has a token, so that no character is unknown. */
  hasAllBytes(): boolean {
    return this.types.reduce((count, kind) => count + Number(kind === kinds.byte), 0) >= 256;
  }

  takesSpaceBehind(token: string): boolean {
    return takesSpaceBehind(this.m.string('general.name') ?? '', token);
  }

  pre(): PreTokenizer {
    const name = this.m.string(`${prefix}pre`) ?? 'default';
    const pre = preTokenizer(name);
    if (pre) return pre;
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `${this.m.file}: metadata ${prefix}pre: the pre-tokenizer ${show(name)} is not known; known: ${preTokenizerNames.join(', ')}`,
    );
  }

  normalForm(): 'NFC' | undefined {
    const form = this.m.string(NORMALIZER);
    if (form === undefined || form === 'NFC') return form;
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `${this.m.file}: metadata ${NORMALIZER}: expected NFC, received ${show(form)}`,
    );
  }

  /** Where SentencePiece puts a space in front; oneSpace: of nothing that begins with one. */
  spaces(): { spacePrefix: 'always' | 'first' | 'never'; oneSpace: boolean } {
    const places = this.m.string(SPACE_PREFIX);
    if (places !== undefined && places !== 'always' && places !== 'first')
      throw new StatespaceError(
        'ERR_UNSUPPORTED_MODEL',
        `${this.m.file}: metadata ${SPACE_PREFIX}: expected always or first, received ${show(places)}`,
      );
    const isPrefixed = this.flag('add_space_prefix') ?? true;
    return { spacePrefix: isPrefixed ? (places ?? 'always') : 'never', oneSpace: places !== undefined };
  }

  /** Of a unigram model: rules for characters, compiled. */
  charsmap(): Uint8Array {
    return Uint8Array.from(this.m.array(`${prefix}precompiled_charsmap`)?.numbers() ?? []);
  }
}

import { type AddedToken, AddedTokens } from './added-tokens.js';
import { type Decode, decoder } from './decoders.js';
import type { Model } from './models.js';
import { type Normalize, normalizer } from './normalizers.js';
import { byteOfToken, type Compile, type Part, partsOf } from './part.js';
import { type PostProcess, postProcessor } from './post-processors.js';
import { type Piece, type PreTokenize, preTokenizer } from './pre-tokenizers.js';

/** A tokenizer.json. */
export interface Definition {
  readonly normalizer?: Part | null;
  readonly pre_tokenizer?: Part | null;
  readonly model: Part;
  readonly post_processor?: Part | null;
  readonly decoder?: Part | null;
  readonly added_tokens?: readonly AddedToken[];
}

/** Added tokens, looked for in the text as it is, and in the normalized one. */
interface Found {
  readonly raw: AddedTokens;
  readonly normalized: AddedTokens;
}

const NONE: ReadonlySet<number> = new Set();

/** What a tokenizer.json says, done as Hugging Face tokenizers does it. Truncation and padding are for who asks for them. */
export class JsonTokenizer {
  private readonly normalize: Normalize;
  private readonly preTokenize: PreTokenize;
  private readonly postProcess: PostProcess;
  private readonly join: Decode;
  private readonly all: Found;
  private readonly plain: Found;
  /** Texts of added tokens; of those that are looked for in normalized text, normalized. */
  private readonly added = new Map<number, string>();
  private readonly special = new Set<number>();
  /** Special tokens that the model has as words. */
  private readonly hidden = new Set<number>();
  /** Tokens of bytes become text a run of them at a time. */
  readonly fallsBack: boolean;

  /** A checked definition and its model; throws Errors that name the part that is unknown. */
  constructor(
    definition: Definition,
    private readonly model: Model,
    compile: Compile,
  ) {
    const { added_tokens: tokens = [] } = definition;
    this.normalize = normalizer(definition.normalizer, compile);
    this.preTokenize = preTokenizer(definition.pre_tokenizer, compile);
    this.postProcess = postProcessor(definition.post_processor);
    this.join = decoder(definition.decoder, compile);
    this.fallsBack = fallsBack(definition.decoder);
    const texts = tokens.map((t) => [this.isNormalized(t) ? this.normalize(t.content) : t.content, t] as const);
    const found = (isMeant: (t: AddedToken) => boolean): Found => ({
      raw: new AddedTokens(texts.filter(([, t]) => isMeant(t) && !this.isNormalized(t))),
      normalized: new AddedTokens(texts.filter(([, t]) => isMeant(t) && this.isNormalized(t))),
    });
    this.all = found(() => true);
    this.plain = found((t) => !t.special);
    for (const [text, { id, content, special }] of texts) {
      this.added.set(id, text);
      if (!special) continue;
      this.special.add(id);
      const word = model.idOf(content);
      if (word !== undefined && word !== model.unknown) this.hidden.add(word);
    }
  }

  private isNormalized({ normalized, special }: AddedToken): boolean {
    return normalized ?? !special;
  }

  /**
   * marks: with those of beginning and end that the model expects; allowSpecial: special tokens that are written out
   * become those, and are cut and merged like any other text where they may not.
   */
  encode(text: string, marks: boolean, allowSpecial = true): number[] {
    const [found, hidden] = allowSpecial ? [this.all, NONE] : [this.plain, this.hidden];
    const ids: number[] = [];
    for (const part of found.raw.split({ text, isFirst: true })) {
      if (typeof part === 'number') ids.push(part);
      else this.encodePiece({ ...part, text: this.normalize(part.text) }, ids, found.normalized, hidden);
    }
    return marks ? this.postProcess(ids) : ids;
  }

  private encodePiece(normalized: Piece, ids: number[], tokens: AddedTokens, hidden: ReadonlySet<number>): void {
    for (const part of tokens.split(normalized)) {
      if (typeof part === 'number') ids.push(part);
      else for (const { text } of this.preTokenize([part])) this.model.encode(text, ids, hidden);
    }
  }

  /** Ids that no token has are left out. */
  decode(ids: readonly number[], skipSpecialTokens: boolean): string {
    const tokens: string[] = [];
    for (const id of ids) {
      const token = this.added.get(id) ?? this.model.tokens[id];
      if (token !== undefined && !(skipSpecialTokens && this.special.has(id))) tokens.push(token);
    }
    return this.join(tokens).join('');
  }

  /** The byte that a token stands for, where the decoder joins such. */
  fallbackByte(id: number): number | undefined {
    if (!this.fallsBack || this.added.has(id)) return undefined;
    return byteOfToken(this.model.tokens[id] ?? '');
  }
}

const fallsBack = (part: Part | null | undefined): boolean =>
  part?.type === 'ByteFallback' || partsOf(part?.decoders).some(fallsBack);

import { type AddedToken, AddedTokens } from './added-tokens.js';
import { type Decode, decoder } from './decoders.js';
import { type Model, modelOf } from './models.js';
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

/** What a tokenizer.json says, done as Hugging Face tokenizers does it. Truncation and padding are for who asks for them. */
export class JsonTokenizer {
  private readonly normalize: Normalize;
  private readonly preTokenize: PreTokenize;
  private readonly model: Model;
  private readonly postProcess: PostProcess;
  private readonly join: Decode;
  /** Looked for in the text as it is, and in the normalized one. */
  private readonly raw: AddedTokens;
  private readonly normalized: AddedTokens;
  /** Texts of added tokens; of those that are looked for in normalized text, normalized. */
  private readonly added = new Map<number, string>();
  private readonly special = new Set<number>();
  /** Tokens of bytes become text a run of them at a time. */
  readonly fallsBack: boolean;

  /** A checked definition; throws Errors that name the part that is unknown. */
  constructor(definition: Definition, compile: Compile) {
    const { added_tokens: tokens = [] } = definition;
    this.normalize = normalizer(definition.normalizer, compile);
    this.preTokenize = preTokenizer(definition.pre_tokenizer, compile);
    this.model = modelOf(definition.model);
    this.postProcess = postProcessor(definition.post_processor);
    this.join = decoder(definition.decoder, compile);
    const isNormalized = (t: AddedToken) => t.normalized ?? !t.special;
    const raw = tokens.filter((t) => !isNormalized(t));
    const normalized = tokens.filter(isNormalized);
    this.raw = new AddedTokens(raw.map((t) => [t.content, t]));
    this.normalized = new AddedTokens(normalized.map((t) => [this.normalize(t.content), t]));
    for (const t of tokens) this.added.set(t.id, isNormalized(t) ? this.normalize(t.content) : t.content);
    for (const t of tokens) if (t.special) this.special.add(t.id);
    this.fallsBack = fallsBack(definition.decoder);
  }

  /** marks: with those of beginning and end that the model expects. */
  encode(text: string, marks: boolean): number[] {
    const ids: number[] = [];
    for (const part of this.raw.split({ text, isFirst: true })) {
      if (typeof part === 'number') ids.push(part);
      else this.encodePiece({ ...part, text: this.normalize(part.text) }, ids);
    }
    return marks ? this.postProcess(ids) : ids;
  }

  private encodePiece(normalized: Piece, ids: number[]): void {
    for (const part of this.normalized.split(normalized)) {
      if (typeof part === 'number') ids.push(part);
      else for (const { text } of this.preTokenize([part])) this.model.encode(text, ids);
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

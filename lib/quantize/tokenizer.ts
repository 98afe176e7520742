// A folder's tokenizer as keys of a GGUF file, checked: what the file's tokenizer makes of a text is compared with what
// the folder's makes of it.
import { basename, join } from 'node:path';
import { readChatTemplates } from '../chat/read-templates.js';
import { bool, i32s, type Pair, text, texts, u32 } from '../checkpoint/gguf/pairs.js';
import { rwkvTokens } from '../checkpoint/gguf/rwkv-vocabulary.js';
import { specialIds } from '../checkpoint/gguf/special-ids.js';
import { readTokenizer } from '../checkpoint/gguf/tokenizer.js';
import { NORMALIZER, SPACE_PREFIX } from '../checkpoint/gguf/tokenizer-keys.js';
import { Metadata } from '../checkpoint/gguf/values.js';
import type { Checkpoint } from '../checkpoint/open.js';
import { checkpointError } from '../checkpoint/stored.js';
import { lazyFiles } from '../lazy.js';
import { readSentencePiece } from '../models/sentence-piece.js';
import { loadTokenizer, type TextTokenizer } from '../models/tokenizer.js';
import { DefinedWords, type Definition } from './defined-words.js';
import { sentencePieceWords } from './sentence-piece.js';
import { unigramWords } from './unigram-words.js';
import type { Words } from './words.js';

export interface Spoken {
  readonly pairs: Map<string, Pair>;
  readonly notes: string[];
}

const prefix = 'tokenizer.ggml.';
/** Contractions, numbers, runs of spaces and line ends, signs, scripts, a symbol of four bytes. */
const SAMPLES = [
  "Hello world! It's 1 of 23, 456 or 78901: I'LL see, they're DON'T.",
  'for (int i = 0; i < n; ++i) {\n\t\tx[i]  +=   y; // done\n\n\n}\r\n  \n end ',
  'Žluťoučký kůň — déjà vu, e\u0301te\u0301, Ελληνικά, русский, 漢字かな交じり文, 한국어, العربية ½ ² €100.50% 🙂👍🏽',
  " a_b-c.d/e\\f@g#h$i%j^k&l*m(n)o'sAbCdEF GHIj…  tabs\there",
];

/**
 * Keys for `rows` tokens, as many as the embedding has; none where the folder has no tokenizer that GGUF knows. `ends`: the
 * ids at which the model's texts end, where these keys say others.
 */
export async function tokenizerPairs(
  folder: string,
  rows: number,
  checkpoint: Checkpoint,
): Promise<Spoken & { ends?: readonly number[] }> {
  const spoken = await spokenOf(folder, rows, checkpoint);
  const ends = [checkpoint.generationConfig?.eos_token_id ?? checkpoint.config?.eos_token_id ?? []].flat() as number[];
  const { eos_token_id: said = [] } = specialIds(metadataOf(folder, spoken.pairs));
  const isSame = [...new Set(ends)].sort().join() === [said].flat().sort().join();
  return ends.length === 0 || isSame ? spoken : { ...spoken, ends };
}

async function spokenOf(folder: string, rows: number, checkpoint: Checkpoint): Promise<Spoken> {
  const rwkv = await rwkvTokens(folder, rows);
  if (rwkv) return { pairs: rwkv, notes: [] };
  const definition = await readJson(join(folder, 'tokenizer.json'));
  if (definition === undefined) {
    const found = await readSentencePiece(folder);
    if (found) return new Speaker(folder, rows, sentencePieceWords(found, rows), checkpoint).pairs();
    return withoutTokens('the folder has no tokenizer.json and no tokenizer.model of SentencePiece: ids only');
  }
  const model = (definition as Definition).model;
  if (model?.type === 'Unigram' && Array.isArray(model.vocab)) {
    const words = unigramWords(definition as Definition, rows, join(folder, 'tokenizer.json'));
    return new Speaker(folder, rows, words, checkpoint).pairs();
  }
  if (model?.type !== 'BPE' || typeof model.vocab !== 'object')
    return withoutTokens(
      `its tokenizer, ${model?.type ?? 'of no type'}, is none of GGUF's here: the file has ids only`,
    );
  const words = new DefinedWords(definition as Definition, rows, nameOf(folder)).words();
  return new Speaker(folder, rows, words, checkpoint).pairs();
}

const metadataOf = (folder: string, pairs: ReadonlyMap<string, Pair>): Metadata =>
  new Metadata(folder, new Map([...pairs].map(([key, { value }]) => [key, value])));

/** general.name of a file. */
export const nameOf = (folder: string): string => basename(folder);

const withoutTokens = (note: string): Spoken => ({ pairs: new Map([[`${prefix}model`, text('none')]]), notes: [note] });

async function readJson(path: string): Promise<object | undefined> {
  const found = await lazyFiles()
    .readFile(path, 'utf8')
    .catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw checkpointError(path, `cannot be read: ${error.message}`);
    });
  if (found === undefined) return undefined;
  try {
    return JSON.parse(found);
  } catch (error) {
    throw checkpointError(path, `is not JSON: ${(error as Error).message}`);
  }
}

class Speaker {
  private readonly notes: string[];

  constructor(
    private readonly folder: string,
    private readonly rows: number,
    private readonly words: Words,
    private readonly checkpoint: Checkpoint,
  ) {
    this.notes = [...words.notes];
  }

  async pairs(): Promise<Spoken> {
    const settings = ((await readJson(join(this.folder, 'tokenizer_config.json'))) ?? {}) as Record<string, unknown>;
    const original = await loadTokenizer(this.folder);
    const { model, tokens, types, candidates } = this.words;
    const pairs = new Map<string, Pair>([
      [`${prefix}model`, text(model)],
      [`${prefix}tokens`, texts(tokens)],
      [`${prefix}token_type`, i32s(types)],
      ...this.words.pairs.map(([key, pair]): [string, Pair] => [`${prefix}${key}`, pair]),
      ...this.specialIds(settings),
    ]);
    const { normalizer, spacePrefix } = this.words;
    if (spacePrefix) {
      pairs.set(SPACE_PREFIX, text(spacePrefix));
      const behind = spacePrefix === 'first' ? ', and behind special tokens' : '';
      this.notes.push(
        `llama.cpp: it puts a space in front of texts that begin with one${behind}, the model's tokenizer does not`,
      );
    }
    if (normalizer) {
      pairs.set(NORMALIZER, text(normalizer));
      this.notes.push(
        `llama.cpp: it does not bring texts into the normal form ${normalizer} first, the model's tokenizer does`,
      );
    }
    if (original) {
      this.addMarks(original, pairs);
      await this.choosePre(original, pairs, candidates);
    }
    await this.addTemplates(settings, pairs);
    return { pairs, notes: this.notes };
  }

  /** Ids by the texts of tokenizer_config.json, else those of config.json. */
  private specialIds(settings: Record<string, unknown>): [string, Pair][] {
    const { config = {}, generationConfig = {} } = this.checkpoint;
    const { tokens, ids = {} } = this.words;
    const byText = (name: string): number | undefined => {
      const token = settings[`${name}_token`];
      const content = typeof token === 'object' && token !== null ? (token as { content?: unknown }).content : token;
      const id = typeof content === 'string' ? tokens.indexOf(content) : -1;
      return id >= 0 ? id : undefined;
    };
    const listed = (name: string): number[] =>
      [generationConfig[`${name}_token_id`] ?? config[`${name}_token_id`]]
        .flat()
        .filter((id): id is number => Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) < this.rows);
    const found: [string, Pair][] = [];
    for (const [name, key] of Object.entries({ bos: 'bos', eos: 'eos', unk: 'unknown', pad: 'padding' })) {
      const id = byText(name) ?? listed(name)[0] ?? ids[name];
      if (id !== undefined) found.push([`${prefix}${key}_token_id`, u32(id)]);
    }
    const eos = byText('eos') ?? listed('eos')[0] ?? ids.eos;
    const [turn, message] = listed('eos').filter((id) => id !== eos);
    if (turn !== undefined) found.push([`${prefix}eot_token_id`, u32(turn)]);
    if (message !== undefined) found.push([`${prefix}eom_token_id`, u32(message)]);
    return found;
  }

  /** Whether a text gets a mark in front and behind, seen from what the tokenizer does. */
  private addMarks(original: TextTokenizer, pairs: Map<string, Pair>): void {
    const [marked, plain] = [true, false].map((addSpecialTokens) => original.encode('a', { addSpecialTokens }));
    const at = marked!.findIndex((id, i) => id === plain![0] && marked!.length - i >= plain!.length);
    const id = (name: string) => pairs.get(`${prefix}${name}_token_id`)?.value;
    pairs.set(`${prefix}add_bos_token`, bool(at > 0 && marked![0] === id('bos')));
    pairs.set(
      `${prefix}add_eos_token`,
      bool(at >= 0 && marked!.length > at + plain!.length && marked!.at(-1) === id('eos')),
    );
  }

  /** The first pre-tokenizer with which the file's tokenizer gives the folder's ids; the best one where none does. */
  private async choosePre(original: TextTokenizer, pairs: Map<string, Pair>, candidates: readonly string[]) {
    const options = { addSpecialTokens: false };
    const wanted = SAMPLES.map((sample) => original.encode(sample, options).join());
    let best = { name: candidates[0]!, equal: -1 };
    for (const name of candidates) {
      pairs.set(`${prefix}pre`, text(name));
      const made = await readTokenizer(metadataOf(this.folder, pairs));
      const equal = SAMPLES.filter((sample, i) => made?.encode(sample, options).join() === wanted[i]).length;
      if (equal > best.equal) best = { name, equal };
      if (equal === SAMPLES.length) break;
    }
    pairs.set(`${prefix}pre`, text(best.name));
    if (best.equal < SAMPLES.length)
      this.notes.push(
        `the file's tokenizer (${best.name}) gives other ids than the folder's for ${SAMPLES.length - best.equal} of ${SAMPLES.length} sample texts`,
      );
  }

  private async addTemplates(settings: Record<string, unknown>, pairs: Map<string, Pair>): Promise<void> {
    const { templates } = await readChatTemplates(this.folder, settings);
    const named = [...templates.keys()].filter((name) => name !== 'default').sort();
    const main = templates.get('default');
    if (main !== undefined) pairs.set('tokenizer.chat_template', text(main));
    if (named.length > 0) pairs.set('tokenizer.chat_templates', texts(named));
    for (const name of named) pairs.set(`tokenizer.chat_template.${name}`, text(templates.get(name)!));
  }
}

// The tokenizer.model of a folder: SentencePiece's own file, with what the JSON files beside it add.
import { join } from 'node:path';
import type { ChatTemplates } from '../chat/chat-template.js';
import { readChatTemplates } from '../chat/read-templates.js';
import { fileExists, InputFile, refusePlaceholder } from '../checkpoint/files.js';
import { checkpointError } from '../checkpoint/stored.js';
import { show } from '../errors.js';
import { parseSentencePiece, type SentencePieceModel } from '../tokenizers/sentence-piece-model.js';
import {
  type AddedToken,
  joined,
  type Marks,
  type Pieces,
  sentencePieceVocabulary,
} from '../tokenizers/sentence-piece-vocabulary.js';
import type { Vocabulary } from '../tokenizers/vocabulary.js';
import { readJson, readTokenizerConfig } from './tokenizer-files.js';

/** The largest published ones have 8 MB. */
const MAX_BYTES = 256 * 1024 * 1024;
/** Ids between the pieces and the last added token that no token has. */
const MOST_UNUSED = 65_536;

export interface SentencePieceFolder {
  readonly model: SentencePieceModel;
  readonly pieces: Pieces;
  readonly marks: Marks;
  readonly vocabulary: Vocabulary;
  readonly chat: ChatTemplates;
}

type Json = Record<string, unknown>;

/**
 * Texts become what SentencePiece makes of them; added tokens, marks, `add_prefix_space` and `legacy` are taken as
 * transformers takes them. undefined: there is no tokenizer.model, or it is tiktoken's, which goes by the same name.
 */
export async function readSentencePiece(folder: string): Promise<SentencePieceFolder | undefined> {
  const path = join(folder, 'tokenizer.model');
  if (!(await fileExists(path))) return undefined;
  const bytes = await InputFile.use(path, async (file) => {
    await refusePlaceholder(file);
    if (file.size > MAX_BYTES)
      throw checkpointError(path, `expected at most ${MAX_BYTES} bytes, received ${file.size}`);
    return file.read(0, file.size, 'model');
  });
  if (/^[A-Za-z0-9+/]+={0,2} \d+\r?\n/.test(bytes.toString('latin1', 0, 256))) return undefined;
  const model = await parseSentencePiece(bytes, path);
  const settings = (await readTokenizerConfig(folder)) as Json;
  const pieces = joined(model, await addedTokens(folder, settings, model));
  const marks = marksOf(settings, model, pieces);
  return {
    ...{ model, pieces, marks },
    vocabulary: sentencePieceVocabulary(model, pieces, marks, path),
    chat: await readChatTemplates(folder, settings),
  };
}

/** A token as JSON files write it: its text, or an object. */
interface Written {
  content: string;
  special?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
}

const written = (token: unknown): Written | undefined => {
  if (typeof token === 'string') return token === '' ? undefined : { content: token };
  const content = (token as Json | null | undefined)?.content;
  return typeof content === 'string' && content !== '' ? (token as Written) : undefined;
};

/** Tokens that the folder names: by their ids, and after those the special ones that are no piece yet. */
async function addedTokens(folder: string, settings: Json, model: SentencePieceModel): Promise<AddedToken[]> {
  const listed = Object.entries((settings.added_tokens_decoder ?? {}) as Json);
  const older = listed.length > 0 ? {} : ((await readJson(join(folder, 'added_tokens.json'))) ?? {});
  const named = namedTokens(settings);
  const isNamed = new Set(named.map((t) => t.content));
  const added = new Map<string, AddedToken>();
  const most = 2 * (model.pieces.length + listed.length + Object.keys(older).length) + MOST_UNUSED;
  const add = (id: number, { content, special = false, lstrip = false, rstrip = false }: Written): void => {
    if (!Number.isSafeInteger(id) || id < 0 || id >= most)
      throw checkpointError(
        folder,
        `added token ${show(content)}: expected an id from 0 to ${most - 1}, received ${show(id)}`,
      );
    if (!added.has(content)) added.set(content, { id, content, special, lstrip, rstrip });
  };
  for (const [id, token] of listed) {
    const known = written(token);
    if (known) add(Number(id), { ...known, special: known.special === true || isNamed.has(known.content) });
  }
  for (const [content, id] of Object.entries(older)) add(id as number, { content, special: isNamed.has(content) });
  const ids = new Map(model.pieces.map(({ text }, id) => [text, id]));
  let next = [...added.values()].reduce((n, { id }) => Math.max(n, id + 1), model.pieces.length);
  for (const token of named)
    if (!added.has(token.content)) add(ids.get(token.content) ?? next++, { ...token, special: true });
  return [...added.values()];
}

/** bos_token and the like, and further special tokens. */
function namedTokens(settings: Json): Written[] {
  const extra = [settings.additional_special_tokens, settings.extra_special_tokens].flatMap((list) =>
    typeof list === 'object' && list !== null ? Object.values(list) : [],
  );
  const own = Object.entries(settings).filter(([name]) => name.endsWith('_token'));
  return [...own.map(([, token]) => token), ...extra].map(written).filter((t) => t !== undefined);
}

function marksOf(settings: Json, model: SentencePieceModel, { texts }: Pieces): Marks {
  const id = (name: string, own: number): number | undefined => {
    const content = written(settings[name])?.content;
    const found = content === undefined ? own : texts.indexOf(content);
    return found >= 0 ? found : undefined;
  };
  const { add_prefix_space: prefix, legacy } = settings;
  const isPrefixed = typeof prefix === 'boolean' ? prefix : model.dummyPrefix;
  return {
    bos: settings.add_bos_token === true ? id('bos_token', model.bos) : undefined,
    eos: settings.add_eos_token === true ? id('eos_token', model.eos) : undefined,
    spacePrefix: isPrefixed ? (legacy === true ? 'always' : 'first') : 'never',
  };
}

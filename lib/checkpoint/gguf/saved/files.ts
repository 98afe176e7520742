// The tokenizer of a GGUF file as the files of a folder in Hugging Face's layout.
import { join } from 'node:path';
import { lazyFiles } from '../../../lazy.js';
import { kinds } from '../../../tokenizers/vocabulary.js';
import { Turns } from '../../../turns.js';
import { readGguf } from '../container.js';
import { rwkvLines } from '../rwkv-vocabulary.js';
import { specialIds } from '../special-ids.js';
import { specialTokens, templatesOf } from '../text.js';
import { readRwkvTokens } from '../tokenizer.js';
import { TokenizerKeys } from '../tokenizer-keys.js';
import type { Metadata } from '../values.js';
import { sentencePieceModel } from './sentence-piece-model.js';
import { addedTokens, tokenizerJson } from './tokenizer-json.js';
import { isMerged, type Words, wordsOf } from './words.js';

/**
 * Writes tokenizer.json, tokenizer_config.json with the chat templates, and generation_config.json; nothing where the file has ids
 * only. RWKV's words are written as its releases have them, and scores of SentencePiece that no list of merges can say as
 * tokenizer.model.
 */
export async function writeTokenizerFiles(file: string, folder: string): Promise<void> {
  const { metadata } = await readGguf(file);
  const keys = TokenizerKeys.of(metadata);
  if (!keys) return;
  const write = (name: string, data: Parameters<ReturnType<typeof lazyFiles>['writeFile']>[1]) =>
    lazyFiles().writeFile(join(folder, name), data, { flush: true });
  const turns = new Turns();
  let settings: object = {};
  if (keys.kind === 'rwkv') {
    const tokens = await readRwkvTokens(keys);
    const isWord = (id: number) => keys.types[id] !== kinds.unused && keys.types[id] !== kinds.control;
    await write('rwkv_vocab_v20230424.txt', rwkvLines(tokens, isWord));
  } else {
    const words = await wordsOf(keys, turns);
    const { oneSpace } = keys.spaces();
    if (keys.kind === 'llama' && !oneSpace && !(await isMerged(keys, words, turns))) {
      await write('tokenizer.model', sentencePieceModel(keys, words, turns));
      settings = sentencePieceSettings(keys, words);
    } else {
      await write('tokenizer.json', tokenizerJson(keys, words, turns));
      // transformers' class for the model would make another tokenizer of these words.
      settings = { tokenizer_class: 'PreTrainedTokenizerFast' };
    }
  }
  await write('tokenizer_config.json', asText({ ...settings, ...tokenizerConfig(metadata) }));
  await write('generation_config.json', asText(specialIds(metadata)));
  metadata.release();
}

const asText = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;

function sentencePieceSettings(keys: TokenizerKeys, words: Words): object {
  const { bos, eos } = keys.marks();
  const { spacePrefix } = keys.spaces();
  const added = addedTokens(keys, words).map(({ id, ...token }) => [id, token]);
  return {
    tokenizer_class: 'LlamaTokenizer',
    ...{ add_bos_token: bos !== undefined, add_eos_token: eos !== undefined },
    ...{ add_prefix_space: spacePrefix !== 'never', legacy: true },
    added_tokens_decoder: Object.fromEntries(added),
  };
}

function tokenizerConfig(m: Metadata): object {
  const tokens = m.array('tokenizer.ggml.tokens')!;
  const templates = [...templatesOf(m)].map(([name, template]) => ({ name, template }));
  const isOne = templates.length === 1 && templates[0]!.name === 'default';
  return {
    clean_up_tokenization_spaces: false,
    ...specialTokens(m, (id) => tokens.textAt(id) ?? ''),
    ...(templates.length > 0 && { chat_template: isOne ? templates[0]!.template : templates }),
  };
}

import { join } from 'node:path';
import type { ChatTemplateOptions } from '../chat/chat-template.js';
import { readChatTemplates } from '../chat/read-templates.js';
import { StatespaceError } from '../errors.js';
import { lazyFiles } from '../lazy.js';

export interface TextTokenizer {
  encode(text: string): Int32Array;
  decode(ids: ArrayLike<number>): string;
  /** The prompt of a conversation, by the model's chat template; ERR_ARGUMENT where it has none or refuses. */
  applyChatTemplate(messages: readonly Record<string, unknown>[], options?: ChatTemplateOptions): string;
}

async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await lazyFiles().readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new StatespaceError('ERR_CHECKPOINT', `${path}: cannot be read: ${(error as Error).message}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new StatespaceError('ERR_CHECKPOINT', `${path}: is not JSON: ${(error as Error).message}`);
  }
}

/** The folder's tokenizer.json through @huggingface/tokenizers; undefined where there is none. */
export async function loadTokenizer(folder: string): Promise<TextTokenizer | undefined> {
  const path = join(folder, 'tokenizer.json');
  const json = await readJson(path);
  if (json === undefined) return undefined;
  const config = (await readJson(join(folder, 'tokenizer_config.json'))) ?? {};
  const chat = await readChatTemplates(folder, config as Record<string, unknown>);
  const { Tokenizer } = await import('@huggingface/tokenizers');
  let tokenizer: InstanceType<typeof Tokenizer>;
  try {
    tokenizer = new Tokenizer(json as object, config as object);
  } catch (error) {
    throw new StatespaceError('ERR_CHECKPOINT', `${path}: ${(error as Error).message}`);
  }
  return {
    encode: (text) => Int32Array.from(tokenizer.encode(text).ids),
    decode: (ids) => (ids.length === 0 ? '' : tokenizer.decode(Array.from(ids), { skip_special_tokens: true })),
    applyChatTemplate: (messages, options) => chat.apply(messages, options),
  };
}

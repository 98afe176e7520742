/** Another thread, in which long texts become ids: minutes of text take seconds, which the event loop does not have. */
import { parentPort } from 'node:worker_threads';
import { answer } from '../elsewhere.js';
import { StatespaceError } from '../errors.js';
import { encodePrompt } from '../session/prompt.js';
import type { Question } from './encode-elsewhere.js';
import { tokenizerOf } from './text-of.js';
import type { TextTokenizer } from './tokenizer.js';

const known = new Map<string, Promise<TextTokenizer | undefined>>();

async function encoded({ folder, text, first = true, chat }: Question): Promise<Int32Array> {
  const loading = known.get(folder) ?? tokenizerOf(folder);
  known.set(folder, loading);
  loading.catch(() => known.delete(folder));
  const tokenizer = await loading;
  if (!tokenizer) throw new StatespaceError('ERR_CHECKPOINT', `${folder}: its tokenizer is gone`);
  return chat ? tokenizer.encodeChat(chat.messages, chat.options) : encodePrompt(tokenizer, text!, first);
}

answer(parentPort!, encoded);

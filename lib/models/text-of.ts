import { openCheckpoint } from '../checkpoint/open.js';
import { loadTokenizer, type TextTokenizer } from './tokenizer.js';

const lazyGgufText = (): typeof import('../checkpoint/gguf/text.js') => require('../checkpoint/gguf/text.js');

/** The tokenizer of a model folder or a GGUF file. */
export async function tokenizerOf(path: string): Promise<TextTokenizer | undefined> {
  if (!path.toLowerCase().endsWith('.gguf')) return loadTokenizer(path);
  const { metadata } = await openCheckpoint(path);
  return metadata ? lazyGgufText().readText(metadata) : loadTokenizer(path);
}

import { ChatTemplates } from '../../chat/chat-template.js';
import { type TextTokenizer, vocabularyTokenizer } from '../../models/tokenizer.js';
import { readTokenizer } from './tokenizer.js';
import type { Metadata } from './values.js';

/**
 * The tokenizer and the chat templates of a GGUF file, whose header is given back; undefined where it has ids only.
 * @public
 */
export async function readText(m: Metadata): Promise<TextTokenizer | undefined> {
  try {
    return await textOf(m);
  } finally {
    m.release();
  }
}

async function textOf(m: Metadata): Promise<TextTokenizer | undefined> {
  const vocabulary = await readTokenizer(m);
  if (vocabulary === undefined) return undefined;
  const chat = new ChatTemplates(
    templatesOf(m),
    specialTokens(m, (id) => vocabulary.decode([id], { skipSpecialTokens: false })),
  );
  return vocabularyTokenizer(vocabulary, chat);
}

/** `tokenizer.chat_template`, and others by the names behind it. */
export function templatesOf(m: Metadata): Map<string, string> {
  const templates = new Map<string, string>();
  for (const key of m.keys()) {
    const name = /^tokenizer\.chat_template(?:\.(.+))?$/.exec(key);
    const text = name ? m.string(key) : undefined;
    if (text !== undefined) templates.set(name![1] ?? 'default', text);
  }
  return templates;
}

/** bos_token and the like, as texts. */
export function specialTokens(m: Metadata, text: (id: number) => string): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [name, key] of Object.entries({
    bos: 'bos',
    eos: 'eos',
    unk: 'unknown',
    pad: 'padding',
    sep: 'seperator',
  })) {
    const id = m.count(`tokenizer.ggml.${key}_token_id`);
    if (id !== undefined) tokens[`${name}_token`] = text(id);
  }
  return tokens;
}

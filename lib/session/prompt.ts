import type { Tokenizing } from './network.js';

/** Characters whose encoding holds the event loop for a few milliseconds. */
export const LONG_TEXT = 1 << 15;

/**
 * The ids of a prompt's text. The mark of the first token stands at the first position only, and once: a text that a chat
 * template has written may begin with it already.
 */
export function encodePrompt(tokenizer: Tokenizing, text: string, first: boolean): Int32Array {
  const ids = tokenizer.encode(text, { addSpecialTokens: first });
  if (!first || ids.length < 2 || ids[0] !== ids[1]) return ids;
  const bare = tokenizer.encode(text, { addSpecialTokens: false });
  return bare[0] === ids[0] && bare.length < ids.length && bare[1] !== ids[0] ? ids.subarray(1) : ids;
}

import type { Compile, Pattern } from './part.js';

/** What is used of the library; its own declarations are not found from here: they name files without endings. */
interface Library {
  SplitPreTokenizer: new (part: { pattern: Pattern; invert: boolean }) => { pattern: RegExp | null };
}

/**
 * Patterns of tokenizer.json as JavaScript's: \@huggingface/tokenizers knows Oniguruma's syntax, and shows in a pre-tokenizer what it
 * has made of it. Throws Errors for what cannot be said in JavaScript.
 */
export async function patterns(): Promise<Compile> {
  const { SplitPreTokenizer } = require('@huggingface/tokenizers') as Library;
  return (pattern) => {
    const { String: text, Regex } = (pattern ?? {}) as { String?: unknown; Regex?: unknown };
    if (typeof text === 'string') return new RegExp(text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'), 'gu');
    const found = typeof Regex === 'string' && new SplitPreTokenizer({ pattern, invert: false }).pattern;
    if (!found) throw new Error(`expected a pattern { String } or { Regex }, received ${JSON.stringify(pattern)}`);
    return found;
  };
}

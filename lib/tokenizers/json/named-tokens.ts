import type { AddedToken } from './added-tokens.js';
import type { Definition } from './tokenizer.js';

const NAMES = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token'];

const contentOf = (token: unknown): string | undefined => {
  const text = typeof token === 'string' ? token : (token as { content?: unknown } | null | undefined)?.content;
  return typeof text === 'string' && text !== '' ? text : undefined;
};

/** With the tokens that tokenizer_config.json names, or lists as special ones, as special ones: transformers adds them so. */
export function withNamedTokens(definition: Definition, config: Readonly<Record<string, unknown>>): Definition {
  const listed = Object.values((config.added_tokens_decoder ?? {}) as object);
  const special = listed.filter((token) => (token as { special?: unknown } | null)?.special === true);
  const named = new Set([...NAMES.map((name) => config[name]), ...special].map(contentOf));
  named.delete(undefined);
  const { added_tokens = [], model } = definition;
  const added = added_tokens.map((t) => (named.delete(t.content) ? { ...t, special: true } : t));
  const inVocabulary = [...named].flatMap((content): AddedToken[] => {
    const id = idOf(model.vocab, content!);
    return id === undefined ? [] : [{ id, content: content!, special: true, normalized: false }];
  });
  return { ...definition, added_tokens: [...added, ...inVocabulary] };
}

function idOf(vocab: unknown, content: string): number | undefined {
  if (Array.isArray(vocab)) {
    const id = vocab.findIndex(([token]) => token === content);
    return id < 0 ? undefined : id;
  }
  if (vocab instanceof Map) return vocab.get(content);
  return Object.hasOwn(vocab ?? {}, content) ? (vocab as Record<string, number>)[content] : undefined;
}

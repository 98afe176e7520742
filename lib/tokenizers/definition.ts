/**
 * What @huggingface/tokenizers 0.2.0 reads otherwise than the Rust library that tokenizer.json is of, in words that both
 * read alike: how Split and Punctuation treat their matches, letters beyond ASCII in Whitespace, Greek capitals, and
 * spaces that Metaspace never puts in front.
 */

interface Part {
  type?: string;
  [key: string]: unknown;
}

/** \w of the Rust library, with which Whitespace cuts; the patterns of a Split are Oniguruma's. */
const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\u200c\u200d';
const PUNCTUATION = '[\\p{P}$+<=>^`|~]';

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&');

/** A Split that keeps what the pattern matches, and nothing else. */
const matches = (Regex: string): Part => ({ type: 'Split', pattern: { Regex }, behavior: 'Removed', invert: true });

/** Pieces of a text by a pattern, by behavior; invert: what lies between the matches is what the behavior speaks of. */
function split(part: Part): Part {
  const { String: text, Regex } = (part.pattern ?? {}) as { String?: string; Regex?: string };
  const pattern = Regex ?? (text === undefined ? undefined : escaped(text));
  if (pattern === undefined || pattern === '') return part;
  const match = `(?:${pattern})`;
  const between = `(?:(?!${pattern})[\\s\\S])`;
  const inverted = part.invert === true;
  switch (String(part.behavior).toLowerCase()) {
    case 'isolated':
      return { ...part, pattern: { Regex: pattern }, invert: false };
    case 'removed':
      return inverted ? matches(match) : { ...part, pattern: { Regex: pattern } };
    case 'mergedwithprevious':
      return matches(inverted ? `${match}${between}*|${between}+` : `${between}+${match}?|${match}`);
    case 'mergedwithnext':
      return matches(inverted ? `${between}+${match}?|${match}` : `${match}?${between}+|${match}`);
    case 'contiguous':
      return matches(`${match}+|${between}+`);
    default:
      return part;
  }
}

function preTokenizer(part: Part): Part {
  switch (part.type) {
    case 'Sequence':
      return { ...part, pretokenizers: ((part.pretokenizers ?? []) as Part[]).map(preTokenizer) };
    case 'Split':
      return split(part);
    case 'CharDelimiterSplit':
      return split({ type: 'Split', pattern: { String: part.delimiter }, behavior: 'Removed', invert: false });
    case 'Punctuation':
      return split({ type: 'Split', pattern: { Regex: PUNCTUATION }, behavior: part.behavior ?? 'Isolated' });
    case 'Whitespace':
      return matches(`[${WORD}]+|[^${WORD}\\p{White_Space}]+`);
    default:
      return part;
  }
}

function normalizer(part: Part): Part {
  const lowers = part.type === 'Lowercase' || (part.type === 'BertNormalizer' && part.lowercase !== false);
  if (part.type === 'Sequence') return { ...part, normalizers: ((part.normalizers ?? []) as Part[]).map(normalizer) };
  // Character by character; toLowerCase writes another letter where this one ends a word.
  const sigma = { type: 'Replace', pattern: { String: 'Σ' }, content: 'σ' };
  return lowers ? { type: 'Sequence', normalizers: [sigma, part] } : part;
}

function decoder(part: Part): Part {
  if (part.type === 'Sequence') return { ...part, decoders: ((part.decoders ?? []) as Part[]).map(decoder) };
  if (part.type !== 'Metaspace' || part.prepend_scheme !== 'never') return part;
  const space = { type: 'Replace', pattern: { String: part.replacement ?? '\u2581' }, content: ' ' };
  return { type: 'Sequence', decoders: [space, { type: 'Fuse' }] };
}

/** The tokenizer.json for @huggingface/tokenizers. */
export function readableDefinition(json: object): object {
  const parts = json as { pre_tokenizer?: Part | null; normalizer?: Part | null; decoder?: Part | null };
  return {
    ...json,
    ...(parts.pre_tokenizer && { pre_tokenizer: preTokenizer(parts.pre_tokenizer) }),
    ...(parts.normalizer && { normalizer: normalizer(parts.normalizer) }),
    ...(parts.decoder && { decoder: decoder(parts.decoder) }),
  };
}

/** The id that stands for every word that a WordLevel vocabulary lacks; undefined where other models have answers. */
export function unknownWord(json: object): number | undefined {
  const { model } = json as { model?: { type?: string; unk_token?: string; vocab?: Record<string, number> } };
  return model?.type === 'WordLevel' ? model.vocab?.[model.unk_token ?? ''] : undefined;
}

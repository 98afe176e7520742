/** Small tokenizers of every kind that is read: a vocabulary by hand, the decoders of published ones. */
const WORDS = `hello world the s ing n t ' . , ! ? do n't big I 'm é 日本 😀 - re 's a`.split(' ');
export const MARKS = ['<s>', '</s>', '<im_end>'];

export interface Kind {
  /** Tokens but for MARKS, whose ids follow. */
  size: number;
  ids: ReadonlyMap<string, number>;
  /** Tokens of single bytes, where it has them. */
  byteIds?: readonly number[];
  definition: Record<string, unknown>;
}

/** GPT-2's characters for bytes. */
function alphabet(): string[] {
  const printable = (b: number) => (b > 32 && b < 127) || (b > 160 && b !== 173 && b < 256);
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : next++));
}

const LETTERS = alphabet();
const spelled = (text: string) => [...Buffer.from(text)].map((b) => LETTERS[b]).join('');
const BYTES = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`);
const MARKED = [...WORDS, ...WORDS.map((w) => `▁${w}`), '▁', '▁▁', ' '];

function kind(
  tokens: string[],
  definition: (ids: Map<string, number>) => Record<string, unknown>,
  bytes?: string[],
): Kind {
  const ids = new Map([...new Set(tokens)].map((t, i) => [t, i]));
  const byteIds = bytes?.map((b) => ids.get(b)!);
  return { size: ids.size, ids, ...(byteIds && { byteIds }), definition: definition(ids) };
}

const bpe = (ids: Map<string, number>, rest = {}) => ({
  type: 'BPE',
  vocab: Object.fromEntries(ids),
  merges: [],
  ...rest,
});
const unigram = (ids: Map<string, number>, rest = {}) => ({
  ...{ type: 'Unigram', unk_id: 0, vocab: [...ids.keys()].map((t) => [t, -1]) },
  ...rest,
});
const metaspace = (prepend_scheme: string) => ({ type: 'Metaspace', replacement: '▁', prepend_scheme, split: true });
const toSpace = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
const fallback = (...after: object[]) => ({
  type: 'Sequence',
  decoders: [toSpace, { type: 'ByteFallback' }, { type: 'Fuse' }, ...after],
});
const fallen = { byte_fallback: true, unk_token: '<unk>', fuse_unk: true };
const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const prepended = {
  type: 'Sequence',
  normalizers: [
    { type: 'Prepend', prepend: '▁' },
    { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
  ],
};

const wordPiece = (cleanup: boolean) =>
  kind(['[UNK]', ...WORDS, ...WORDS.map((w) => `##${w}`)], (ids) => ({
    pre_tokenizer: { type: 'BertPreTokenizer' },
    decoder: { type: 'WordPiece', prefix: '##', cleanup },
    model: {
      ...{ type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100 },
      vocab: Object.fromEntries(ids),
    },
  }));

export const KINDS: Record<string, Kind> = {
  'byte-level BPE': kind(
    [...LETTERS, ...WORDS.map(spelled), ...WORDS.map((w) => spelled(` ${w}`)), spelled('  '), spelled('\n\n')],
    (ids) => ({ pre_tokenizer: byteLevel, decoder: byteLevel, model: bpe(ids) }),
    LETTERS,
  ),
  sentencePiece: kind(
    ['<unk>', ...BYTES, ...MARKED],
    (ids) => ({ normalizer: prepended, decoder: fallback(strip), model: bpe(ids, fallen) }),
    BYTES,
  ),
  'SentencePiece without a first space': kind(
    ['<unk>', ...BYTES, ...MARKED],
    (ids) => ({ decoder: fallback(), model: bpe(ids, fallen) }),
    BYTES,
  ),
  'Metaspace, always': kind(['<unk>', ...MARKED], (ids) => ({
    ...{ pre_tokenizer: metaspace('always'), decoder: metaspace('always'), model: unigram(ids) },
  })),
  'Metaspace, never': kind(['<unk>', ...MARKED], (ids) => ({
    ...{ pre_tokenizer: metaspace('never'), decoder: metaspace('never'), model: unigram(ids) },
  })),
  'Unigram with bytes': kind(
    ['<unk>', ...BYTES, ...MARKED],
    (ids) => ({
      pre_tokenizer: metaspace('always'),
      decoder: metaspace('always'),
      model: unigram(ids, { byte_fallback: true }),
    }),
    BYTES,
  ),
  WordPiece: wordPiece(true),
  'WordPiece as it stands': wordPiece(false),
  'words without a decoder': kind(WORDS, (ids) => ({
    pre_tokenizer: { type: 'Whitespace' },
    model: { type: 'WordLevel', unk_token: 'hello', vocab: Object.fromEntries(ids) },
  })),
  'words under a decoder that joins nothing': kind(['<unk>', ...MARKED], (ids) => ({
    ...{ pre_tokenizer: metaspace('first'), decoder: { type: 'Fuse' }, model: unigram(ids) },
  })),
  'Metaspace, first': kind(['<unk>', ...MARKED], (ids) => ({
    ...{ pre_tokenizer: metaspace('first'), decoder: metaspace('first'), model: unigram(ids) },
  })),
  'byte-level BPE with a first space': kind(
    [...LETTERS, ...WORDS.map(spelled), ...WORDS.map((w) => spelled(` ${w}`))],
    (ids) => ({
      pre_tokenizer: { ...byteLevel, add_prefix_space: true },
      decoder: { ...byteLevel, add_prefix_space: true },
      model: bpe(ids),
    }),
    LETTERS,
  ),
  'a start of two spaces that is stripped': kind(['<unk>', ...BYTES, ...MARKED], (ids) => ({
    decoder: fallback({ type: 'Strip', content: ' ', start: 2, stop: 0 }),
    model: bpe(ids, fallen),
  })),
  'a decoder with a pattern': kind(['<unk>', ...MARKED], (ids) => ({
    decoder: {
      type: 'Sequence',
      decoders: [{ type: 'Replace', pattern: { Regex: '▁+' }, content: ' ' }, { type: 'Fuse' }, strip],
    },
    model: bpe(ids, fallen),
  })),
  'BPE with ends of words': kind([...WORDS, ...WORDS.map((w) => `${w}</w>`)], (ids) => ({
    ...{ pre_tokenizer: { type: 'Whitespace' }, decoder: { type: 'BPEDecoder', suffix: '</w>' }, model: bpe(ids) },
  })),
};

const SMALL_BYTES = [...Buffer.from('日é')].map((b) => BYTES[b]!);

/** As sentencePiece, but of fewer ids than the golden models' 96; `<im_end>` is one of them. */
export const SMALL: Kind = (() => {
  const small = kind(['<unk>', ...SMALL_BYTES, ...MARKED], (ids) => ({
    ...{ normalizer: prepended, decoder: fallback(strip), model: bpe(ids, fallen) },
  }));
  const byteIds: number[] = [];
  for (const b of Buffer.from('日é')) byteIds[b] = small.ids.get(BYTES[b]!)!;
  const ids = new Map([...small.ids, ...MARKS.map((m, i) => [m, small.size + i] as const)]);
  return { ...small, ids, byteIds };
})();

/** The files of its folder. */
export function tokenizerFiles({ size, definition }: Kind, tidying: boolean): Record<string, string> {
  const flags = { special: true, single_word: false, lstrip: false, rstrip: false, normalized: false };
  const added = MARKS.map((content, i) => ({ id: size + i, content, ...flags }));
  const absent = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
  const files = { 'tokenizer.json': JSON.stringify({ version: '1.0', added_tokens: added, ...absent, ...definition }) };
  return tidying
    ? { ...files, 'tokenizer_config.json': JSON.stringify({ clean_up_tokenization_spaces: true }) }
    : files;
}

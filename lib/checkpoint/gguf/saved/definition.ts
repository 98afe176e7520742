// The parts of a tokenizer.json that a file's tokenizer becomes.
import { kinds } from '../../../tokenizers/vocabulary.js';
import type { TokenizerKeys } from '../tokenizer-keys.js';

type Json = Readonly<Record<string, unknown>>;

/** A tokenizer.json without its lists. */
export interface Definition {
  readonly normalizer: Json | null;
  readonly pre_tokenizer: Json | null;
  readonly decoder: Json | null;
  /** All of the model but its vocabulary and merges. */
  readonly model: Json;
}

const MARK = '▁';
/** Of a text, where ^ and $ would be those of its lines. */
const [START, END] = ['(?<![\\s\\S])', '(?![\\s\\S])'];

const sequence = (kind: 'normalizers' | 'decoders' | 'pretokenizers', parts: readonly Json[]): Json | null =>
  parts.length > 1 ? { type: 'Sequence', [kind]: parts } : (parts[0] ?? null);
const replace = (pattern: Json, content: string): Json => ({ type: 'Replace', pattern, content });
const bytes: Json = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
const toMarks = replace({ String: ' ' }, MARK);
const prepend: Json = { type: 'Prepend', prepend: MARK };
const bpe = (settings: Json): Json => ({
  ...{ type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null },
  ...{ fuse_unk: false, byte_fallback: false, ignore_merges: false },
  ...settings,
});

/** Of texts whose spaces are marks, the first of which stands for none where one is put in front. */
const unmarked = (isPrefixed: boolean, ...between: Json[]): Json =>
  sequence('decoders', [
    replace({ String: MARK }, ' '),
    ...between,
    { type: 'Fuse' },
    ...(isPrefixed ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
  ])!;

/** Patterns that follow each other, in Oniguruma's spelling. */
export function byteLevel(keys: TokenizerKeys): Definition {
  const { patterns, wholePieces } = keys.pre();
  const form = keys.normalForm();
  const cuts = patterns.map((pattern) => ({
    ...{ type: 'Split', behavior: 'Isolated', invert: false },
    pattern: { Regex: pattern.replace(/\\u\{([0-9a-f]+)\}/g, '\\x{$1}') },
  }));
  return {
    normalizer: form ? { type: form } : null,
    pre_tokenizer: sequence('pretokenizers', [...cuts, bytes]),
    decoder: bytes,
    model: bpe({ ignore_merges: wholePieces ?? false }),
  };
}

/** unknown: the token for what is no other; fallsBack: there are tokens of bytes. */
export function sentencePiece(keys: TokenizerKeys, unknown: string | undefined, fallsBack: boolean): Definition {
  const { spacePrefix, oneSpace } = keys.spaces();
  const isPrefixed = spacePrefix !== 'never';
  const metaspace = { type: 'Metaspace', replacement: MARK, prepend_scheme: spacePrefix, split: false };
  return {
    normalizer: isPrefixed && oneSpace ? null : sequence('normalizers', isPrefixed ? [prepend, toMarks] : [toMarks]),
    pre_tokenizer: isPrefixed && oneSpace ? metaspace : null,
    decoder: unmarked(isPrefixed, { type: 'ByteFallback' }),
    model: bpe({ unk_token: unknown ?? null, fuse_unk: true, byte_fallback: fallsBack }),
  };
}

/** Characters that are no token are their bytes where all of those are tokens, as in SentencePiece; llama.cpp has the unknown token for them. */
export function unigram(keys: TokenizerKeys): Definition {
  const hasBytes = keys.types.includes(kinds.byte);
  const charsmap = keys.charsmap();
  const isPrefixed = keys.flag('add_space_prefix') ?? true;
  const ends = [replace({ Regex: `${START} ` }, ''), replace({ Regex: `[ ${MARK}]+${END}` }, '')];
  const rules = { type: 'Precompiled', precompiled_charsmap: Buffer.from(charsmap).toString('base64') };
  return {
    normalizer: sequence('normalizers', [
      ...(charsmap.length > 0 ? [rules] : []),
      ...(keys.flag('remove_extra_whitespaces') ? [replace({ Regex: ' {2,}' }, ' '), ...ends] : []),
      ...(isPrefixed ? [prepend] : []),
      toMarks,
    ]),
    pre_tokenizer: null,
    decoder: unmarked(isPrefixed, ...(hasBytes ? [{ type: 'ByteFallback' }] : [])),
    model: { type: 'Unigram', unk_id: keys.unknown() ?? null, byte_fallback: keys.hasAllBytes() },
  };
}

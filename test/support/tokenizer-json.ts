// The tokenizer of a GGUF file as the tokenizer.json that it was converted from.
import type { Metadata } from '../../dist/lib/checkpoint/gguf/values.js';

const split = (Regex: string) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false });
const bytes = (use_regex: boolean) => ({ type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex });
const words = (digits: string) =>
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" +
  `${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const PRE: Readonly<Record<string, object>> = {
  'llama-bpe': { type: 'Sequence', pretokenizers: [split(words('\\p{N}{1,3}')), bytes(false)] },
  qwen2: { type: 'Sequence', pretokenizers: [split(words('\\p{N}')), bytes(false)] },
};
const PLAIN = { single_word: false, lstrip: false, rstrip: false, normalized: false };

/** tokenizer.json and tokenizer_config.json of a file with byte-level BPE or SentencePiece. */
export function tokenizerFiles(m: Metadata): Record<string, string> {
  const key = (name: string) => `tokenizer.ggml.${name}`;
  const tokens = m.array(key('tokens'))!.texts();
  const types = m.array(key('token_type'))!.numbers();
  const isBytes = m.string(key('model')) === 'gpt2';
  const [control, unused] = [3, 5];
  const isAdded = (id: number) => types[id] === control || (isBytes && types[id] === 4);
  const vocab: Record<string, number> = {};
  tokens.forEach((token, id) => {
    if (types[id] !== unused && !(isBytes && isAdded(id))) vocab[token] = id;
  });
  const added = tokens.flatMap((content, id) =>
    isAdded(id) || types[id] === 2 ? [{ id, content, special: types[id] !== 4, ...PLAIN }] : [],
  );
  const bos = m.count(key('bos_token_id'));
  const pre = m.string(key('pre')) ?? 'default';
  const marked = m.boolean(key('add_bos_token')) ?? (pre === 'llama-bpe' || !isBytes);
  const definition = {
    version: '1.0',
    added_tokens: added,
    post_processor: marked && bos !== undefined ? template(tokens[bos]!, bos) : null,
    ...(isBytes ? byteLevel(m, pre, vocab) : sentencePiece(m, tokens, vocab)),
  };
  const named = (name: string, id = m.count(key(`${name}_token_id`))) =>
    id === undefined ? {} : { [`${name}_token`]: tokens[id] };
  const templated = m.string('tokenizer.chat_template');
  const config = {
    ...named('bos'),
    ...named('eos'),
    ...named('unk', m.count(key('unknown_token_id'))),
    ...(templated !== undefined && { chat_template: templated }),
  };
  return { 'tokenizer.json': JSON.stringify(definition), 'tokenizer_config.json': JSON.stringify(config) };
}

function template(token: string, id: number) {
  const single = [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }];
  const special_tokens = { [token]: { id: token, ids: [id], tokens: [token] } };
  return { type: 'TemplateProcessing', single, pair: single, special_tokens };
}

function byteLevel(m: Metadata, pre: string, vocab: object) {
  const merges = m
    .array('tokenizer.ggml.merges')!
    .texts()
    .map((merge) => merge.split(' '));
  return {
    normalizer: null,
    pre_tokenizer: PRE[pre] ?? bytes(true),
    decoder: bytes(true),
    model: { type: 'BPE', vocab, merges, unk_token: null, byte_fallback: false, ignore_merges: pre === 'llama-bpe' },
  };
}

/** Merges that join the pair with the highest score first, as the scores do. */
function sentencePiece(m: Metadata, tokens: readonly string[], vocab: Record<string, number>) {
  // Lists that were cut lack the single letters, of which these merges begin.
  for (const letter of new Set(tokens.flatMap((token) => (token in vocab ? [...token] : []))))
    vocab[letter] ??= Object.keys(vocab).length;
  const scores = m.array('tokenizer.ggml.scores')!.numbers();
  const merges = tokens
    .map((token, id) => ({ token, score: scores[id]! }))
    .filter(({ token }) => token in vocab && [...token].length > 1)
    .sort((a, b) => b.score - a.score)
    .flatMap(({ token }) => {
      const letters = [...token];
      const pairs = letters.slice(1).map((_, i) => [letters.slice(0, i + 1).join(''), letters.slice(i + 1).join('')]);
      return pairs.filter(([a, b]) => a! in vocab && b! in vocab);
    });
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const back = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  return {
    normalizer: { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, replace] },
    pre_tokenizer: null,
    decoder: { type: 'Sequence', decoders: [back, { type: 'ByteFallback' }, { type: 'Fuse' }, strip] },
    model: { type: 'BPE', vocab, merges, unk_token: '<unk>', fuse_unk: true, byte_fallback: true },
  };
}

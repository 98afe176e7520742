// How byte-level BPE cuts a text before it merges, by the names that GGUF files give: patterns that follow each other,
// each cutting what the ones before left in one piece.

/** English contractions in any case. */
const contraction = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
/** GPT-2's own pattern. */
const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)";
const spaces = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
/** Llama 3's and Qwen's differ by how many digits go together. */
const words = (digits: string): string =>
  `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${spaces}`;
/** Letters of words that begin large and of those that go on small; marks belong to the letters that they stand on. */
const large = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const small = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
/** Words of an optional run of large letters and one of small ones; `tail` may follow. */
const caseWords = (tail: string, digits: string): string =>
  `[^\\r\\n\\p{L}\\p{N}]?${large}*${small}+${tail}|[^\\r\\n\\p{L}\\p{N}]?${large}+${small}*${tail}|` +
  `${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${spaces}`;
const ideographs = '[一-龥ࠀ-一가-퟿]+';
const deepseek3 = [
  '\\p{N}{1,3}',
  '[一-龥぀-ゟ゠-ヿ]+',
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|' +
    spaces,
];
// Escaped: what a normaliser of texts (NFC) would turn into another letter.
const latinLetters =
  'A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ\u1f5f-\u1f7dᾀ-ᾴᾶ-ᾼ\\u1fbe' +
  'ῂ-ῄῆ-ῌ\u1fd0-\u1fd3\u1fd6-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\\u2126ℨ\\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ' +
  '\\u{10400}-\\u{1044f}\\u{104b0}-\\u{104d3}\\u{104d8}-\\u{104fb}\\u{10c80}-\\u{10cb2}\\u{10cc0}-\\u{10cf2}\\u{118a0}-\\u{118df}\\u{1e900}-\\u{1e943}';

export interface PreTokenizer {
  readonly patterns: readonly string[];
  /** A piece that is a token is taken as it is. */
  readonly wholePieces?: boolean;
  /** A beginning of the text is marked although the file does not say so. */
  readonly addBos?: boolean;
}

const llama3: PreTokenizer = { patterns: [words('\\p{N}{1,3}')], wholePieces: true, addBos: true };
const plainGpt2: PreTokenizer = { patterns: [gpt2] };
const singleDigits: PreTokenizer = { patterns: ['\\p{N}', gpt2] };
const qwen2: PreTokenizer = { patterns: [words('\\p{N}')] };
const smaug: PreTokenizer = { patterns: [words('\\p{N}{1,3}')] };
const gpt4o: PreTokenizer = { patterns: [caseWords(`${contraction}?`, '\\p{N}{1,3}')] };

const byName: Readonly<Record<string, PreTokenizer>> = {
  ...Object.fromEntries(
    ['llama3', 'llama-v3', 'llama-bpe', 'falcon3', 'falcon-h1', 'pixtral', 'lfm2'].map((name) => [name, llama3]),
  ),
  ...Object.fromEntries(
    ['gpt-2', 'phi-2', 'mpt', 'olmo', 'jais', 'trillion', 'granite-docling', 'exaone4', 'gigachat', 'modern-bert'].map(
      (name) => [name, plainGpt2],
    ),
  ),
  ...Object.fromEntries(
    ['starcoder', 'refact', 'command-r', 'smollm', 'codeshell', 'exaone', 'minerva-7b'].map((name) => [
      name,
      singleDigits,
    ]),
  ),
  ...Object.fromEntries(
    ['qwen2', 'deepseek-r1-qwen', 'stablelm2', 'megrez', 'hunyuan', 'grok-2'].map((name) => [name, qwen2]),
  ),
  ...Object.fromEntries(['dbrx', 'smaug-bpe', 'glm4', 'chatglm-bpe'].map((name) => [name, smaug])),
  ...Object.fromEntries(['gpt-4o', 'llama4', 'kanana2', 'minimax-m2'].map((name) => [name, gpt4o])),
  qwen35: {
    patterns: [
      `${contraction}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${spaces}`,
    ],
  },
  tekken: { patterns: [caseWords('', '\\p{N}')], wholePieces: true, addBos: true },
  'deepseek-llm': {
    patterns: ['[\\r\\n]', `\\s?[${latinLetters}]+`, '\\s?[!-/:-~！-／：-～‘-‟　-。]+', '\\s+$', ideographs, '\\p{N}+'],
  },
  'deepseek-coder': { patterns: ['[\\r\\n]', '\\s?\\p{L}+', '\\s?\\p{P}+', ideographs, '\\p{N}'] },
  'deepseek-v3': { patterns: deepseek3 },
  'hunyuan-dense': { patterns: deepseek3 },
  falcon: { patterns: ['[\\p{P}$+<=>^~|`]+', gpt2, '[0-9][0-9][0-9]'] },
  default: { patterns: ['[\\p{P}$+<=>^~|]+', gpt2, '\\p{N}+', '[0-9][0-9][0-9]'] },
};

export const preTokenizerNames: readonly string[] = Object.keys(byName);

/** The pre-tokenizer of a name, or undefined. */
export function preTokenizer(name: string): PreTokenizer | undefined {
  return Object.hasOwn(byName, name) ? byName[name] : undefined;
}

/** JavaScript takes U+FEFF for a space, and U+0085 for none. */
const unicodeSpaces = (pattern: string): string =>
  pattern.replaceAll('\\s', '\\p{White_Space}').replaceAll('\\S', '\\P{White_Space}');

/** Compiled: what they match is cut out, what is left between is a piece as well. */
export function cutter(patterns: readonly string[]): (text: string) => string[] {
  const compiled = patterns.map((pattern) => new RegExp(unicodeSpaces(pattern), 'gu'));
  return (text) =>
    compiled.reduce<string[]>((pieces, pattern) => pieces.flatMap((piece) => cut(piece, pattern)), [text]);
}

function cut(text: string, pattern: RegExp): string[] {
  const pieces: string[] = [];
  let end = 0;
  for (const { 0: match, index } of text.matchAll(pattern)) {
    if (match === '') continue;
    if (index > end) pieces.push(text.slice(end, index));
    pieces.push(match);
    end = index + match.length;
  }
  if (end < text.length) pieces.push(text.slice(end));
  return pieces;
}

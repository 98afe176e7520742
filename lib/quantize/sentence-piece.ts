// The tokenizer.model of a folder as keys of a GGUF file: what SentencePiece's BPE is called there is "llama", its unigram
// model "t5".
import { bool, f32s, type Pair, u8s } from '../checkpoint/gguf/pairs.js';
import type { SentencePieceFolder } from '../models/sentence-piece.js';
import { kinds } from '../tokenizers/vocabulary.js';
import { beyondRows, type Words, withoutBytes } from './words.js';

/** Of rows without a token, as llama.cpp's converter has it. */
const UNUSED_SCORE = -10_000;

export function sentencePieceWords(
  { model, pieces, marks }: Pick<SentencePieceFolder, 'model' | 'pieces' | 'marks'>,
  rows: number,
): Words {
  const tokens = Array.from({ length: rows }, (_, i) => `[PAD${i}]`);
  const types = new Int32Array(rows).fill(kinds.unused);
  const scores = new Float32Array(rows).fill(UNUSED_SCORE);
  const isAdded = new Set(pieces.added.map(({ id }) => id));
  for (let id = 0; id < Math.min(rows, pieces.texts.length); id++) {
    const [text, kind] = [pieces.texts[id]!, pieces.kinds[id]!];
    if (text === '') continue;
    // Runs of spaces that the model keeps whole are found by their score: a text spells them with spaces.
    const isRun = kind === kinds.userDefined && !isAdded.has(id) && text.includes('▁');
    tokens[id] = kind === kinds.userDefined && !isRun ? text.replaceAll('▁', ' ') : text;
    types[id] = isRun ? kinds.normal : kind;
    scores[id] = pieces.scores[id]!;
  }
  const beyond = pieces.texts.filter((text, id) => id >= rows && text !== '').length;
  const isUnigram = model.algorithm === 'unigram';
  const pairs: [string, Pair][] = [
    ['scores', f32s(scores)],
    ['add_space_prefix', bool(marks.spacePrefix !== 'never')],
  ];
  if (isUnigram) pairs.push(['remove_extra_whitespaces', bool(model.mergesSpaces)]);
  if (isUnigram && model.charsmap.length > 0) pairs.push(['precompiled_charsmap', u8s(model.charsmap)]);
  const elsewhere = isUnigram ? unigramElsewhere(types, marks.spacePrefix === 'never') : withoutBytes(types);
  const notes = [...(beyond > 0 ? [beyondRows(beyond, rows)] : []), ...elsewhere];
  const ids = { bos: model.bos, eos: model.eos, unk: model.unknown, pad: model.pad };
  return {
    ...{ tokens, types, pairs, notes },
    model: isUnigram ? 't5' : 'llama',
    ids: Object.fromEntries(Object.entries(ids).filter(([, id]) => id >= 0 && id < rows)),
    candidates: ['default'],
  };
}

/** What llama.cpp makes otherwise of a unigram model. */
const unigramElsewhere = (types: Int32Array, isBare: boolean): string[] => [
  ...(types.includes(kinds.byte)
    ? ['llama.cpp: characters that no token has are the unknown token, as its unigram models pass over tokens of bytes']
    : []),
  ...(isBare ? ['llama.cpp: it puts a space in front of a text all the same'] : []),
];

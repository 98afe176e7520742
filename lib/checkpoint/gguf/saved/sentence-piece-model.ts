// tokenizer.model of a file with SentencePiece's BPE (sentencepiece_model.proto), piece by piece.
import { kinds } from '../../../tokenizers/vocabulary.js';
import type { Turns } from '../../../turns.js';
import type { TokenizerKeys } from '../tokenizer-keys.js';
import type { Words } from './words.js';

const [VARINT, BYTES, FIXED32] = [0, 2, 5];
const BPE = 2;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.from([...bytes, Number(rest)]);
}

const int = (number: number, value: number): Buffer => Buffer.concat([varint(number * 8 + VARINT), varint(value)]);
const bytes = (number: number, content: Uint8Array): Buffer =>
  Buffer.concat([varint(number * 8 + BYTES), varint(content.length), content]);
function float(number: number, value: number): Buffer {
  const content = Buffer.alloc(4);
  content.writeFloatLE(value);
  return Buffer.concat([varint(number * 8 + FIXED32), content]);
}

export async function* sentencePieceModel(keys: TokenizerKeys, { texts }: Words, turns: Turns): AsyncGenerator<Buffer> {
  const scores = keys.scores();
  for (const [id, text] of texts.entries()) {
    const kind = text === undefined ? kinds.unused : keys.types[id]!;
    yield bytes(1, Buffer.concat([bytes(1, Buffer.from(text ?? `[PAD${id}]`)), float(2, scores[id]!), int(3, kind)]));
    const pause = turns.due();
    if (pause) await pause;
  }
  const marks = { 40: keys.unknown(), 41: keys.id('bos', 1), 42: keys.id('eos', 2), 43: keys.id('padding') };
  const trainer = [
    int(3, BPE),
    int(35, Number(keys.types.includes(kinds.byte))),
    ...Object.entries(marks).map(([number, id]) => int(Number(number), id ?? -1)),
  ];
  yield bytes(2, Buffer.concat(trainer));
  const isPrefixed = keys.spaces().spacePrefix !== 'never';
  // The name, a space in front, none of the others taken away, ▁ for each.
  yield bytes(3, Buffer.concat([bytes(1, Buffer.from('identity')), int(3, Number(isPrefixed)), int(4, 0), int(5, 1)]));
}

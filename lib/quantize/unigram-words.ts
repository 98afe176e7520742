// The unigram model of a tokenizer.json as keys of a GGUF file.
import { checkpointError } from '../checkpoint/stored.js';
import { show } from '../errors.js';
import type { Piece, SentencePieceModel } from '../tokenizers/sentence-piece-model.js';
import { joined } from '../tokenizers/sentence-piece-vocabulary.js';
import { kinds } from '../tokenizers/vocabulary.js';
import { type Definition, prefixesSpace } from './defined-words.js';
import { sentencePieceWords } from './sentence-piece.js';
import type { Words } from './words.js';

export function unigramWords(definition: Definition, rows: number, file: string): Words {
  const { model, added_tokens = [], normalizer } = definition;
  const unknown = model!.unk_id ?? -1;
  const byteFallback = model!.byte_fallback === true;
  const pieces = (model!.vocab as unknown[]).map((entry, id): Piece => {
    const [text, score] = Array.isArray(entry) ? entry : [];
    if (typeof text !== 'string' || !Number.isFinite(score))
      throw checkpointError(file, `model.vocab[${id}]: expected a text and a score, received ${show(entry)}`);
    const isByte = byteFallback && /^<0x[0-9A-F]{2}>$/.test(text);
    return { text, score, kind: id === unknown ? kinds.unknown : isByte ? kinds.byte : kinds.normal };
  });
  const said = JSON.stringify(normalizer ?? null);
  const charsmap = /"precompiled_charsmap":"([^"]*)"/.exec(said)?.[1] ?? '';
  const spoken: SentencePieceModel = {
    ...{ pieces, unknown, byteFallback },
    algorithm: 'unigram',
    ...{ bos: -1, eos: -1, pad: -1, spaceBehind: false, dummyPrefix: true },
    charsmap: Uint8Array.from(Buffer.from(charsmap, 'base64')),
    mergesSpaces: said.includes(' {2,}'),
  };
  const most = rows + pieces.length;
  const added = added_tokens.filter(({ id }) => Number.isSafeInteger(id) && id >= 0 && id < most);
  const whole = added.map(({ id, content, special = false }) => ({
    id,
    content,
    special,
    lstrip: false,
    rstrip: false,
  }));
  const spacePrefix = prefixesSpace(definition) ? 'first' : 'never';
  return sentencePieceWords({ model: spoken, pieces: joined(spoken, whole), marks: { spacePrefix } }, rows);
}

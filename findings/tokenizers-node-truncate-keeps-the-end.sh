#!/usr/bin/env bash
# tokenizers for Node: truncate() keeps the end of a text where Python keeps its beginning, setPadding() pads nothing, and declared inputs are refused: pairs in a batch, words, directions.
#
# Versions: tokenizers 0.23.2 for Node and for Python, the same Rust library.
# Behaviour: the direction of Encoding.truncate() is optional in index.d.ts and left by default, unlike that of setTruncation() and of Python. setPadding() without options leaves padding off; setPadding({}) pads to the longest. encodeBatch() of
#   pairs and isPretokenized with words fail, "Failed to convert JavaScript value ... into rust type String". TruncationDirection is "Left" and "Right" in index.d.ts, and setTruncation() and truncate() take "left" and "right" alone; the enum
#   is an empty object when it runs. mergeEncodings() does not move offsets on, Python's merge does.
# Seen, "a b c d" as [CLS] a b c d [SEP]: truncate(3) is c d [SEP] in Node and [CLS] a b in Python; two texts of 3 and 5 ids stay so after setPadding(), and are 5 and 5 after enable_padding(); merged offsets of "a b" and "c d" go from
#   0 to 3 twice, in Python to 3 and on to 6.
# Why it matters: code that comes from Python's documentation runs and feeds a model the tail of each text; batches are ragged; the wrapper's types compile what fails.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages tokenizers==0.23.2 numpy
node_packages tokenizers@0.23.2

"$python" - "$work/node" <<'PY'
import json, sys
from tokenizers import Encoding, Tokenizer, models, pre_tokenizers, processors

special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(special + list("abcdef"))}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)])
tokenizer.save(sys.argv[1] + "/tokenizer.json")
cut = tokenizer.encode("a b c d")
cut.truncate(3)
a, b = (tokenizer.encode(text, add_special_tokens=False) for text in ("a b", "c d"))
pairs = [one.ids for one in tokenizer.encode_batch([("a", "b"), ("c", "d")])]
split = tokenizer.encode(["a", "b"], is_pretokenized=True).ids
tokenizer.enable_padding()
padded = [one.ids for one in tokenizer.encode_batch(["a", "a b c"])]
tokenizer.no_padding()
tokenizer.enable_truncation(4, direction="left")
json.dump({"truncated": cut.ids, "padded": padded, "merged": Encoding.merge([a, b]).offsets, "pairs": pairs, "words": split, "left": tokenizer.encode("a b c d").ids},
          open(sys.argv[1] + "/python.json", "w"))
PY
cat >"$work/node/node.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import library from 'tokenizers';

const { Tokenizer, TruncationDirection, mergeEncodings } = library;
const python = JSON.parse(readFileSync('python.json', 'utf8'));
const made = () => Tokenizer.fromFile('tokenizer.json');
const ids = (encodings) => encodings.map((encoding) => encoding.getIds());
const truncated = async (...options) => {
  const encoding = await made().encode('a b c d');
  encoding.truncate(3, ...options);
  return encoding.getIds();
};
const padded = async (...options) => {
  const tokenizer = made();
  tokenizer.setPadding(...options);
  return ids(await tokenizer.encodeBatch(['a', 'a b c']));
};
const limited = async (direction) => {
  const tokenizer = made();
  tokenizer.setTruncation(4, { direction });
  return (await tokenizer.encode('a b c d')).getIds();
};
const parts = await Promise.all(['a b', 'c d'].map((text) => made().encode(text, null, { addSpecialTokens: false })));
// what, what Python gives, in Node; what was seen: as in Python, other, refused
const rows = [
  ['truncate(3)', python.truncated, () => truncated(), 'other'],
  ['truncate(3, 0, "right")', python.truncated, () => truncated(0, 'right'), 'same'],
  ['truncate(3, 0, "Right")', python.truncated, () => truncated(0, 'Right'), 'refused'],
  ['setPadding()', python.padded, () => padded(), 'other'],
  ['setPadding({})', python.padded, () => padded({}), 'same'],
  ['mergeEncodings()', python.merged, () => mergeEncodings(parts).getOffsets(), 'other'],
  ['mergeEncodings(, true)', python.merged, () => mergeEncodings(parts, true).getOffsets(), 'same'],
  ['encodeBatch of pairs', python.pairs, async () => ids(await made().encodeBatch([['a', 'b'], ['c', 'd']])), 'refused'],
  ['encode of words', python.words, async () => (await made().encode(['a', 'b'], null, { isPretokenized: true })).getIds(), 'refused'],
  ['setTruncation(, "Left")', python.left, () => limited('Left'), 'refused'],
  ['setTruncation(, "left")', python.left, () => limited('left'), 'same'],
];
let holds = Object.keys(TruncationDirection).length === 0;
console.log('TruncationDirection:', TruncationDirection);
for (const [name, wanted, run, seen] of rows) {
  let got;
  try {
    got = JSON.stringify(await run());
  } catch (error) {
    got = error;
  }
  const outcome = got instanceof Error ? 'refused' : got === JSON.stringify(wanted) ? 'same' : 'other';
  console.log(`${name}: Python ${JSON.stringify(wanted)}, Node ${got instanceof Error ? got.message : got} (${outcome})`);
  holds &&= outcome === seen;
}
process.exitCode = holds ? 0 : 1;
JS
(cd "$work/node" && node node.mjs)

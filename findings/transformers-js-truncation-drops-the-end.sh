#!/usr/bin/env bash
# truncation in transformers.js cuts the finished ids: the closing token goes, and of a pair all of the second text; truncation_side is not read.
#
# Versions: @huggingface/transformers 4.3.2 (Node), transformers 5.18.0 (Python).
# Behaviour: ids, mask and types are cut to max_length after special tokens were put around them. Python cuts the texts (of a pair the longer one first, by default) and puts special tokens around what is left. "truncation_side": "left" of
#   tokenizer_config.json, and padding_side, are Python's; JavaScript reads the second alone.
# Seen, [CLS] A [SEP] B [SEP], max_length 8, A of 8 and B of 5 words: Python [CLS] a b c [SEP] i j [SEP]; JavaScript [CLS] a b c d e f g, so that all B give the same ids. A alone of 10 words, max_length 6: [CLS] a b c d [SEP] against
#   [CLS] a b c d e. With truncation_side left [CLS] g h i j [SEP] against [CLS] a b c d e. Without truncation all ids are the same.
# Why it matters: pipelines for features and classification truncate by themselves. Models of sentences get long texts without the token that they pool or were trained on; a reranker with a long question scores all documents alike.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages transformers==5.18.0 tokenizers==0.23.2 numpy
node_packages @huggingface/transformers@4.3.2

"$python" - "$work/node" <<'PY'
import json, sys
from pathlib import Path
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer

here = Path(sys.argv[1])
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
words = special + list("abcdefghijklmn")
backend = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
backend.add_special_tokens(special)
backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)])
texts = [["a b c d e f g h", "i j k l m", 8], ["a b c d e f g h", "m l k j i", 8], ["a b c d e f g h i j", None, 6], ["a b", "c d", 8]]
rows = []
for side in ("right", "left"):
    folder = here / side
    folder.mkdir()
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "truncation_side": side, "model_max_length": 64,
        **{f"{name}_token": token for name, token in zip(("pad", "unk", "cls", "sep"), special)}}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows += [[side, *text, tokenizer(*text[:2], truncation=True, max_length=text[2])["input_ids"]] for text in texts]
json.dump({"words": words, "rows": rows}, open(here / "rows.json", "w"))
PY
cat >"$work/node/truncate.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { AutoTokenizer, env } from '@huggingface/transformers';

env.allowRemoteModels = false;
env.localModelPath = './';
const { words, rows } = JSON.parse(readFileSync('rows.json', 'utf8'));
const read = (ids) => ids.map((id) => words[id]).join(' ');
const tokenizers = { right: await AutoTokenizer.from_pretrained('right'), left: await AutoTokenizer.from_pretrained('left') };
const same = [];
const here = [];
for (const [side, text, pair, length, python] of rows) {
  const { input_ids } = tokenizers[side](text, { text_pair: pair, truncation: true, max_length: length });
  here.push(read(input_ids.tolist()[0].map(Number)));
  same.push(here.at(-1) === read(python));
  console.log(`${side}, ${JSON.stringify(text)} ${pair ? JSON.stringify(pair) : ''} to ${length}: Python ${read(python)}; JavaScript ${here.at(-1)}`);
}
// Only what is not cut is the same; two pairs that share the first text become one.
const expected = [false, false, false, true, false, false, false, true];
const holds = String(same) === String(expected) && here[0] === here[1] && here[2] === '[CLS] a b c d e' && here[6] === here[2];
process.exitCode = holds ? 0 : 1;
JS
(cd "$work/node" && node truncate.mjs)

#!/usr/bin/env bash
# The Whitespace pre-tokenizer splits words at every letter outside ASCII in @huggingface/tokenizers.
#
# Versions: @huggingface/tokenizers 0.2.0 (JavaScript), tokenizers 0.23.2 (Rust, Python).
# Behaviour: Whitespace is \w+|[^\w\s]+. In Rust \w is any letter, mark or digit; in a JavaScript regular expression it is [A-Za-z0-9_],
#   also with the flag u. The package rewrites the patterns of a Split for this, but not that of Whitespace.
# Seen: "naïve Größe мир 東京" has 4 words in Rust, and the pieces na|ï|ve|Gr|öß|e|мир|東京 in JavaScript: letters of one script
#   outside ASCII stay together by the second half of the pattern, and next to punctuation stick to it ("мир," is one piece).
# Why it matters: vocabularies of small models trained with `tokenizers` use this pre-tokenizer (it is in the library's
#   first example); in Node every accented word becomes pieces or the unknown token, with no error.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages tokenizers==0.23.2
node_packages @huggingface/tokenizers@0.2.0

"$python" - "$work" <<'PY'
import json, sys
from tokenizers import Tokenizer, models, pre_tokenizers

texts = ["plain words, here", "naïve Größe мир 東京", "мир, труд"]
tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
pieces = [[piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)] for text in texts]
tokenizer.model = models.WordLevel({piece: i for i, piece in enumerate(["?"] + sorted({p for ps in pieces for p in ps}))}, unk_token="?")
json.dump({"definition": json.loads(tokenizer.to_str()), "texts": texts, "pieces": pieces}, open(sys.argv[1] + "/node/case.json", "w"))
PY
cat >"$work/node/compare.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';

const { definition, texts, pieces } = JSON.parse(readFileSync('case.json', 'utf8'));
const tokenizer = new Tokenizer(definition, {});
const same = texts.map((text, i) => {
  const here = tokenizer.encode(text).tokens;
  console.log(`${text}\n  Rust       ${pieces[i].join('|')}\n  JavaScript ${here.join('|')}`);
  return here.join('|') === pieces[i].join('|');
});
process.exitCode = same[0] && !same[1] && !same[2] ? 0 : 1;
JS
(cd "$work/node" && node compare.mjs)

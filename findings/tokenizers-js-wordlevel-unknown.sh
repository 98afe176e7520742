#!/usr/bin/env bash
# A word that a WordLevel vocabulary lacks has the id `undefined` in @huggingface/tokenizers, not the unknown token's.
#
# Versions: @huggingface/tokenizers 0.2.0 (JavaScript), tokenizers 0.23.2 (Rust, Python).
# Behaviour: the WordLevel model hands out the words as they are, and encode() looks up their ids; unk_token is not used. The
#   WordPiece model of the same package answers with the unknown token.
# Seen: "red green blue" with a vocabulary of red and blue: ids 1,3,2 in Rust; 1,undefined,2 in JavaScript. Int32Array.from() makes 0 of that, the id
#   of whatever token is first; BigInt() throws. A WordPiece model of the same words gives 1,3,2 in both.
# Why it matters: sequence models of music, proteins, molecules and time series use WordLevel vocabularies. In Node an
#   unknown symbol silently becomes token 0 (often padding or the beginning) as soon as ids are put into a typed array.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages tokenizers==0.23.2
node_packages @huggingface/tokenizers@0.2.0

"$python" - "$work" <<'PY'
import json, sys
from tokenizers import Tokenizer, models, pre_tokenizers

cases = {}
for name, model in {
    "WordLevel": models.WordLevel({"[PAD]": 0, "red": 1, "blue": 2, "[UNK]": 3}, unk_token="[UNK]"),
    "WordPiece": models.WordPiece({"[PAD]": 0, "red": 1, "blue": 2, "[UNK]": 3}, unk_token="[UNK]"),
}.items():
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    cases[name] = {"definition": json.loads(tokenizer.to_str()), "ids": tokenizer.encode("red green blue").ids}
json.dump(cases, open(sys.argv[1] + "/node/cases.json", "w"))
PY
cat >"$work/node/compare.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';

const cases = JSON.parse(readFileSync('cases.json', 'utf8'));
const here = {};
for (const [name, { definition, ids }] of Object.entries(cases)) {
  here[name] = new Tokenizer(definition, {}).encode('red green blue').ids;
  console.log(`${name}: Rust ${ids}  JavaScript`, here[name], ' as Int32Array', [...Int32Array.from(here[name])]);
}
const asRust = (name) => JSON.stringify(here[name]) === JSON.stringify(cases[name].ids);
process.exitCode = here.WordLevel[1] === undefined && cases.WordLevel.ids[1] === 3 && asRust('WordPiece') ? 0 : 1;
JS
(cd "$work/node" && node compare.mjs)

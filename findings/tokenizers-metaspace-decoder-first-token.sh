#!/usr/bin/env bash
# The Metaspace decoder takes every space out of the first token, not the one in front.
#
# Versions: tokenizers 0.23.2 (Rust, Python), @huggingface/tokenizers 0.2.0 (JavaScript).
# Behaviour: with prepend_scheme always or first, decoding is to drop the mark that encoding put in front. Rust drops all "▁" of
#   the first token. Vocabularies whose tokens cross spaces (Metaspace with split=False, SentencePiece with
#   split_by_whitespace=false) have such tokens. JavaScript drops the one in front.
# Seen: ["▁the▁cat", "▁sat▁on"] is "thecat sat on" in Python; the ids of "the cat" by a trained BPE model decode to "thecat"
#   in Python and to "the cat" in JavaScript.
# Why it matters: the first words of each answer run together. A reader that follows tokenizer.json to the letter of the Rust code
#   has the fault as well, one that does not disagrees with Python.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages @huggingface/tokenizers@0.2.0
python_packages tokenizers==0.23.2

"$python" - "$work" <<'PY'
import json, sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

seen = {}
for scheme in ("always", "first", "never"):
    decoder = decoders.Metaspace(prepend_scheme=scheme)
    seen[scheme] = decoder.decode(["▁the▁cat", "▁sat▁on"])
    print(f"Python, {scheme}: {seen[scheme]!r}")
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
tokenizer.decoder = decoders.Metaspace(split=False)
tokenizer.train_from_iterator(["the cat", "sat on"] * 8, trainers.BpeTrainer(vocab_size=64, show_progress=False))
encoded = tokenizer.encode("the cat")
back = tokenizer.decode(encoded.ids)
print(f"Python, encode and decode of 'the cat': {encoded.tokens} -> {back!r}")
json.dump({"definition": json.loads(tokenizer.to_str()), "ids": encoded.ids}, open(sys.argv[1] + "/node/case.json", "w"))
sys.exit(not (seen == {"always": "thecat sat on", "first": "thecat sat on", "never": " the cat sat on"} and back == "thecat"))
PY
cat >"$work/node/compare.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';

const { definition, ids } = JSON.parse(readFileSync('case.json', 'utf8'));
const text = new Tokenizer(definition, {}).decode(ids, { clean_up_tokenization_spaces: false });
console.log(`JavaScript, decode of the same ids: '${text}'`);
process.exitCode = text === 'the cat' ? 0 : 1;
JS
(cd "$work/node" && node compare.mjs)

#!/usr/bin/env bash
# The Lowercase normalizer gives Greek words another last letter in JavaScript than in Rust.
#
# Versions: @huggingface/tokenizers 0.2.0 (JavaScript), tokenizers 0.23.2 (Rust, Python).
# Behaviour: Rust lowers each character by itself, so that every Σ becomes σ. String.prototype.toLowerCase looks at the word
#   and writes ς where Σ ends it. Lowercase and BertNormalizer (lowercase: true) both do so.
# Seen: "ΛΟΓΟΣ ΣΟΦΟΣ" is λογοσ σοφοσ in Rust and λογος σοφος in JavaScript, whose ids are others (with Lowercase and a vocabulary
#   of the words that Rust makes: the unknown token). Lower-case input ("λόγος") is the same in both.
# Why it matters: upper-case Greek (headings, names) is tokenized otherwise in Node than in training, in every lower-casing
#   tokenizer.json; a port has to lower character by character.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages tokenizers==0.23.2
node_packages @huggingface/tokenizers@0.2.0

"$python" - "$work" <<'PY'
import json, sys
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

texts = ["ΛΟΓΟΣ ΣΟΦΟΣ", "λόγος σοφός", "Straße ÀÉ"]
cases = {}
for name, normalizer in {"Lowercase": normalizers.Lowercase(), "BertNormalizer": normalizers.BertNormalizer(lowercase=True)}.items():
    lowered = [normalizer.normalize_str(text) for text in texts]
    vocabulary = {word: i for i, word in enumerate(["?"] + sorted({w for text in lowered for w in text.split()}))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="?"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.WhitespaceSplit()
    cases[name] = {"definition": json.loads(tokenizer.to_str()), "ids": [tokenizer.encode(text).ids for text in texts], "lowered": lowered}
json.dump({"texts": texts, "cases": cases}, open(sys.argv[1] + "/node/cases.json", "w"))
PY
cat >"$work/node/compare.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';

const { texts, cases } = JSON.parse(readFileSync('cases.json', 'utf8'));
let holds = true;
for (const [name, { definition, ids, lowered }] of Object.entries(cases)) {
  const tokenizer = new Tokenizer(definition, {});
  const same = texts.map((text, i) => {
    const here = tokenizer.encode(text).ids;
    console.log(`${name}: ${text} -> Rust ${lowered[i]} ${ids[i]}; JavaScript ${tokenizer.normalizer?.(text) ?? ''} ${here}`);
    return String(here) === String(ids[i]);
  });
  holds &&= !same[0] && same[1] && same[2];
}
process.exitCode = holds ? 0 : 1;
JS
(cd "$work/node" && node compare.mjs)

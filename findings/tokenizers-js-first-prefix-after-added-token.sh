#!/usr/bin/env bash
# After an added token, @huggingface/tokenizers puts the space in front of a text again that prepend_scheme "first" is to put once.
#
# Versions: @huggingface/tokenizers 0.2.0 (JavaScript), tokenizers 0.23.2 (Rust, Python).
# Behaviour: Metaspace with "first" marks the beginning of the whole text only. JavaScript splits a text first by added tokens that are matched
#   as written, then each part by those that are matched in normalized text (normalized: true, the default of
#   add_tokens), and numbers only the first kind of parts: all that follows such a token still counts as the beginning.
# Seen: "hello<tag>world": ▁hello|<tag>|world in Rust, ▁hello|<tag>|▁world in JavaScript; with normalized: false, or special: true, the same in both.
# Why it matters: tokens that a fine-tuning added (tags, tool markers) change the ids of the word behind them in Node, in each
#   prompt that has them; decode() shows a space that nobody wrote.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages tokenizers==0.23.2
node_packages @huggingface/tokenizers@0.2.0

"$python" - "$work" <<'PY'
import json, sys
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

cases = {}
for name, token in {"normalized": AddedToken("<tag>"), "as written": AddedToken("<tag>", normalized=False),
                    "special": AddedToken("<tag>", special=True, normalized=False)}.items():
    words = ["?", "▁hello", "hello", "▁world", "world"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="?"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.add_tokens([token])
    cases[name] = {"definition": json.loads(tokenizer.to_str()), "tokens": tokenizer.encode("hello<tag>world").tokens}
json.dump(cases, open(sys.argv[1] + "/node/cases.json", "w"))
PY
cat >"$work/node/compare.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';

const differs = {};
for (const [name, { definition, tokens }] of Object.entries(JSON.parse(readFileSync('cases.json', 'utf8')))) {
  const here = new Tokenizer(definition, {}).encode('hello<tag>world').tokens;
  differs[name] = here.join('|') !== tokens.join('|');
  console.log(`${name}: Rust ${tokens.join('|')}  JavaScript ${here.join('|')}`);
}
process.exitCode = differs.normalized && !differs['as written'] && !differs.special ? 0 : 1;
JS
(cd "$work/node" && node compare.mjs)

#!/usr/bin/env bash
# The same tokenizer.json, other ids: @huggingface/tokenizers knows one of the five behaviors of a Split.
#
# Versions: @huggingface/tokenizers 0.2.0 (JavaScript), tokenizers 0.23.2 (Rust, Python).
# Behaviour: a pre-tokenizer Split says what happens to the matches: Removed, Isolated, MergedWithPrevious, MergedWithNext or
#   Contiguous. JavaScript reads the word only to tell Removed from the rest, which it isolates. With invert the pattern
#   describes the pieces, and what lies between them is dropped in JavaScript; Rust keeps it unless the behavior is Removed.
# Seen, pieces of "a1b22": Isolated a|1|b|2|2 in both; MergedWithPrevious a1|b2|2 against a|1|b|2|2; MergedWithNext
#   a|1b|2|2 against the same; Contiguous a|1|b|22 against the same. Inverted and Isolated, of "ab cd": "ab", " ", "cd"
#   against "ab", "cd": the space is lost, and decode() does not give the text back.
# Why it matters: ids differ and nothing is raised; a model served from Node sees another prompt than in Python. A reader should
#   refuse a behavior that it does not implement.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages tokenizers==0.23.2
node_packages @huggingface/tokenizers@0.2.0

"$python" - "$work" <<'PY'
import json, sys
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

pieces = ["a", "b", "1", "2", "a1", "b2", "1b", "22", "ab", "cd", " ", "?"]
cases = {}
for name, pattern, behavior, invert, text in [
    ("Isolated", r"\d", "isolated", False, "a1b22"), ("MergedWithPrevious", r"\d", "merged_with_previous", False, "a1b22"),
    ("MergedWithNext", r"\d", "merged_with_next", False, "a1b22"), ("Contiguous", r"\d", "contiguous", False, "a1b22"),
    ("Inverted", r"[a-z]+", "isolated", True, "ab cd"),
]:
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior, invert=invert)
    cases[name] = {"definition": json.loads(tokenizer.to_str()), "text": text, "tokens": tokenizer.encode(text).tokens}
json.dump(cases, open(sys.argv[1] + "/node/cases.json", "w"))
PY
cat >"$work/node/compare.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';

const cases = JSON.parse(readFileSync('cases.json', 'utf8'));
const differs = {};
for (const [name, { definition, text, tokens }] of Object.entries(cases)) {
  const here = new Tokenizer(definition, {}).encode(text).tokens;
  differs[name] = JSON.stringify(here) !== JSON.stringify(tokens);
  console.log(`${name.padEnd(18)} Rust ${JSON.stringify(tokens)}  JavaScript ${JSON.stringify(here)}`);
}
const { Isolated, ...others } = differs;
process.exitCode = !Isolated && Object.values(others).every((differ) => differ) ? 0 : 1;
JS
(cd "$work/node" && node compare.mjs)

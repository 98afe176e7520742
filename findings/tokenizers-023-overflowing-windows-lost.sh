#!/usr/bin/env bash
# tokenizers 0.23 loses the windows of a long text: return_overflowing_tokens gives the first one and nothing of the rest.
#
# Versions: tokenizers 0.23.2 against 0.22.2; transformers 5.18.0 with the former.
# Behaviour: with truncation on, 0.23 stops to tokenize a text once max_length tokens are there. What `overflowing` is made of, the tokens behind them, is
#   never made, but for the rest of the piece that crosses the limit.
# Seen, 20 words, max_length 6, stride 2: 0.22.2 has 5 windows that cover all words, 0.23.2 the first alone, and the last alone with
#   truncation on the left. A question of 3 words and the text, "only_second", max_length 8: 6 windows and 2, which end at word 7. The same words with
#   is_pretokenized: 5 windows in both. transformers with return_overflowing_tokens=True gives what 0.23.2 gives. Nothing is raised.
# Why it matters: whoever reads a long document in windows (question answering, tagging, embeddings, perplexity) reads its beginning
#   only, and scores drop for no visible reason. To tokenize without truncation and to cut the ids by hand is the way out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

cat >"$work/windows.py" <<'PY'
import json, sys
from tokenizers import Tokenizer, models, pre_tokenizers

words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(100)}, unk_token="w0"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
text, question = " ".join(f"w{i}" for i in range(20)), "w30 w31 w32"

def told(rows):
    return len(rows), len({token for row in rows for token in row if token < 20})

def windows(*texts, truncation=True, side="right", **settings):
    if sys.argv[1] == "transformers":
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", truncation_side=side)
        return told(tokenizer(*texts, truncation=truncation, stride=2, return_overflowing_tokens=True, **settings)["input_ids"])
    words.enable_truncation(settings.pop("max_length"), stride=2, direction=side, strategy="longest_first" if truncation is True else truncation)
    encoding = words.encode(*texts, is_pretokenized=settings.get("is_split_into_words", False))
    return told([encoding.ids, *(window.ids for window in encoding.overflowing)])

print(json.dumps([windows(text, max_length=6), windows(text, max_length=6, side="left"),
                  windows(question, text, truncation="only_second", max_length=8),
                  windows(text.split(), is_split_into_words=True, max_length=6)]))
PY
try() {
  "$python" "$work/windows.py" "$1" >"$work/$2"
  echo "$2: windows and words of 20 in them, from the right, from the left, with a question, as words: $(<"$work/$2")"
}
python_packages tokenizers==0.22.2 numpy
try alone 0.22.2
python_packages transformers==5.18.0 tokenizers==0.23.2 numpy
try alone 0.23.2
try transformers transformers
[[ $(<"$work/0.22.2") == '[[5, 20], [5, 20], [6, 20], [5, 20]]' ]]
[[ $(<"$work/0.23.2") == '[[1, 6], [1, 6], [2, 8], [5, 20]]' ]]
[[ $(<"$work/transformers") == "$(<"$work/0.23.2")" ]]

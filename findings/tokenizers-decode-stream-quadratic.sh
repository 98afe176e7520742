#!/usr/bin/env bash
# DecodeStream decodes all of a run again at each step while nothing comes out: special tokens that are skipped, or half a character.
#
# Versions: tokenizers 0.23.2 (Rust, Python).
# Behaviour: step() keeps the ids since the last text that it gave, and decodes them all each time. Ids leave only when text
#   comes out. Special tokens under skip_special_tokens=True never bring any, and bytes that begin a character do not until
#   it is whole, so that a run of either costs its length squared.
# Seen, seconds of CPU for 1,000 and 4,000 ids: text 0.0005 and 0.002, skipped special tokens 0.04 and 0.6, first bytes of
#   characters 0.07 and 1.2.
# Why it matters: models that write reserved tokens in a row, or bytes that are no text (small, quantised, badly sampled ones), make
#   each step of a server slower than the one before. Dropping special ids before step() avoids the first kind.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages tokenizers==0.23.2

"$python" - <<'PY'
import sys, time
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(["<think>"])
runs = {"text": tokenizer.token_to_id("a"), "skipped special tokens": tokenizer.token_to_id("<think>"),
        "first bytes of characters": tokenizer.token_to_id("Ã")}

def seconds(token, steps):
    best = float("inf")
    for _ in range(3):
        stream = decoders.DecodeStream(skip_special_tokens=True)
        started = time.process_time()
        for _ in range(steps):
            stream.step(tokenizer, token)
        best = min(best, time.process_time() - started)
    return best

took = {}
for name, token in runs.items():
    few, many = took[name] = seconds(token, 1000), seconds(token, 4000)
    print(f"{name:26} 1,000 steps {few:.4f} s, 4,000 steps {many:.4f} s: {many / few:.1f} times")
text = took.pop("text")
sys.exit(not all(many > 8 * few and many > 30 * text[1] for few, many in took.values()))
PY

#!/usr/bin/env bash
# TextStreamer decodes the whole paragraph again for every token: a line of n tokens costs n²/2 of them.
#
# Versions: transformers 5.18.0, tokenizers 0.23.2.
# Behaviour: put() adds the token to a list and decodes all of it. The list is emptied at a line feed, and nowhere else: Chinese text
#   is printed at once, and stays in the list.
# Seen, ids decoded while 2,000 are streamed: one line of English words 2,003,000; 600 Chinese characters (1,800 ids) 1,622,700; a line feed at
#   each second token 3,000. What is printed is right.
# Why it matters: long lines (JSON, CSV, minified code, base64, Chinese prose) come slower the longer they are; at 20,000 tokens
#   each one decodes 20,000. A stream should forget what has been printed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages transformers==5.18.0 tokenizers==0.23.2 numpy

"$python" - <<'PY'
import contextlib, io, sys
import numpy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, TextStreamer

backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
backend.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
decode, counted = tokenizer.decode, []

def counting(ids, **options):
    counted.append(len(ids))
    return decode(ids, **options)

tokenizer.decode = counting
work = {}
for name, text in {"one line": "word " * 400, "Chinese": "中" * 600, "short lines": "a\n" * 1000}.items():
    ids = backend.encode(text).ids
    counted.clear()
    streamer, printed = TextStreamer(tokenizer), io.StringIO()
    with contextlib.redirect_stdout(printed):
        for id in ids:
            streamer.put(numpy.array([id]))
        streamer.end()
    work[name] = sum(counted) / len(ids)
    right = printed.getvalue().rstrip("\n") == text.rstrip("\n")
    print(f"{name:12} {len(ids)} ids, {sum(counted)} decoded, the text is right: {right}")
sys.exit(not (work["one line"] > 500 and work["Chinese"] > 500 and work["short lines"] < 3))
PY

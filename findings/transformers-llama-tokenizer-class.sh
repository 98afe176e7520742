#!/usr/bin/env bash
# AutoTokenizer and tokenizer.json of one folder disagree where tokenizer_config.json names LlamaTokenizer: transformers 5 rebuilds the rest.
#
# Versions: transformers 5.18.0, tokenizers 0.23.2.
# Behaviour: for tokenizer_class LlamaTokenizer or LlamaTokenizerFast, transformers 5 takes vocabulary and merges out of
#   tokenizer.json, and makes normalizer, pre-tokenizer and decoder itself, as SentencePiece's are. A byte-level BPE under
#   that name loses its pre-tokenizer.
# Seen with a byte-level BPE trained on ten lines: "the cat sat" is the|Ġcat|Ġsat by tokenizer.json; by AutoTokenizer the|cat|sat, which
#   decodes to "thecatsat". With tokenizer_class PreTrainedTokenizerFast, or none: the same ids by both.
# Why it matters: servers that read tokenizer.json itself (Rust, JavaScript) and training code with AutoTokenizer feed one checkpoint
#   other ids.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages transformers==5.18.0 tokenizers==0.23.2 numpy

"$python" - "$work" <<'PY'
import json, os, sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

lines = ["the cat sat", "the dog sat", "a cat and a dog", "the end of the day", "sat down"] * 2
text = "the cat sat"
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
    vocab_size=320, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
ids = tokenizer.encode(text).ids
print("tokenizer.json:", "|".join(tokenizer.encode(text).tokens))
found = {}
for name in ("LlamaTokenizerFast", "PreTrainedTokenizerFast", None):
    folder = os.path.join(sys.argv[1], str(name))
    os.makedirs(folder)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    config = {} if name is None else {"tokenizer_class": name}
    json.dump(config, open(os.path.join(folder, "tokenizer_config.json"), "w"))
    json.dump({"model_type": "llama"}, open(os.path.join(folder, "config.json"), "w"))
    auto = AutoTokenizer.from_pretrained(folder)
    mine = auto(text, add_special_tokens=False).input_ids
    found[name] = mine == ids, auto.decode(mine)
    print(f"{name}: {'|'.join(map(str, auto.convert_ids_to_tokens(mine)))} -> {found[name][1]!r}")
sys.exit(not (not found["LlamaTokenizerFast"][0] and found["LlamaTokenizerFast"][1] != text
              and found["PreTrainedTokenizerFast"] == (True, text)))
PY

#!/usr/bin/env bash
# train_new_from_iterator() of a Llama or Gemma kind of tokenizer keeps byte_fallback and drops the 256 tokens of bytes: whatever is not in the corpus is <unk>.
#
# Versions: transformers 5.18.0, tokenizers 0.23.2.
# Behaviour: a new vocabulary is trained "with the same defaults (in terms of special tokens or tokenization pipeline)". The trainer is given the special tokens and those that were added; <0x00> to <0xFF>
#   are neither, but part of the model's vocabulary. byte_fallback stays true and finds no byte. Nothing is raised.
# Seen, trained on two lines of lower-case words: "read the state\n\tthen stop (x = 7)" has 0 unknown tokens before and 5 after, and decodes to "read the state<unk>then sto<unk> <unk>x <unk> <unk>"; 0 of 256 tokens of
#   bytes are left, byte_fallback is true. The same with a byte level tokenizer: 256 of 256, and the text comes back.
# Why it matters: a tokenizer retrained for one's own language or code loses line feeds, tabs and every character that the corpus lacked, and decode() cannot give a text back; with byte level
#   tokenizers (GPT-2, Llama 3, Qwen) the alphabet is kept. Training with initial_alphabet, or special tokens for the bytes, is the way out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages transformers==5.18.0 tokenizers==0.23.2 numpy

"$python" - <<'PY'
import sys
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

def fallback():
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["▁"] + [chr(97 + i) for i in range(26)]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")

def byte_level():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(["<|end|>"] + alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")

text = "read the state\n\tthen stop (x = 7)"
kept = {}
for name, old in (("byte_fallback", fallback()), ("byte level", byte_level())):
    new = old.train_new_from_iterator([["the state of the model is read", "then the next token is written"]], 300)
    model = new.backend_tokenizer.model
    ids = [tokenizer(text, add_special_tokens=False).input_ids for tokenizer in (old, new)]
    back = [tokenizer.decode(row) for tokenizer, row in zip((old, new), ids)]
    bytes_left = sum(f"<0x{byte:02X}>" in new.get_vocab() for byte in range(256)) if name == "byte_fallback" else len(set(pre_tokenizers.ByteLevel.alphabet()) & set(new.get_vocab()))
    kept[name] = back[0] == text, back[1] == text, bytes_left, ids[1].count(new.unk_token_id) if new.unk_token else 0
    print(f"{name:13} before: {back[0]!r}; retrained: {back[1]!r}, {bytes_left} of 256 bytes in the vocabulary, {kept[name][3]} unknown" + (f", byte_fallback {model.byte_fallback}" if name == "byte_fallback" else ""))
    if name == "byte_fallback":
        flag = model.byte_fallback
sys.exit(not (kept["byte_fallback"][:3] == (True, False, 0) and kept["byte_fallback"][3] >= 3 and flag and kept["byte level"] == (True, True, 256, 0)))
PY

#!/usr/bin/env bash
# LlamaTokenizer and T5Tokenizer read the pieces of a tokenizer.model and not its settings: other ids than sentencepiece, and </s> for what T5 does not know.
#
# Versions: transformers 5.18.0, sentencepiece 0.2.2, tokenizers 0.23.2.
# Behaviour: the file says whether a space is put in front (add_dummy_prefix) or behind (treat_whitespace_as_suffix), which characters are one (normalization_rule_name), whether spaces are joined
#   (remove_extra_whitespaces), and which id is unknown. The classes of transformers 5 have the answers of Llama 2 and of T5 built in; T5Tokenizer takes id 2 for the unknown one, which is </s> where
#   sentencepiece numbered by its own defaults (0, 1, 2 = <unk>, <s>, </s>). Nothing is raised.
# Seen, 5 texts against sentencepiece's ids: LlamaTokenizer 0 differ with Llama 2's settings, 5 without a space in front and with one behind ("the model" is ▁the|▁model for t|he|▁model), 2 with sentencepiece's
#   defaults (two spaces, a ligature); T5Tokenizer 0 with T5's, 5 without a space in front, and "the Žtate" is ▁the|▁|</s>|t|a|t|e with sentencepiece's default ids.
# Why it matters: a model trained with sentencepiece's ids, by transformers 4's slow classes, or by any other library is given other ids, from the first token on; with T5's class a character that the vocabulary
#   lacks ends the text.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages transformers==5.18.0 tokenizers==0.23.2 sentencepiece==0.2.2 protobuf==7.36.2 numpy

"$python" - "$work" <<'PY'
import random, shutil, sys
from pathlib import Path
import sentencepiece
from transformers import LlamaTokenizer, T5Tokenizer

work = Path(sys.argv[1])
random.seed(0)
words = "the model reads a state and writes tokens of text while code stays 12 345 hello world".split()
(work / "corpus").write_text("\n".join(" ".join(random.choices(words, k=12)) for _ in range(800)))
texts = ["the model reads", "hello  world", "state 12 345", "ﬁne text", "the Žtate"]

def settings(name, tokenizer, cls, file, **given):
    folder = work / f"{name}-{cls.__name__}"
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(input=str(work / "corpus"), model_prefix=str(folder / "trained"), vocab_size=340 if tokenizer == "bpe" else 70, hard_vocab_limit=False, minloglevel=2,
                                             model_type=tokenizer, byte_fallback=tokenizer == "bpe", **given)
    shutil.move(folder / "trained.model", folder / file)
    trained = sentencepiece.SentencePieceProcessor(model_file=str(folder / file))
    loaded = cls.from_pretrained(folder)
    ids = lambda text: loaded(text, add_special_tokens=False).input_ids
    differing = [text for text in texts if ids(text) != trained.encode(text)]
    for text in differing[:1] + differing[-1:]:
        print(f"{cls.__name__:14} {name:26} {text!r}: sentencepiece {trained.encode(text, out_type=str)}, transformers {loaded.convert_ids_to_tokens(ids(text))}")
    print(f"{cls.__name__:14} {name:26} {len(differing)} of {len(texts)} texts have other ids")
    return len(differing), ids("the Žtate").count(2), trained.unk_id()

plain = dict(normalization_rule_name="identity", remove_extra_whitespaces=False)
llama = {name: settings(name, "bpe", LlamaTokenizer, "tokenizer.model", **given) for name, given in {
    "as Llama 2": plain,
    "no space in front": dict(plain, add_dummy_prefix=False),
    "space behind": dict(plain, treat_whitespace_as_suffix=True),
    "sentencepiece's defaults": {},
}.items()}
t5 = {name: settings(name, "unigram", T5Tokenizer, "spiece.model", **given) for name, given in {
    "as T5": dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1),
    "no space in front": dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1, add_dummy_prefix=False),
    "sentencepiece's defaults": {},
}.items()}
ends = t5["sentencepiece's defaults"]
print(f"T5Tokenizer, sentencepiece's ids: a text with one unknown character has {ends[1]} of id 2, </s>; <unk> is {ends[2]}")
sys.exit(not (llama["as Llama 2"][0] == t5["as T5"][0] == 0 and llama["no space in front"][0] == llama["space behind"][0] == t5["no space in front"][0] == len(texts)
              and llama["sentencepiece's defaults"][0] >= 2 and ends[0] >= 1 and ends[1] == 1 and ends[2] == 0))
PY

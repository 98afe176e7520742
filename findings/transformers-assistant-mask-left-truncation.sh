#!/usr/bin/env bash
# return_assistant_tokens_mask with truncation on the left: a conversation whose first answer is cut off has a mask of zeros, all later answers included.
#
# Versions: transformers 5.18.0, tokenizers 0.23.2.
# Behaviour: apply_chat_template looks up the tokens of each answer by its characters, in order, and stops at the first answer whose beginning is not there, as if all were beyond the end. On the left it is the
#   oldest that is cut. Nothing is raised or logged.
# Seen, three questions and answers, 66 tokens: cut to 60 tokens on the left all three answers are marked; to 45, which leaves two of them whole, and to 20, which leaves the last, no token is; to 45 on the
#   right the first two are, as should be. The tokens themselves are the same as those of the whole.
# Why it matters: agents' conversations are cut on the left, so that the last answer stays; just the long ones then train nothing (labels are -100 throughout, and the loss of a batch of them is NaN), and the short ones train
#   as always.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages transformers==5.18.0 tokenizers==0.23.2 jinja2==3.1.6 numpy

"$python" - <<'PY'
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

backend = Tokenizer(models.BPE({token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
backend.add_special_tokens(["<|user|>", "<|assistant|>", "<|end|>", "<pad>"])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")
tokenizer.chat_template = (
    "{% for message in messages %}<|{{ message.role }}|>{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|end|>{% endgeneration %}"
    "{% else %}{{ message.content }}<|end|>{% endif %}{% endfor %}")
turns = ["first question", "one", "second question", "two", "third question", "three"]
messages = [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]
given = dict(return_assistant_tokens_mask=True, return_dict=True)
whole = tokenizer.apply_chat_template(messages, **given)

def marked(row):
    return tokenizer.decode([token for token, mark in zip(row["input_ids"], row["assistant_masks"]) if mark])

print(f"whole, {len(whole['input_ids'])} tokens, marked: {marked(whole)!r}")
holds = marked(whole) == "one<|end|>two<|end|>three<|end|>"
for side, length, right in (("left", 60, True), ("left", 45, False), ("left", 20, False), ("right", 45, True)):
    tokenizer.truncation_side = side
    cut = tokenizer.apply_chat_template(messages, truncation=True, max_length=length, **given)
    span = slice(-length, None) if side == "left" else slice(0, length)
    wanted = {"input_ids": whole["input_ids"][span], "assistant_masks": whole["assistant_masks"][span]}
    print(f"truncated to {length} on the {side}: {tokenizer.decode(cut['input_ids'])!r}, marked {marked(cut)!r}, should be {marked(wanted)!r}")
    holds &= cut["input_ids"] == wanted["input_ids"] and (cut["assistant_masks"] == wanted["assistant_masks"]) == right and (right or (not any(cut["assistant_masks"]) and any(wanted["assistant_masks"])))
sys.exit(not holds)
PY

#!/usr/bin/env bash
# lm-evaluation-harness adds log-probabilities in the type of the model: in bfloat16 answers of a sentence or more are told apart by 0.5 or 1, and ties go to the first one.
#
# Versions: lm-eval 0.4.13, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: HFLM takes log_softmax of the logits as they are, softmax_dtype being None, and adds the tokens' values; model and sum are bfloat16, which is what dtype="auto" gives for most checkpoints. Between 64 and 128 its step is
#   0.5, between 128 and 256 it is 1. Multiple choice takes the first of equal answers. With softmax_dtype="float32" the same logits are summed in floats.
# Seen, a model of random weights and 60 questions of four answers: answers of 15 tokens have log-likelihoods of about -94 in steps of 0.5, 23 questions a tie for the best and 12 another answer than with floats; of 40 tokens (about -250, steps of 1)
#   28 ties and 20 other answers, up to 0.7 off. The spread of a question's answers is 0.6 and 0.9; in floats there is no tie.
# Why it matters: accuracies of tasks with long answers come out with an order of answers in them, and differ between bfloat16 and float32 far beyond what the model's own rounding does; two models cannot be told apart by them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 accelerate==1.15.0 peft==0.21.0 datasets==5.0.1 numpy jinja2 more_itertools
python_packages --no-deps lm-eval==0.4.13

"$python" - <<'PY'
import logging, sys, torch
logging.disable(logging.WARNING)
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words, questions, answers = 512, 60, 4
backend = Tokenizer(models.WordLevel({"<end>": 0, **{f"w{i}": i for i in range(1, words)}}, unk_token="<end>"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<end>", eos_token="<end>")
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=words, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    pad_token_id=0, bos_token_id=0, eos_token_id=0)).to(torch.bfloat16).eval()

def text(length):
    return " ".join(f"w{int(i)}" for i in torch.randint(1, words, (length,)))

def scores(asked, **settings):
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, device="cpu", **settings)
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(asked)]
    return torch.tensor([value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)], dtype=torch.float64).view(questions, answers)

holds = True
for length, step, ties_seen, others_seen in ((15, 0.5, 12, 5), (40, 1, 15, 8)):
    asked = []
    for _ in range(questions):
        context = text(8)
        asked += [(context, " " + text(length)) for _ in range(answers)]
    usual, floats = scores(asked), scores(asked, softmax_dtype="float32")
    ties = int(((usual == usual.amax(1, keepdim=True)).sum(1) > 1).sum())
    others = int((usual.argmax(1) != floats.argmax(1)).sum())
    print(f"answers of {length} tokens: first question {usual[0].tolist()}, in floats {[round(v, 3) for v in floats[0].tolist()]}")
    print(f"  ties for the best {ties} of {questions}, in floats {int(((floats == floats.amax(1, keepdim=True)).sum(1) > 1).sum())}; another answer {others}; "
          f"up to {float((usual - floats).abs().max()):.2f} apart; spread of answers {float(floats.std(1).mean()):.2f}")
    holds &= bool((usual % step == 0).all()) and ties >= ties_seen and others >= others_seen
    holds &= bool(((floats == floats.amax(1, keepdim=True)).sum(1) == 1).all())
sys.exit(not holds)
PY

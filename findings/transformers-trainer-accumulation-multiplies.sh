#!/usr/bin/env bash
# Trainer with gradient_accumulation_steps=n takes n times the gradient for T5, BART, Whisper and the classification heads of BERT and Llama.
#
# Versions: transformers 5.18.0, accelerate 1.15.0, torch 2.13.0 (CPU).
# Behaviour: where forward() takes **kwargs, Trainer hands over num_items_in_batch and leaves the division by the number of steps to the model. By now nearly
#   every forward() takes **kwargs; the losses of encoder-decoders, of BERT's heads and of sequence classification do not look at it and are means. Nothing is logged.
# Seen, four examples, one optimizer step of SGD, weights' change with batches of 1 accumulated 4 times against that of one batch of 4 (the same as by hand): t5, bart, whisper, bert
#   (masked words), bert and llama (classification) 4.00, and the logged loss and grad_norm are 4 times as large; llama and modernbert (tokens) 1.00. With
#   accepts_loss_kwargs = False on the model's class t5 has 1.00.
# Why it matters: the learning rate, the threshold of max_grad_norm (1.0 by default, so that it clips everywhere) and the loss in the log mean something else
#   whenever memory makes one accumulate. A run on one large GPU cannot be repeated on a small one.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 accelerate==1.15.0 numpy

"$python" - "$work" <<'PY'
import copy, sys, torch, transformers
from transformers import Trainer, TrainingArguments

pair = dict(vocab_size=64, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
            dropout=0.0, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)
single = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, pad_token_id=0)
bert = dict(single, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
models = {
    "T5ForConditionalGeneration": ("T5Config", dict(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, dropout_rate=0.0, decoder_start_token_id=1)),
    "BartForConditionalGeneration": ("BartConfig", dict(pair, max_position_embeddings=64)),
    "WhisperForConditionalGeneration": ("WhisperConfig", dict(pair, max_target_positions=64, max_source_positions=16, num_mel_bins=8)),
    "BertForMaskedLM": ("BertConfig", bert),
    "BertForSequenceClassification": ("BertConfig", bert),
    "LlamaForSequenceClassification": ("LlamaConfig", single),
    "LlamaForCausalLM": ("LlamaConfig", single),
    "ModernBertForMaskedLM": ("ModernBertConfig", single),
}
right = {"LlamaForCausalLM", "ModernBertForMaskedLM"}

def examples(kind):
    torch.manual_seed(1)
    inputs = [{"input_features": torch.randn(8, 32)} if kind.startswith("Whisper") else {"input_ids": torch.randint(3, 64, (12,))} for _ in range(4)]
    return [dict(given, labels=torch.tensor(i % 2) if "Classification" in kind else torch.randint(3, 64, (12,))) for i, given in enumerate(inputs)]

def change(model, data, batch, steps):
    model = copy.deepcopy(model)
    before = [weight.detach().clone() for weight in model.parameters()]
    arguments = TrainingArguments(output_dir=sys.argv[1], per_device_train_batch_size=batch, gradient_accumulation_steps=steps, max_steps=1, learning_rate=0.1, optim="sgd",
                                  lr_scheduler_type="constant", max_grad_norm=0.0, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True, logging_steps=1)
    trainer = Trainer(model=model, args=arguments, train_dataset=data)
    trainer.log = lambda logs, *_: trainer.state.log_history.append(logs)
    trainer.train()
    return torch.cat([(weight.detach() - old).flatten() for weight, old in zip(model.parameters(), before)]), trainer.state.log_history[0]["loss"]

def by_hand(model, data):
    model = copy.deepcopy(model).train()
    model(**{key: torch.stack([row[key] for row in data]) for key in data[0]}).loss.backward()
    return torch.cat([(torch.zeros_like(weight) if weight.grad is None else -0.1 * weight.grad).flatten() for weight in model.parameters()])

holds = True
def compare(kind, model):
    data = examples(kind)
    whole, loss = change(model, data, 4, 1)
    parts, logged = change(model, data, 1, 4)
    hand = by_hand(model, data)
    ratio = (parts @ hand / (hand @ hand)).item()
    print(f"{kind:32} one batch of 4: {(whole @ hand / (hand @ hand)).item():.2f} of the change by hand, 4 batches of 1: {ratio:.2f}; loss logged {loss:.2f} and {logged:.2f}")
    return abs((whole @ hand / (hand @ hand)).item() - 1) < 0.01, ratio, logged / loss

for kind, (config, settings) in models.items():
    torch.manual_seed(0)
    model = getattr(transformers, kind)(getattr(transformers, config)(**settings))
    same, ratio, losses = compare(kind, model)
    expected = 1 if kind in right else 4
    holds &= same and abs(ratio - expected) < 0.02 and abs(losses - expected) < 0.05
    if kind.startswith("T5"):
        transformers.T5ForConditionalGeneration.accepts_loss_kwargs = False
        holds &= abs(compare("T5 with accepts_loss_kwargs=False", model)[1] - 1) < 0.02
sys.exit(not holds)
PY

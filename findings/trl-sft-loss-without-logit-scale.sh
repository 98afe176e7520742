#!/usr/bin/env bash
# TRL's SFTTrainer trains Granite, Falcon-H1, HyperCLOVA X, RecurrentGemma and xLSTM by other logits than the model's: its default loss leaves their scale or cap out.
#
# Versions: trl 1.13.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: loss_type is "chunked_nll" unless one says otherwise: the trainer multiplies hidden states by the head itself, in pieces, and applies what a config calls logit_scale, output_multiplier or
#   final_logit_softcapping. Granite's logits_scaling (a divisor), Falcon-H1's lm_head_multiplier, RecurrentGemma's logits_soft_cap and xLSTM's output_logit_soft_cap have other names. Nothing is logged.
# Seen, one step of SGD: loss logged against cross entropy of the model's own logits: granite 5.54 and 4.18, granitemoehybrid 5.57 and 4.19, falcon_h1 5.91 and 4.18, hyperclovax 5.28 and 4.16,
#   recurrent_gemma 6.14 and 5.24, xlstm 8.84 and 5.75; the weights' change is 7.4, 8.2, 26, 8.2, 1.3 and 1.9 times as long as it should be. cohere, gemma2 and llama, and all with loss_type="nll", are right to 0.01.
# Why it matters: gradients are those of a model whose temperature is another one; the loss in the log is not that of model(input_ids, labels=labels), which evaluation elsewhere and generation use.
#   loss_type="nll" is right.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 trl==1.13.0 datasets==5.0.1 accelerate==1.15.0 numpy

"$python" - "$work" <<'PY'
import sys, torch
from datasets import Dataset
from tokenizers import Tokenizer, models as tokenizer_models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
attention = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
mixer = dict(mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8)
models = {
    "granite": dict(attention, logits_scaling=8.0),
    "granitemoehybrid": dict(attention, logits_scaling=8.0, layer_types=["linear_attention", "full_attention"], num_local_experts=0, shared_intermediate_size=64, **mixer),
    "falcon_h1": dict(attention, lm_head_multiplier=0.04, mamba_d_ssm=64, **mixer),
    "hyperclovax": dict(attention, logits_scaling=0.125),
    "recurrent_gemma": dict(attention, block_types=["recurrent", "attention"], lru_width=32, logits_soft_cap=3.0),
    "xlstm": dict(common, hidden_size=128, num_heads=2, output_logit_soft_cap=3.0),
    "cohere": dict(attention, logit_scale=0.0625),
    "gemma2": dict(attention, final_logit_softcapping=3.0, head_dim=8),
    "llama": attention,
}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(tokenizer_models.WordLevel({f"t{i}": i for i in range(64)}, unk_token="t3")), pad_token="t0", eos_token="t2")
torch.manual_seed(3)
rows = torch.randint(3, 64, (4, 16))
data = Dataset.from_dict({"input_ids": rows.tolist(), "labels": rows.tolist()})

def build(kind):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **models[kind])).train()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.3)
    return model

def by_hand(kind):
    model = build(kind)
    loss = torch.nn.functional.cross_entropy(model(rows).logits[:, :-1].flatten(0, 1).float(), rows[:, 1:].flatten())
    loss.backward()
    return loss.item(), torch.cat([(torch.zeros_like(weight) if weight.grad is None else -0.01 * weight.grad).flatten() for weight in model.parameters()])

def trained(kind, **loss_type):
    model = build(kind)
    before = [weight.detach().clone() for weight in model.parameters()]
    # With the default coefficient granitemoehybrid fails: its config has no num_experts.
    arguments = SFTConfig(output_dir=sys.argv[1], per_device_train_batch_size=4, max_steps=1, learning_rate=0.01, optim="sgd", lr_scheduler_type="constant", max_grad_norm=0.0, report_to=[],
                          use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True, logging_steps=1, gradient_checkpointing=False, dataset_kwargs={"skip_prepare_dataset": True},
                          router_aux_loss_coef=0.0, **loss_type)
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
    trainer.log = lambda logs, *_: trainer.state.log_history.append(logs)
    trainer.train()
    return trainer.state.log_history[0]["loss"], torch.cat([(weight.detach() - old).flatten() for weight, old in zip(model.parameters(), before)])

holds = True
for kind in models:
    own, right = by_hand(kind)
    loss, change = trained(kind)
    nll, other = trained(kind, loss_type="nll")
    lengths = [float(step.norm() / right.norm()) for step in (change, other)]
    print(f"{kind:17} cross entropy of the model's logits {own:.2f}, by default {loss:.2f}, \"nll\" {nll:.2f}; the step is {lengths[0]:.2f} and {lengths[1]:.2f} times as long")
    kept = kind in ("cohere", "gemma2", "llama")
    holds &= abs(nll - own) < 0.01 and abs(lengths[1] - 1) < 0.02 and (abs(loss - own) < 0.01) == (abs(lengths[0] - 1) < 0.02) == kept
sys.exit(not holds)
PY

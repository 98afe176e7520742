#!/usr/bin/env bash
# Prompt tuning of Mamba, Mamba-2 and MiniMax: generate() puts the trained prompt in front of every new token; a prefix for Mamba does nothing.
#
# Versions: peft 0.21.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: peft tells the first call of generate() from the steps by past_key_values. mamba, mamba2 and falcon_mamba name their cache cache_params, MiniMax's
#   says that it is empty, RecurrentGemma gives none: each step counts as the first one. A prefix is handed over as past_key_values, which models with cache_params take among their other arguments and
#   do not read.
# Seen with 5 virtual tokens and a prompt of 12, tokens read by the first calls of generate(): llama and granitemoehybrid 17, 1, 1, and the text that full forwards give; mamba, mamba2, falcon_mamba, minimax and
#   recurrent_gemma 17, 6, 6, and another text. One forward with the prompt is right in all. A prefix changes logits of llama by 4.6, of mamba, mamba2 and falcon_mamba by 0, without
#   a word; their backward raises that the loss requires no grad. granitemoehybrid and minimax raise in the forward.
# Why it matters: a soft prompt that trains well answers nonsense, as it is heard again before each token. Training of a prefix stops with an error of
#   torch's that names no reason, and a prefix that is only loaded gives the base model's answers.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - <<'PY'
import sys, torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
attention = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
alternating = ["linear_attention", "full_attention"] * 2
models = {
    "llama": attention,
    "granitemoehybrid": dict(attention, layer_types=alternating, num_local_experts=0, shared_intermediate_size=64, mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8),
    "mamba": dict(common, state_size=8),
    "mamba2": dict(common, num_heads=8, head_dim=8, state_size=8, n_groups=2),
    "falcon_mamba": dict(common, state_size=8),
    "minimax": dict(attention, layer_types=alternating, num_local_experts=2, num_experts_per_tok=1, head_dim=8, block_size=8),
    "recurrent_gemma": dict(attention, block_types=["recurrent", "attention"], lru_width=32),
}
ids, new, virtual = torch.randint(3, 64, (1, 12), generator=torch.Generator().manual_seed(2)), 10, 5
told = dict(task_type="CAUSAL_LM", num_virtual_tokens=virtual, num_layers=4, num_attention_heads=2)

def tuned(kind, settings, config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.3)
    wrapped = get_peft_model(model, config).eval()
    for weight in wrapped.parameters():
        if weight.requires_grad:
            weight.data.normal_(std=0.3)
    return model, wrapped

def prompt_tuning(kind, settings):
    model, wrapped = tuned(kind, settings, PromptTuningConfig(**told))
    prompt, embed, text, lengths = wrapped.get_prompt(1), model.get_input_embeddings(), ids, []
    for _ in range(new):
        logits = model(inputs_embeds=torch.cat([prompt, embed(text)], 1)).logits[:, -1]
        text = torch.cat([text, logits.argmax(-1)[:, None]], 1)
    handle = model.register_forward_pre_hook(lambda _, __, given: lengths.append(next(given[n] for n in ("inputs_embeds", "input_ids") if given.get(n) is not None).shape[1]), with_kwargs=True)
    generated = wrapped.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, eos_token_id=None)
    handle.remove()
    return lengths[:3], torch.equal(generated[:, -new:], text[:, -new:])

def prefix_tuning(kind, settings):
    model, wrapped = tuned(kind, settings, PrefixTuningConfig(token_dim=16, **told))
    try:
        logits = wrapped(input_ids=ids, labels=ids)
    except (ValueError, AttributeError) as error:
        return type(error).__name__
    with torch.enable_grad():
        try:
            wrapped(input_ids=ids, labels=ids).loss.backward()
            trains = True
        except RuntimeError as error:
            trains = "does not require grad" not in str(error)
    with wrapped.disable_adapter():
        return (logits.logits - wrapped(input_ids=ids).logits).abs().max().item(), trains

seen = {}
with torch.no_grad():
    for kind, settings in models.items():
        (lengths, same), effect = prompt_tuning(kind, settings), prefix_tuning(kind, settings)
        seen[kind] = lengths, same, effect
        print(f"{kind:17} prompt tuning: calls of generate() read {lengths} tokens, text as by full forwards: {same}; effect of a prefix on logits, and whether it trains: {effect}")
again = all(seen[kind][:2] == ([17, 6, 6], False) for kind in ("mamba", "mamba2", "falcon_mamba", "minimax", "recurrent_gemma"))
once = all(seen[kind][:2] == ([17, 1, 1], True) for kind in ("llama", "granitemoehybrid"))
nothing = all(seen[kind][2] == (0, False) for kind in ("mamba", "mamba2", "falcon_mamba"))
sys.exit(not (again and once and nothing and seen["llama"][2][0] > 0.1 and seen["llama"][2][1] and seen["granitemoehybrid"][2] == seen["minimax"][2] == "ValueError"))
PY

#!/usr/bin/env bash
# guidance_scale with Mamba, RWKV, xLSTM, RecurrentGemma, MiniMax and Bamba: from the second token on, the unconditional half has lost its text or its place.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: classifier-free guidance runs the model a second time, on the negative prompt, and keeps what that run returns as past_key_values. The newest token then goes
#   in with that and a mask, and without position_ids. Models that call their state cache_params or state, or keep it in the module, get the newest token alone, in Mamba-1 spread over the
#   length of the mask; MiniMax and Bamba take it for position 0. Nothing is raised or logged.
# Seen, guidance_scale 2 and 8 greedy tokens against two forwards over whole texts: the unconditional logits are right at the first token; at the second those of the token by itself for mamba2, rwkv,
#   xlstm and recurrent_gemma (1e-6), rows for 7 tokens for mamba and falcon_mamba; 0.4 (bamba), 2 (minimax) and 4 to 13 (the others) from the right ones; 2 to 7 of 8 tokens differ. With use_cache=False,
#   and for llama, lfm2 and nemotron_h, none.
# Why it matters: what is steered away from is not the negative prompt, which seems to work, as the first token heeds it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.generation.logits_process import UnbatchedClassifierFreeGuidanceLogitsProcessor

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
attention = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
models = {
    "mamba": dict(common, state_size=8),
    "mamba2": dict(common, num_heads=8, head_dim=8, state_size=8, n_groups=2),
    "falcon_mamba": dict(common, state_size=8),
    "rwkv": dict(common, attention_hidden_size=32),
    "xlstm": dict(common, hidden_size=128, num_heads=2),
    "recurrent_gemma": dict(attention, block_types=["recurrent", "attention"], lru_width=32),
    "lfm2": dict(attention, layer_types=["conv", "full_attention"] * 2),
    "nemotron_h": dict(attention, layers_block_type=["linear_attention", "full_attention"] * 2, mamba_num_heads=8, mamba_head_dim=8, n_groups=2, ssm_state_size=8, head_dim=8),
    "minimax": dict(attention, layer_types=["linear_attention", "full_attention"] * 2, num_local_experts=2, num_experts_per_tok=1, head_dim=8, block_size=8),
    "bamba": dict(attention, attn_layer_indices=[1, 3], mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8),
    "llama": attention,
}
alone, spread, misplaced = {"mamba2", "rwkv", "xlstm", "recurrent_gemma"}, {"mamba", "falcon_mamba"}, {"minimax", "bamba"}
torch.manual_seed(7)
prompt, negative = torch.randint(3, 64, (1, 10)), torch.randint(3, 64, (1, 6))
given = dict(max_new_tokens=8, do_sample=False, eos_token_id=None, guidance_scale=2.0, negative_prompt_ids=negative)
holds = True
for kind, settings in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    model.generation_config.eos_token_id = None
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.3)
    with torch.no_grad():
        last = lambda text: model(text, use_cache=False).logits[:, -1]
        texts = [prompt, negative]
        for _ in range(8):
            wanted, unwanted = (torch.log_softmax(last(text), -1) for text in texts)
            token = (unwanted + 2 * (wanted - unwanted)).argmax(-1)[None]
            texts = [torch.cat([text, token], 1) for text in texts]
        differing = [int((model.generate(prompt, **given, **more) != texts[0]).sum()) for more in ({}, {"use_cache": False})]

        guide = UnbatchedClassifierFreeGuidanceLogitsProcessor(2.0, model, unconditional_ids=negative.clone())
        first = guide.get_unconditional_logits(prompt)[:, -1]
        second = guide.get_unconditional_logits(texts[0][:, :11])
        rows, second = second.shape[1], second[:, -1]
        apart = [float((a - b).abs().max()) for a, b in ((first, last(negative)), (second, last(texts[1][:, :7])), (second, last(texts[0][:, 10:11])))]
    print(f"{kind:16} tokens that differ, of 8: {differing[0]}, without a cache {differing[1]}; unconditional logits, first token {apart[0]:.0e} off, second {apart[1]:.1g} ({rows} rows), and {apart[2]:.1g} from those of the token by itself")
    holds &= differing[1] == 0 and apart[0] < 1e-3 and rows == (7 if kind in spread else 1)
    if kind in alone | spread | misplaced:
        holds &= differing[0] >= 1 and apart[1] > 0.3 and (apart[2] < 1e-3) == (kind in alone)
    else:
        holds &= differing[0] == 0 and apart[1] < 2e-3
sys.exit(not holds)
PY

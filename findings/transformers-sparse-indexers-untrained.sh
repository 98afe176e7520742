#!/usr/bin/env bash
# The indexers of sparse attention (DeepSeek-V3.2, GLM with DSA, Qwen4-Exp) get no gradient from the loss, and "all-linear" puts LoRA adapters on them that never change.
#
# Versions: transformers 5.18.0, peft 0.21.0, torch 2.13.0 (CPU).
# Behaviour: the indexer picks the tokens that a query may attend to, by topk, through which no gradient flows; its scores are used for
#   nothing else, and there is no loss of its own. Neither training nor peft says anything.
# Seen with models of random weights: weights without a gradient after a backward are those of the indexers, and no others: 20 (deepseek_v32, glm_moe_dsa) and 3 (qwen4_exp_text). They matter beyond the
#   budget of 8 tokens: with other values in them logits of the first 8 tokens are the same, of all 40 5.9, 6.0 and 1.0 apart. With target_modules="all-linear" 24, 24 and 2 adapter weights get no gradient.
# Why it matters: a fine-tune on long texts changes what is attended by, and the choice of tokens stays that of the base model; adapters on indexers are
#   counted as trainable, and saved. Whoever wants them trained has to add a loss on their scores.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - <<'PY'
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, moe_intermediate_size=16, num_experts_per_tok=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
latent = dict(common, num_key_value_heads=4, intermediate_size=64, n_routed_experts=4, n_shared_experts=1, n_group=1, topk_group=1, first_k_dense_replace=1, q_lora_rank=16, kv_lora_rank=16,
              qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, index_topk=8, index_head_dim=16, index_n_heads=4)
models = {
    "deepseek_v32": latent,
    "glm_moe_dsa": latent,
    "qwen4_exp_text": dict(
        common, num_key_value_heads=1, head_dim=8, hc_count=3, hc_lowrank=6, layer_types=["linear_attention"] * 3 + ["indexed_attention"], linear_key_head_dim=8, linear_num_key_heads=1,
        linear_num_value_heads=2, linear_value_head_dim=8, num_experts=4, shared_expert_intermediate_size=16, indexer_n_heads=4, indexer_kv_heads=1, indexer_head_dim=8, indexer_budget=8,
        indexer_compress_ratio=2, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25, "mrope_section": [1, 0, 0]}),
}
holds = True
for kind, settings in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.2)
    ids = torch.randint(3, 64, (2, 40))
    model(ids, labels=ids).loss.backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    indexers = [name for name, _ in model.named_parameters() if "indexer" in name]
    with torch.no_grad():
        before = model(ids).logits
        for name, weight in model.named_parameters():
            if "indexer" in name and weight.ndim >= 2:
                weight.data.normal_(std=0.2)
        matters = (model(ids).logits - before).abs()
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    adapted(input_ids=ids, labels=ids).loss.backward()
    dead = [name for name, weight in adapted.named_parameters() if weight.requires_grad and weight.grad is None]
    print(f"{kind:15} weights without a gradient {len(without)}, of indexers {len(indexers)}; other values in these: logits of tokens 1 to 8 {matters[:, :8].max():.2g}, "
          f"of all 40 {matters.max():.2g} apart; adapters without a gradient {len(dead)}")
    holds &= without == indexers and len(indexers) > 0 and matters[:, :8].max() < 1e-4 and matters.max() > 0.05 and len(dead) > 0 and all("indexer" in name for name in dead)
sys.exit(not holds)
PY

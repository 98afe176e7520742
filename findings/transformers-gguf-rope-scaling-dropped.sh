#!/usr/bin/env bash
# from_pretrained(gguf_file=...) drops the scaling of RoPE: Llama 3.1 and every "linear" or "yarn" file is loaded as the unscaled model.
#
# Versions: transformers 5.18.0, gguf 0.19.0, torch 2.13.0 (CPU).
# Behaviour: of a llama file the loader reads rope.freq_base and rope.dimension_count. The keys rope.scaling.* are not looked at, and the tensor
#   rope_freqs.weight, in which llama.cpp's converter stores the factors of Llama 3.1 to 3.3, fits no parameter and is left out.
# Seen with a Llama of random weights, logits of 200 tokens: without scaling the loaded model is the original to the bit. With llama3, linear (4) and yarn (4) 12 to 14 apart
#   from the original, 0 from the original whose frequencies are set to the unscaled ones; rope_parameters of the loaded config says "default". No key is reported as missing
#   or unexpected.
# Why it matters: evaluation, LoRA training or conversion of such a file is that of a model which nobody published, and no
#   message says so. The scale has to be put into the config by hand.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 gguf==0.19.0 accelerate==1.15.0 numpy

"$python" - "$work" <<'PY'
import sys
import gguf, numpy as np, torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

heads, head_dim, base, layers = 2, 16, 10000.0, 2
unscaled = 1 / base ** (np.arange(0, head_dim, 2) / head_dim)

def permuted(weight):
    # llama.cpp rotates neighbours, transformers halves
    return weight.reshape(heads, 2, head_dim // 2, -1).swapaxes(1, 2).reshape(weight.shape)

def write(path, model, scaling):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_context_length(256)
    writer.add_embedding_length(heads * head_dim)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(64)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(base)
    writer.add_vocab_size(64)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{token}" for token in range(64)])
    writer.add_token_types([1] * 64)
    writer.add_token_merges([])
    if scaling in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(scaling))
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(64)
    if scaling == "llama3":
        writer.add_tensor("rope_freqs.weight", (unscaled / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    for key, value in model.state_dict().items():
        value = permuted(value.numpy()) if "q_proj" in key or "k_proj" in key else value.numpy()
        writer.add_tensor(names.get_name(key.removesuffix(".weight")) + ".weight", np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

ropes = {
    "default": {},
    "llama3": dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32),
    "linear": dict(factor=4.0),
    "yarn": dict(factor=4.0, original_max_position_embeddings=64),
}
holds = True
for kind, more in ropes.items():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=64, hidden_size=heads * head_dim, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
        max_position_embeddings=256, rms_norm_eps=1e-5, rope_parameters=dict(rope_type=kind, rope_theta=base, **more))).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.normal_(std=0.4)
    write(f"{sys.argv[1]}/{kind}.gguf", model, kind)
    loaded, report = AutoModelForCausalLM.from_pretrained(sys.argv[1], gguf_file=f"{kind}.gguf", output_loading_info=True)
    ids = torch.randint(0, 64, (1, 200))
    with torch.no_grad():
        seen = loaded.eval()(ids).logits
        from_model = (model(ids).logits - seen).abs().max().item()
        model.model.rotary_emb.inv_freq = loaded.model.rotary_emb.inv_freq
        model.model.rotary_emb.attention_scaling = 1.0
        from_unscaled = (model(ids).logits - seen).abs().max().item()
    told = loaded.config.rope_parameters["rope_type"]
    same = np.allclose(loaded.model.rotary_emb.inv_freq, unscaled)
    print(f"{kind:8} {from_model:.2g} from the model, {from_unscaled:.2g} from it without scaling; rope_type {told}, keys not matched: {sum(map(len, report.values()))}")
    holds &= told == "default" and same and from_unscaled < 1e-4 and not any(report.values()) and (from_model > 1 if more else from_model < 1e-4)
sys.exit(not holds)
PY

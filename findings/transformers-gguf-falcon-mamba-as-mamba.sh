#!/usr/bin/env bash
# from_pretrained(gguf_file=...) of a FalconMamba file gives a Mamba model without the norms of dt, B and C, and other logits.
#
# Versions: transformers 5.18.0, gguf 0.19.0, torch 2.13.0 (CPU).
# Behaviour: llama.cpp stores both under the architecture "mamba" and tells them apart by the key mamba.ssm.dt_b_c_rms. FalconMamba's three norms have no
#   weights, so that the tensors are the same. The loader goes by the architecture alone.
# Seen with models of random weights, logits of 40 tokens: a FalconMamba file is loaded as MambaForCausalLM, without a missing or unexpected key, and is 12 from the
#   model that it was written of (their standard deviation: 2.3), and 3e-5 from a MambaForCausalLM with FalconMamba's weights. A Mamba file: 3e-5.
# Why it matters: a Falcon-Mamba file is another model in transformers than the one it was written of; as nothing is reported, one
#   takes it for badly quantised. A reader has to ask for the key.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 gguf==0.19.0 accelerate==1.15.0 numpy

"$python" - "$work" <<'PY'
import sys
import gguf, numpy as np, torch
from transformers import AutoConfig, AutoModelForCausalLM

layers, width, state = 4, 32, 8
def random_model(kind):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(
        kind, vocab_size=64, hidden_size=width, state_size=state, num_hidden_layers=layers, pad_token_id=0, bos_token_id=1, eos_token_id=2)).eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.4)
    return model

def write(path, model, norms):
    config = model.config
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_name("small")
    writer.add_context_length(4096)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(layers)
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    writer.add_ssm_conv_kernel(config.conv_kernel)
    writer.add_ssm_inner_size(config.intermediate_size)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(int(config.time_step_rank))
    writer.add_ssm_dt_b_c_rms(norms)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{token}" for token in range(64)])
    writer.add_token_types([1] * 64)
    writer.add_token_merges([])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MAMBA, layers)
    for key, value in model.state_dict().items():
        if key == "lm_head.weight":  # tied
            continue
        name, dot, suffix = key.rpartition(".")
        if suffix not in ("weight", "bias"):
            name, dot, suffix = key, "", ""
        value = value.numpy()
        value = value.squeeze(1) if "conv1d.weight" in key else -np.exp(value) if "A_log" in key else value
        writer.add_tensor(names.get_name(name) + dot + suffix, np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

ids = torch.randint(0, 64, (1, 40), generator=torch.Generator().manual_seed(2))
seen = {}
for kind in ("mamba", "falcon_mamba"):
    model = random_model(kind)
    write(f"{sys.argv[1]}/{kind}.gguf", model, kind == "falcon_mamba")
    loaded, report = AutoModelForCausalLM.from_pretrained(sys.argv[1], gguf_file=f"{kind}.gguf", output_loading_info=True)
    plain = random_model("mamba")
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        logits = loaded.eval()(ids).logits
        seen[kind] = [(other(ids).logits - logits).abs().max().item() for other in (model, plain)]
        spread = model(ids).logits.std().item()
    seen[kind] += [type(loaded).__name__, sum(map(len, report.values()))]
    print(f"{kind:13} loaded as {seen[kind][2]}, {seen[kind][3]} keys not matched; logits {seen[kind][0]:.2g} from the model (std {spread:.2g}), {seen[kind][1]:.2g} from a Mamba of its weights")
mamba, falcon = seen["mamba"], seen["falcon_mamba"]
sys.exit(not (mamba[0] < 1e-3 and falcon[0] > 1 and falcon[1] < 1e-3 and falcon[2:] == ["MambaForCausalLM", 0]))
PY

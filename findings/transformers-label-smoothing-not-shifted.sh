#!/usr/bin/env bash
# Trainer with label_smoothing_factor teaches Qwen3.5, Mistral 3, LLaVA, LFM2-VL and any class of one's own to repeat the token that they have just read, as it shifts the labels by a list of names.
#
# Versions: transformers 5.18.0, accelerate 1.15.0, torch 2.13.0 (CPU).
# Behaviour: without smoothing the model shifts the labels itself. With it Trainer takes them away and computes the loss, and shifts them only if the class's name is one of MODEL_FOR_CAUSAL_LM_MAPPING_NAMES. Most of
#   the models of text and images are in another list, and a class derived from LlamaForCausalLM is in none; the row of logits that should know the next token is then held to its own. Nothing is logged.
# Seen, 100 steps on 8 rows of random tokens, share of next tokens / of the tokens just read that the model predicts: without smoothing 1.00 / 0.05 at most for all; with 0.1 1.00 / 0.05 at most for LlamaForCausalLM and
#   Gemma3ForConditionalGeneration, 0.00 / 1.00 for a class derived from LlamaForCausalLM and Qwen3_5-, Mistral3-, Llava- and Lfm2VlForConditionalGeneration. Of the 85 names of MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES 78 are
#   not in the list that is shifted (a few are encoder-decoders, which need no shift).
# Why it matters: the loss falls faster than ever, to the floor that smoothing has, while the model unlearns language; text alone through such a class, as with Qwen 3.5, is affected all the same. compute_loss_func with a shift of
#   one's own is the way out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 accelerate==1.15.0 numpy

"$python" - "$work" <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.models.auto import modeling_auto as auto

class MyLlama(LlamaForCausalLM):
    pass

text = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, head_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=2)
vision = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
delta = dict(layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8,
             rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[1, 1, 2], partial_rotary_factor=1.0))
pictures = {
    "gemma3": dict(text_config=text, vision_config=vision),
    "qwen3_5": dict(text_config=text | delta, vision_config=dict(hidden_size=16, intermediate_size=32, depth=1, num_heads=2, out_hidden_size=32, num_position_embeddings=16)),
    "mistral3": dict(text_config=text | dict(model_type="mistral"), vision_config=vision | dict(model_type="pixtral")),
    "llava": dict(text_config=text | dict(model_type="llama"), vision_config=vision | dict(model_type="clip_vision_model")),
    "lfm2_vl": dict(text_config=text | dict(model_type="lfm2", layer_types=["conv", "full_attention"]), vision_config=vision | dict(model_type="siglip2_vision_model")),
}
builders = {"LlamaForCausalLM": lambda: LlamaForCausalLM(LlamaConfig(**text)), "derived from it": lambda: MyLlama(LlamaConfig(**text))}
builders |= {kind: lambda kind=kind: AutoModelForImageTextToText.from_config(AutoConfig.for_model(kind, **pictures[kind])) for kind in pictures}
rows = torch.randint(3, 64, (8, 16), generator=torch.Generator().manual_seed(0))
data = [{"input_ids": row, "labels": row} for row in rows]

def shares(build, smoothing):
    torch.manual_seed(0)
    model = build()
    arguments = TrainingArguments(sys.argv[1], per_device_train_batch_size=8, max_steps=100, learning_rate=1e-2, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, label_smoothing_factor=smoothing)
    trainer = Trainer(model, arguments, train_dataset=data)
    trainer.log = lambda *_: None
    trainer.train()
    with torch.no_grad():
        predicted = model.eval()(input_ids=rows).logits.argmax(-1)
    return float((predicted[:, :-1] == rows[:, 1:]).float().mean()), float((predicted == rows).float().mean())

holds = True
for name, build in builders.items():
    plain, smoothed = (shares(build, smoothing) for smoothing in (0.0, 0.1))
    print(f"{name:17} next token / token just read: without smoothing {plain[0]:.2f} / {plain[1]:.2f}, with 0.1 {smoothed[0]:.2f} / {smoothed[1]:.2f}")
    holds &= plain[0] > 0.95 and plain[1] < 0.1
    holds &= (smoothed[0] > 0.95 and smoothed[1] < 0.1) if name in ("LlamaForCausalLM", "gemma3") else (smoothed[0] < 0.1 and smoothed[1] > 0.95)
shifted = set(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
of_pictures = set(auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values())
print(len(of_pictures), "names of models of text and images, not shifted", len(of_pictures - shifted))
sys.exit(not (holds and len(of_pictures - shifted) > len(of_pictures) / 2))
PY

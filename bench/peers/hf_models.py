"""Whole models in transformers, random weights: seconds of a prompt and of a token after it."""
import os
import time

os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
import torch  # noqa: E402
import transformers  # noqa: E402

from serve import argument_threads, serve  # noqa: E402

torch.set_num_threads(argument_threads())
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def answer(job):
    if job["dtype"] not in TYPES:
        return {"unsupported": f"transformers runs no {job['dtype']} on the CPU"}
    config = dict(job["config"])
    if config["model_type"] == "jamba":
        config["use_mamba_kernels"] = False  # its CUDA kernels; the CPU has another path
    made = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    model = transformers.AutoModelForCausalLM.from_config(made).to(TYPES[job["dtype"]]).eval()
    parameters = sum(p.numel() for p in model.parameters())

    def prompt():
        return torch.randint(0, made.vocab_size, (1, job["context"]))

    def forward(ids, **state):
        try:
            return model(ids, use_cache=True, logits_to_keep=1, **state)
        except TypeError:  # the Mambas have no logits_to_keep
            return model(ids, use_cache=True, **state)

    forward(prompt()[:, :32])
    prefill, decode = [], []
    for _ in range(job["reps"]):
        ids = prompt()
        started = time.perf_counter()
        out = forward(ids)
        prefill.append(time.perf_counter() - started)
        key = "past_key_values" if getattr(out, "past_key_values", None) is not None else "cache_params"
        state = {key: out[key]}
        started = time.perf_counter()
        for _ in range(job["decodeTokens"]):
            out = forward(out.logits[:, -1:].argmax(-1), **state)
        decode.append((time.perf_counter() - started) / job["decodeTokens"])
    return {"parameters": parameters, "prefill": prefill, "decode": decode}


serve({"peer": f"transformers {transformers.__version__}"}, answer)

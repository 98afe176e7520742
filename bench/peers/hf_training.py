"""A model of transformers being trained, one step (forward, backward, AdamW) a job: its weights are what the caller loads as well."""
import os
import resource
import time

os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
import torch  # noqa: E402
import transformers  # noqa: E402

from serve import argument_threads, serve  # noqa: E402

torch.set_num_threads(argument_threads())
transformers.logging.set_verbosity_error()
state = {}


def make(job):
    torch.manual_seed(0)
    config = dict(job["config"])
    made = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    model = transformers.AutoModelForCausalLM.from_config(made).train()
    model.save_pretrained(job["folder"])
    state.update(model=model, dtype=job["dtype"], optimizer=torch.optim.AdamW(model.parameters(), lr=job["learningRate"], betas=(0.9, 0.95)))
    return {"parameters": sum(p.numel() for p in model.parameters())}


def step(job):
    """bf16 is autocast over f32 parameters. The norm is for the comparison of the first step: it is not in its time."""
    model, ids = state["model"], torch.tensor([job["ids"]])
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=state["dtype"] == "bf16"):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    between = time.perf_counter()
    norm = float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
    again = time.perf_counter()
    state["optimizer"].step()
    state["optimizer"].zero_grad()
    return {"seconds": between - started + time.perf_counter() - again, "loss": float(loss), "gradNorm": norm}


def answer(job):
    if job["do"] == "make":
        return make(job)
    if job["do"] == "step":
        return step(job)
    return {"peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


serve({"peer": f"transformers {transformers.__version__} on torch {torch.__version__.split('+')[0]}"}, answer)

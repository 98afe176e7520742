"""The step references of flash-linear-attention, as its authors wrote them. Its package cannot be imported without a GPU's
Triton: the files are loaded by themselves."""
import importlib.util
from importlib.metadata import version
from pathlib import Path

import torch

from serve import argument_threads, inputs, samples, serve

torch.set_num_threads(argument_threads())
torch.set_grad_enabled(False)

PACKAGE = importlib.util.find_spec("fla")
if PACKAGE is None:
    raise ModuleNotFoundError("No module named 'fla' (fla-core)")


def naive(op, name):
    path = Path(PACKAGE.submodule_search_locations[0]) / "ops" / op / "naive.py"
    spec = importlib.util.spec_from_file_location(f"{op}_naive", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


kda = naive("kda", "naive_recurrent_kda")
gated_delta = naive("gated_delta_rule", "naive_recurrent_gated_delta_rule")
gla = naive("gla", "naive_recurrent_gla")

KERNELS = {
    "kda": lambda t: kda(t["q"], t["k"], t["v"], t["g"], t["beta"]),
    "gatedDelta": lambda t: gated_delta(t["q"], t["k"], t["v"], t["beta"], t["g"]),
    "gla": lambda t: gla(t["q"], t["k"], t["v"], t["g"]),
}


def answer(job):
    t = {name: torch.from_numpy(array.copy()) for name, array in inputs(job).items()}
    run = KERNELS[job["kernel"]]
    y, _ = run(t)
    seconds = samples(lambda: run(t), job["reps"])
    y.contiguous().numpy().tofile(job["result"])
    return {"form": "naive_recurrent", "seconds": seconds}


serve({"peer": f"flash-linear-attention {version('fla-core')}", "kernels": list(KERNELS), "dtypes": ["f32"]}, answer)

#!/usr/bin/env bash
# safetensors.torch saves a conjugated tensor as what it was before, and a negated view with the other sign.
#
# Versions: safetensors 0.8.0, torch 2.13.0 (CPU).
# Behaviour: torch's conj() touches no numbers; it sets a mark on the tensor, and so does the imaginary part of such a
#   tensor, for the sign. save() and save_file() copy the numbers in memory and do not ask for the marks. Such tensors are contiguous and dense, as
#   the documentation wants them.
# Seen: [1+2j, 3-4j].conj(), saved and loaded, is [1+2j, 3-4j]; torch.save keeps [1-2j, 3+4j]. A buffer of a module, by save_model() and load_model(): the
#   same. The imaginary part of [2j].conj(), [-2], comes back as [2]. With resolve_conj() and resolve_neg() all are right.
# Why it matters: S4, S4D, DSS and LRU have complex states, and conjugates of them: poles that were below the real axis
#   are above it in the file, and no check of shapes, types or norms sees it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 safetensors==0.8.0 numpy

"$python" - "$work" <<'PY'
import io, sys, torch
from safetensors.torch import load, load_file, load_model, save, save_file, save_model

def by_bytes(t):
    return load(save({"t": t}))["t"]

def by_file(t):
    save_file({"t": t}, f"{sys.argv[1]}/t.safetensors")
    return load_file(f"{sys.argv[1]}/t.safetensors")["t"]

def by_model(t):
    path = f"{sys.argv[1]}/m.safetensors"
    models = [torch.nn.Module(), torch.nn.Module()]
    models[0].register_buffer("t", t)
    models[1].register_buffer("t", torch.zeros_like(t).resolve_conj().resolve_neg())
    save_model(models[0], path)
    load_model(models[1], path)
    return models[1].t

def by_torch(t):
    data = io.BytesIO()
    torch.save(t, data)
    data.seek(0)
    return torch.load(data)

poles = torch.tensor([1 + 2j, 3 - 4j])
conjugates = poles.conj()
negative = torch.tensor([2j]).conj().imag
holds = conjugates.is_contiguous() and negative.is_contiguous() and negative.tolist() == [-2]
for name, way in (("save", by_bytes), ("save_file", by_file), ("save_model", by_model), ("torch.save", by_torch)):
    back, resolved = way(conjugates), way(conjugates.resolve_conj())
    print(f"{name:10} {conjugates.tolist()} is {back.tolist()}; after resolve_conj() {resolved.tolist()}")
    holds &= torch.equal(back, conjugates if way is by_torch else poles) and torch.equal(resolved, conjugates)
for name, way in (("save", by_bytes), ("save_file", by_file), ("torch.save", by_torch)):
    back, resolved = way(negative).tolist(), way(negative.resolve_neg()).tolist()
    print(f"{name:10} {negative.tolist()} is {back}; after resolve_neg() {resolved}")
    holds &= back == ([-2] if way is by_torch else [2]) and resolved == [-2]
sys.exit(not holds)
PY

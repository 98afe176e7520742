#!/usr/bin/env bash
# Keras recurrent layers with unroll=True and a mask: on JAX masked steps have the last output where zeros are asked for, as in every Bidirectional; on torch whatever runs backwards fails.
#
# Versions: keras 3.15.1, jax 0.10.2, torch 2.13.0 (CPU).
# Behaviour: unroll is documented as a matter of speed and memory. JAX's loop over steps does not read zero_output_for_mask, its scan does; Bidirectional sets that for both its layers, so that their outputs are added or joined with zeros at padding. The torch
#   backend's loop reverses the mask in place, which is a tuple there.
# Seen, outputs with unroll=True against those without, three rows with padding at the end: JAX LSTM, GRU, SimpleRNN with zero_output_for_mask 0.2 to 0.9 apart, Bidirectional(LSTM) 0.2; without zero_output_for_mask and without a mask 1e-7 at most. torch: the same layers forwards 1e-7; go_backwards
#   and Bidirectional "AttributeError: 'tuple' object has no attribute 'reverse'".
# Why it matters: unrolling is what makes short sequences fast on JAX; a sum or a pooling behind the layer then counts the last output once more for each padded step, so that an answer depends on the length of the batch.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages keras==3.15.1 jax==0.10.2 torch==2.13.0 numpy

cat >"$work/unrolled.py" <<'PY'
import os, sys
import numpy as np
from keras import layers, ops

backend = os.environ["KERAS_BACKEND"]
x = np.random.default_rng(0).standard_normal((3, 7, 6)).astype(np.float32)
mask = np.arange(7)[None] < np.array([[4], [7], [2]])

def outputs(build, unroll, masked):
    layer = build(unroll)
    layer.build(x.shape)
    random = np.random.default_rng(1)
    for weight in layer.weights:
        if "seed" not in weight.path:
            weight.assign(0.3 * random.standard_normal(weight.shape))
    return np.asarray(ops.convert_to_numpy(layer(x, mask=mask if masked else None)))

kinds = {"LSTM": layers.LSTM, "GRU": layers.GRU, "SimpleRNN": layers.SimpleRNN}
cases = {f"{name}, {'zeros' if zeros else 'last output'}": lambda unroll, kind=kind, zeros=zeros: kind(5, return_sequences=True, zero_output_for_mask=zeros, unroll=unroll) for name, kind in kinds.items() for zeros in (True, False)}
cases["LSTM backwards"] = lambda unroll: layers.LSTM(5, return_sequences=True, go_backwards=True, unroll=unroll)
cases["Bidirectional(LSTM)"] = lambda unroll: layers.Bidirectional(layers.LSTM(5, return_sequences=True, unroll=unroll))
holds = True
for name, build in cases.items():
    for masked in (True, False):
        plain = outputs(build, False, masked)
        try:
            unrolled = outputs(build, True, masked)
            apart = np.abs(unrolled - plain).max()
        except AttributeError as error:
            apart = None
        print(f"{backend:5} {name:22} {'masked' if masked else 'no mask'}: " + ("AttributeError" if apart is None else f"{apart:.1g} apart"))
        if masked and backend == "torch" and ("backwards" in name or "Bidirectional" in name):
            holds &= apart is None
        elif masked and backend == "jax" and ("zeros" in name or "Bidirectional" in name):
            holds &= apart is not None and apart > 0.05 and np.abs(plain[~mask]).max() == 0
        else:
            holds &= apart is not None and apart < 1e-5
sys.exit(not holds)
PY
for backend in jax torch; do KERAS_BACKEND=$backend "$python" "$work/unrolled.py"; done

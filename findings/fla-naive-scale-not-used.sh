#!/usr/bin/env bash
# Two references of flash-linear-attention depend on what they should not: DeltaProduct ignores scale and cu_seqlens, MesaNet's solver the size of q.
#
# Versions: fla-core 0.5.2 (the kernels of flash-linear-attention), torch 2.13.0 (CPU; the references need no Triton).
# Behaviour: naive_recurrent_gated_delta_product takes scale and cu_seqlens, and reads neither; chunk_gated_delta_product multiplies q by scale
#   (1/sqrt(K) by default) and starts each sequence anew. naive_mesa_net_CG adds 1e-5 to both denominators of conjugate gradients, which are squares of q.
# Seen: DeltaProduct with scale 0.5 and with scale 2 and two packed sequences: the same to the bit; equal to the gated delta rule of scale 1 (5e-7). MesaNet,
#   30 iterations against the exact solution, relative error 5e-4 for q of length 1, 5e-3 for 0.1, 5e-2 for 0.01, 0.4 for 0.001; the right answer is linear in q.
# Why it matters: a port that is tested against the first is off by sqrt(K) from the trained model, or fails and is "mended"; the second says that a
#   solver converges, or does not, by the norm of what it is asked.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
fla_references

"$python" - <<'PY'
import sys
import torch
from fla_reference import reference

torch.manual_seed(0)
T, H, K = 64, 2, 8
q, v = torch.randn(1, T, H, K), torch.randn(1, T, H, K)
k = torch.nn.functional.normalize(torch.randn(1, T, H, K), dim=-1)
g, beta = -torch.rand(1, T, H), torch.rand(1, T, H)

product = reference("gated_delta_product").naive_recurrent_gated_delta_product
one = product(q, k, v, g, beta, scale=0.5, cu_seqlens=None)[0]
other = product(q, k, v, g, beta, scale=2.0, cu_seqlens=torch.tensor([0, 20, 64]))[0]
delta = reference("gated_delta_rule").naive_recurrent_gated_delta_rule(q, k, v, beta, g, scale=1.0)[0]
same, to_delta = torch.equal(one, other), float((one - delta).abs().max())
print(f"DeltaProduct: scale 0.5 and scale 2 with two sequences are the same {same}, from the gated delta rule of scale 1 {to_delta:.0e}")

mesa = reference("mesa_net")
lamb = 0.25 + torch.rand(H, K)
unit = torch.nn.functional.normalize(q, dim=-1)
errors = []
for length in (1, 0.1, 0.01, 0.001):
    exact = mesa.naive_mesa_net_exact(length * unit, k, v, g, lamb, beta)[0]
    solved = mesa.naive_mesa_net_CG(length * unit, k, v, g, lamb, beta, 16)[0]
    errors.append(float((solved - exact).norm() / exact.norm()))
    print(f"MesaNet, q of length {length}: relative error {errors[-1]:.0e}")
sys.exit(0 if same and to_delta < 1e-5 and errors[0] < 5e-3 and errors[-1] > 0.1 and errors == sorted(errors) else 1)
PY

#!/usr/bin/env bash
# transformers' "greedy" schedule: a learning rate below 0.001 is never reduced, only raised; and one metric that is infinite or NaN stays in its smoothed average for good.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: min_lr is 0.001 unless it is given, and a reduction to at least that counts only where it is smaller than the rate: the Trainer's own 5e-5 is left as it is, while improvements raise it, up to 1. The average of smooth=True keeps a running
#   sum, from which values that leave the window are subtracted: infinity minus infinity, and NaN, are NaN from then on, which is never an improvement. Nothing is raised or logged.
# Seen, lr_scheduler_type greedy at 5e-5, 100 metrics that improve and 400 that get worse: 7.9e-5 and still 7.9e-5; with min_lr=1e-7 7.9e-5 and 1.3e-5; reduce_lr_on_plateau 5e-9. 300 that get worse from the start: 5e-5. At 1e-2 with
#   window_size=5 and 400 metrics that improve all the time: 6.3e-2; with one infinite or NaN among them (the 21st) 1.8e-3, and without smooth 6.0e-2.
# Why it matters: a run that diverges at a usual rate is not slowed down, and one bad evaluation turns the rest of a run into a decay, with metrics that go on improving.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import get_scheduler

def rates(metrics, rate, name="greedy", **settings):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = get_scheduler(name, optimizer, scheduler_specific_kwargs=settings)
    seen = []
    for metric in metrics:
        scheduler.step(metric)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen

better_then_worse = [3 - 0.01 * i for i in range(100)] + [2 + 0.05 * i for i in range(400)]
worse = [3 + 0.01 * i for i in range(300)]
usual, lower = rates(better_then_worse, 5e-5), rates(better_then_worse, 5e-5, min_lr=1e-7)
plateau, diverging = rates(better_then_worse, 5e-5, "reduce_lr_on_plateau"), rates(worse, 5e-5)
print(f"5e-5, better and then worse: {usual[99]:.2g}, {usual[-1]:.2g}; min_lr=1e-7 {lower[99]:.2g}, {lower[-1]:.2g}; reduce_lr_on_plateau {plateau[-1]:.2g}")
print(f"5e-5, worse from the start: {diverging[-1]:.2g}")
holds = usual[99] > 7e-5 and usual[-1] == max(usual) and lower[-1] < lower[99] / 3 and plateau[-1] < 1e-6 and diverging[-1] == 5e-5

better = [3 - 0.005 * i for i in range(400)]
smooth = dict(smooth=True, window_size=5)
whole = rates(better, 1e-2, **smooth)[-1]
print(f"1e-2, always better, smooth: {whole:.2g}")
for missing in (float("inf"), float("nan")):
    metrics = better[:20] + [missing] + better[21:]
    averaged, single = rates(metrics, 1e-2, **smooth)[-1], rates(metrics, 1e-2)[-1]
    print(f"1e-2, {missing} for the 21st: smooth {averaged:.2g}, else {single:.2g}")
    holds &= averaged < 5e-3 and whole > 5e-2 and single > 5e-2
sys.exit(not holds)
PY

#!/usr/bin/env bash
# A streaming dataset that was resumed begins every later epoch where the checkpoint stood: the rows in front of it are never seen again.
#
# Versions: datasets 5.0.1, torchdata 0.11.0, torch 2.13.0.
# Behaviour: IterableDataset.load_state_dict() keeps the state for good, and each new iteration whose epoch number is the state's starts from it. The number changes by set_epoch() alone, and nothing asks for that. The documentation
#   says that the iteration restarts at the next example, and shows StatefulDataLoader without set_epoch().
# Seen, 20 rows, checkpoint after 8: by itself 12, 12, 12, 12 rows in four epochs; in torchdata's StatefulDataLoader without workers and with persistent ones the same (6 batches of 2 each time); with workers that are made anew for each
#   epoch 6, 10, 10, 10 batches. With set_epoch() in front of each epoch 12, 20, 20, 20 rows. A dataset that was not resumed has 20 each time.
# Why it matters: a run that was interrupted late in an epoch trains its remaining epochs on the last few rows of the data, with a falling loss; epochs are only shorter, which an evaluation by steps does not show.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 datasets==5.0.1 torchdata==0.11.0 numpy

cat >"$work/resume.py" <<'PY'
import sys
from datasets import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

def stream():
    return Dataset.from_dict({"row": list(range(20))}).to_iterable_dataset(num_shards=2)

def loader(**workers):
    return StatefulDataLoader(stream(), batch_size=2, collate_fn=lambda rows: rows, **workers)

def epochs(of, dataset, announced):
    counts = []
    for epoch in range(4):
        if announced:
            dataset.set_epoch(epoch)
        counts.append(len(list(of)))
    return counts

def main():
    holds = epochs(first := stream(), first, False) == [20] * 4
    iteration = iter(first := stream())
    for _ in range(8):
        next(iteration)
    state = first.state_dict()
    for announced, expected in ((False, [12] * 4), (True, [12, 20, 20, 20])):
        resumed = stream()
        resumed.load_state_dict(state)
        seen = epochs(resumed, resumed, announced)
        print(f"by itself{', set_epoch()' if announced else ''}: rows by epoch {seen}")
        holds &= seen == expected
    for workers, expected in (({"num_workers": 0}, [6] * 4), ({"num_workers": 1, "persistent_workers": True}, [6] * 4), ({"num_workers": 1}, [6, 10, 10, 10])):
        iteration = iter(first := loader(**workers))
        for _ in range(4):
            next(iteration)
        state = first.state_dict()
        resumed = loader(**workers)
        resumed.load_state_dict(state)
        seen = epochs(resumed, resumed.dataset, False)
        print(f"StatefulDataLoader {workers}: batches by epoch {seen}")
        holds &= seen == expected
    return holds

if __name__ == "__main__":
    sys.exit(not main())
PY
"$python" "$work/resume.py"

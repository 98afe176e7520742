#!/usr/bin/env bash
# trl.pack_dataset with "wrapped" packs the first rows again and again: of a dataset in memory the first 1,000, of a slice those in front of the slice.
#
# Versions: trl 1.13.0, datasets 5.0.1, pyarrow 25.0.1, torch 2.13.0 (CPU).
# Behaviour: Dataset.map hands over slices of a table, 1,000 rows each. The offsets of the packed rows are counted from the beginning of the slice, and the values are taken from the beginning of the whole column. Rows,
#   lengths and the count of tokens are as expected. "bfd" and "bfd_split" are right.
# Seen, 2,500 rows of 7 tokens that are all different, packed by 64: "wrapped" has the tokens of the first 1,000 rows, two and a half times, of Dataset.from_dict(), from_list() and of what train_test_split() leaves of it. Rows 1500 to 1799
#   by select() become rows 0 to 299 in memory, and rows 1000 to 1299 of the same dataset saved and loaded (there whole groups of 1,000 are right). SFTTrainer and an IterableDataset are right, as rows are written anew in front of it.
# Why it matters: a model is trained on the first thousand documents over and over, and an evaluation set that was cut off the end holds training text. Only a look at the packed tokens shows it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 trl==1.13.0 datasets==5.0.1 pyarrow==25.0.1 numpy

"$python" - "$work/saved" <<'PY'
import sys
from itertools import chain
from datasets import Dataset, IterableDataset, disable_progress_bars, load_from_disk
from trl import pack_dataset

disable_progress_bars()
width, count = 7, 2500
rows = [[row * width + i for i in range(width)] for row in range(count)]

def held(dataset, strategy):
    tokens = list(chain(*(row["input_ids"] for row in pack_dataset(dataset, 64, strategy))))
    documents = sorted({token // width for token in tokens})
    return documents[0], documents[-1], len(documents), len(tokens) // width

memory = Dataset.from_dict({"input_ids": rows})
memory.save_to_disk(sys.argv[1])
disk = load_from_disk(sys.argv[1])
# dataset, its first and last row and their count, what "wrapped" packs: first, last, how many different, how many in all
cases = {
    "from_dict": (memory, 0, 2499, (0, 999, 1000, 2500)),
    "from_list": (Dataset.from_list([{"input_ids": row} for row in rows]), 0, 2499, (0, 999, 1000, 2500)),
    "from_dict, train_test_split": (memory.train_test_split(0.1, shuffle=False)["train"], 0, 2249, (0, 999, 1000, 2250)),
    "from_dict, select(1500 to 1799)": (memory.select(range(1500, 1800)), 1500, 1799, (0, 299, 300, 300)),
    "load_from_disk": (disk, 0, 2499, (0, 2499, 2500, 2500)),
    "load_from_disk, select(1500 to 1799)": (disk.select(range(1500, 1800)), 1500, 1799, (1000, 1299, 300, 300)),
    "IterableDataset": (IterableDataset.from_generator(lambda: ({"input_ids": row} for row in rows)), 0, 2499, (0, 2499, 2500, 2500)),
}
holds = True
for name, (dataset, first, last, seen) in cases.items():
    right = (first, last, last - first + 1, last - first + 1)
    packed = {strategy: held(dataset, strategy) for strategy in ("wrapped", "bfd_split")}
    for strategy, (low, high, different, documents) in packed.items():
        note = "" if (low, high, different, documents) == right else ", wrong"
        print(f"{name}, {strategy}: rows {low} to {high}, {different} different ones of {documents}{note}")
    holds &= packed["wrapped"] == seen and packed["bfd_split"] == right
sys.exit(not holds)
PY

#!/bin/sh
# Makes the model of the package again, and the Transformer of its size that docs/training.md compares it with:
#   sh scripts/shipped/train.sh FOLDER
# FOLDER gets the text, both runs and the packed model; what is there goes on. Some fifteen minutes on two quiet cores.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
if [ ! -e austen.txt ]; then
  apt-get download r-cran-janeaustenr
  dpkg-deb -x r-cran-janeaustenr_*.deb austen
  node "$here/text.mjs" austen >austen.txt
fi
for model in hybrid transformer; do
  node "$here/../../dist/lib/cli/main.js" train austen.txt --config "$here/$model.json" --vocabulary 2048 \
    --steps 2000 --batch 4 --length 256 --learning-rate 3e-3 --seed 1 --evaluate-every 250 --out "$model"
done
node "$here/pack.mjs" hybrid packed

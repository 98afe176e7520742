#!/usr/bin/env bash
# Installs what `statespace bench peers` compares with into a folder of its own: a Python environment with PyTorch,
# transformers, ONNX Runtime and the references of flash-linear-attention, and node-llama-cpp with its prebuilt
# llama.cpp. Nothing of it goes into the project.
# usage: bench/peers/setup.sh DIR
set -euo pipefail
if [ $# -ne 1 ]; then
  echo "usage: $0 DIR" >&2
  exit 2
fi
mkdir -p "$1"
dir=$(cd "$1" && pwd)
[ -x "$dir/venv/bin/python" ] || python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet torch transformers numpy gguf onnx onnxruntime einops
# Only its references are run: no Triton.
"$dir/venv/bin/pip" install --quiet --no-deps fla-core==0.5.2
mkdir -p "$dir/node"
[ -f "$dir/node/package.json" ] || echo '{ "private": true }' >"$dir/node/package.json"
npm install --prefix "$dir/node" --no-audit --no-fund --save-exact node-llama-cpp@3.22.1
echo "Ready. Run: statespace bench peers --env $dir"

#!/bin/sh
# on_gpu.sh test | bench: builds the CUDA backend and runs its conformance suites, or its benchmark, on this machine's
# GPU. Says so and fails where there is none.
set -e
cd "$(dirname "$0")/.."
command -v nvcc >/dev/null || { echo "$1:cuda: no nvcc here: the CUDA toolkit 13 is needed to build the kernels" >&2; exit 1; }
nvidia-smi -L 2>/dev/null | grep GPU || { echo "$1:cuda: no NVIDIA GPU here: nvidia-smi finds none" >&2; exit 1; }

export STATESPACE_BACKEND=cuda STATESPACE_CUDA_LIBRARY="$PWD/build-cuda/cuda/libstatespace_cuda.so"
cmake -S . -B build-cuda -DSTATESPACE_CUDA=ON -DSTATESPACE_TESTS=ON -DSTATESPACE_CUDA_ARCHS="${STATESPACE_CUDA_ARCHS:-native}"
if [ "$1" = bench ]; then
  cmake --build build-cuda -j --target statespace_cuda statespace_cuda_bench
  exec build-cuda/cuda/statespace_cuda_bench
fi
npm run build
cmake --build build-cuda -j --target statespace_cuda statespace_tests
build-cuda/statespace_tests
exec npx vitest run test/conformance test/models test/cuda

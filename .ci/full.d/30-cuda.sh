# CUDA without a GPU: the emulated device in several orders of its lanes, all architectures by nvcc.
emulated_build() { npm run --silent build:cuda:emulated; }
emulated_cxx() { emulated_build && npm run --silent test:cuda:emulated; }
emulated_ops() { # emulated_ops NAME=VALUE [tests]: with this in the environment
  local setting=$1
  shift
  emulated_build && env "$setting" npm run --silent test:cuda:emulated:ops -- "$@"
}
if need /usr/include/doctest/doctest.h doctest-dev && need cmake cmake; then
  step 'emulated CUDA: build' emulated_build
  counted 'emulated CUDA: three lane orders, equal to the bit' emulated_cxx
  for order in forward 7 1234567; do
    counted "emulated CUDA: ops, models and sessions, lanes $order" emulated_ops STATESPACE_EMULATED_ORDER=$order
  done
  skip_missing_kernels
  counted 'emulated CUDA: all models and sessions' emulated_ops STATESPACE_LONG=1 test/models test/session
else
  skip 'emulated CUDA' 'no doctest or CMake here'
fi

# The library for every architecture, its size, no spills where there must be none, and the two documents as they are.
cuda_library() {
  npm run --silent build:cuda:package && emulated_build && cmake --build build -j 2 --target statespace_cuda_bench &&
    [ "$(stat -c %s build-cuda/cuda/libstatespace_cuda.so)" -lt $((30 * 1024 * 1024)) ] &&
    node cuda/resources.mjs build-cuda | diff docs/cuda-resources.md - &&
    build/cuda/statespace_cuda_bench --document | diff docs/cuda-performance.md -
}
if command -v nvcc >/dev/null 2>&1; then
  step 'CUDA by nvcc, all architectures' cuda_library
else
  skip 'CUDA by nvcc, all architectures' 'no nvcc here'
fi

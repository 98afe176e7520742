# The NEON backend: built by a cross compiler, run by an emulated processor. qemu 7 keeps a record of every page of the
# address space that a program reserves: with no limit, the pools of a few models fill 20 GB.
arm64_build() {
  cmake -S . -B build-arm64 -DSTATESPACE_TESTS=ON --toolchain cmake/linux-arm64.cmake &&
    cmake --build build-arm64 -j 2 --target statespace_tests
}
arm64_run() { # arm64_run CPU [options of the tests]
  local cpu=$1
  shift
  (ulimit -v $((16 << 20)) && qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu "$cpu" build-arm64/statespace_tests "$@")
}
arm64_tests() { arm64_build && arm64_run max; }
# Products in int8 as processors without smmla, and without sdot, multiply them.
arm64_products() { arm64_build && arm64_run "$1" -tc='quantised*,linear*,moe*'; }
if need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu && need qemu-aarch64 qemu-user &&
  need /usr/include/doctest/doctest.h doctest-dev; then
  counted 'arm64: C++ tests under qemu' arm64_tests
  counted 'arm64: products with sdot alone (Neoverse N1)' arm64_products neoverse-n1
  counted 'arm64: products with neither sdot nor smmla (Cortex-A72)' arm64_products cortex-a72
else
  skip 'arm64: C++ tests under qemu' 'no cross compiler, qemu-user or doctest here'
fi

# The NEON backend: built by a cross compiler, run by an emulated processor. qemu 7 keeps a record of every page of the
# address space that a program reserves: with no limit, the pools of a few models fill 20 GB.
arm64_tests() {
  cmake -S . -B build-arm64 -DSTATESPACE_TESTS=ON --toolchain cmake/linux-arm64.cmake &&
    cmake --build build-arm64 -j 2 --target statespace_tests &&
    (ulimit -v $((16 << 20)) && qemu-aarch64 -L /usr/aarch64-linux-gnu build-arm64/statespace_tests)
}
if need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu && need qemu-aarch64 qemu-user &&
  need /usr/include/doctest/doctest.h doctest-dev; then
  counted 'arm64: C++ tests under qemu' arm64_tests
else
  skip 'arm64: C++ tests under qemu' 'no cross compiler, qemu-user or doctest here'
fi

# Sanitizers over the C++ tests: conformance of every kernel, sessions in parallel, the thread pool.
if need /usr/include/doctest/doctest.h doctest-dev && need cmake cmake; then
  counted 'C++ tests under ASan and UBSan' cxx_tests build-asan -DSTATESPACE_SANITIZE=address,undefined
  counted 'C++ tests under TSan' cxx_tests build-tsan -DSTATESPACE_SANITIZE=thread
else
  skip 'C++ tests under sanitizers' 'no doctest or CMake here'
fi

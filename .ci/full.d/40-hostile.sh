# Hostile input: fuzzers of the readers in TypeScript and of the decoders in C++, ten minutes each; ops with 100,000
# calls; workers, calls and sessions that end before their time; processes killed while they save.
for target in safetensors pickle torch-file config snapshot; do
  step "fuzz: $target" node scripts/fuzz.cjs "$target" --seconds 600
done

fuzzers() { # clang's libFuzzer, with ASan and UBSan
  cmake -S . -B build-fuzz -DSTATESPACE_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++-14 \
    -DSTATESPACE_SANITIZE=address,undefined && cmake --build build-fuzz -j 2 --target fuzz_graph fuzz_snapshot
}
fuzz_native() { # fuzz_native TARGET: new inputs go into the build folder, the kept ones are read
  mkdir -p "build-fuzz/found-$1" &&
    "./build-fuzz/fuzz_$1" -max_total_time=600 -rss_limit_mb=4096 -timeout=10 -max_len=65536 \
      "build-fuzz/found-$1" "native/fuzz/corpus/$1"
}
if need clang++-14 clang-14 && need /usr/lib/llvm-14/lib/clang/14.0.6/lib/linux libclang-rt-14-dev; then
  step 'fuzz: build the C++ targets' fuzzers
  for target in graph snapshot; do
    after 'fuzz: build the C++ targets' -- step "fuzz: $target in C++" fuzz_native "$target"
  done
else
  skip 'fuzz: the C++ targets' 'no clang-14 or no libclang-rt-14-dev here'
fi

stress_tests() { npm run --silent build && STATESPACE_LONG=1 npx vitest run test/stress test/checkpoint/changing.test.ts test/models/config-errors.test.ts test/models/saved-forms.test.ts; }
counted 'stress: 100,000 calls, 1,000 workers, 1,000 aborts, 10,000 sessions, kills, files that change, absurd configs' stress_tests

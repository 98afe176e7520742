# What .ci/run and .ci/full share: named steps, counts, skips with their reasons, and what they need from Debian.
# Source it from the repository's root.
passed=0 failed=0 skipped=0
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# wanted NAME: whether a step runs. `only` holds the words that a name must contain one of; empty: all run.
only=()
wanted() {
  local word
  [ ${#only[@]} -eq 0 ] && return
  for word in "${only[@]}"; do [[ $1 == *"$word"* ]] && return; done
  return 1
}

# step NAME COMMAND…: one check.
declare -A step_command=() step_status=()
step() {
  local name=$1
  step_command[$name]=$(printf '%q ' "${@:2}")
  wanted "$name" || return 0
  run_step "$name"
}

run_step() {
  local name=$1 start=$SECONDS
  if eval "${step_command[$name]}" >"$logs/step" 2>&1; then
    step_status[$name]=0
    passed=$((passed + 1))
    echo "ok: $name ($((SECONDS - start)) s)"
  else
    step_status[$name]=1
    failed=$((failed + 1))
    tail -n 80 "$logs/step"
    echo "FAILED: $name ($((SECONDS - start)) s)"
  fi
}

# after STEP… -- step|counted NAME COMMAND…: a check that needs what these steps, named above it, make: where it runs, so
# do they, selected or not.
after() {
  local needed=() one
  while [ "$1" != -- ]; do needed+=("$1") && shift; done
  shift
  if wanted "$2"; then
    for one in "${needed[@]}"; do
      [ -n "${step_status[$one]:-}" ] || run_step "$one"
      [ "${step_status[$one]}" -eq 0 ] || { skip "$2" "$one failed"; return; }
    done
  fi
  "$@"
}

# counted NAME COMMAND…: a test runner (vitest, doctest); its own counts join the total.
counted() {
  local name=$1 start=$SECONDS p f
  wanted "$name" || return 0
  shift
  count "$@"
  report
}

# twice NAME COMMAND… --: a vitest run whose files that failed run once more, one at a time with nothing beside: a
# machine that stands still for a second fails a case that waits for a moment. What passes then counts, and is named.
twice() {
  local name=$1 start=$SECONDS p f files all first
  wanted "$name" || return 0
  shift
  count "$@"
  mapfile -t files < <(grep -E '^ *FAIL |Failed to start' "$logs/plain" | grep -oE 'test/[^ ]+\.test\.ts' | sort -u)
  if [ "$f" -ne 0 ] && [ ${#files[@]} -ne 0 ]; then
    all=$((p + f)) first=$(grep -E '^ *FAIL |Failed to start' "$logs/plain" | sort -u)
    complain
    count "$@" "${files[@]}" --no-file-parallelism
    p=$((all - f))
    [ "$f" -ne 0 ] || printf 'passed when run again alone:\n%s\n' "$first"
  fi
  report
}

# count COMMAND…: runs it; p and f are what passed and failed. One that fails and names no test counts as one failure.
count() {
  local status
  "$@" >"$logs/step" 2>&1
  status=$?
  sed 's/\x1b\[[0-9;]*m//g' "$logs/step" >"$logs/plain"
  p=$(sum_of passed) f=$(sum_of failed)
  [ "$status" -ne 0 ] && [ "$f" -eq 0 ] && f=1
  [ "$status" -eq 0 ] && [ "$p" -eq 0 ] && { echo "no test ran"; f=1; }
}

report() {
  passed=$((passed + p)) failed=$((failed + f))
  [ "$f" -eq 0 ] || complain
  echo "$name: $p passed, $f failed ($((SECONDS - start)) s)"
}

complain() {
  grep -nE 'FAIL|Error|ERROR' "$logs/plain" | head -n 40
  tail -n 60 "$logs/plain"
}

sum_of() {
  grep -E '^ *Tests  |test cases:' "$logs/plain" | grep -oE "[0-9]+ $1" | awk '{ sum += $1 } END { print sum + 0 }'
}

# skip NAME REASON: a check that cannot run here, said aloud.
skip() {
  wanted "$1" || return 0
  skipped=$((skipped + 1))
  echo "skipped: $1 ($2)"
}

# The ops that have no CUDA kernel yet, one by one: their tests on the device are skipped, all others run.
skip_missing_kernels() {
  local op
  for op in $(sed -n 's/^    \([A-Z][A-Za-z0-9]*\)[,>;]*$/\1/p' cuda/missing.h); do
    skip "emulated CUDA: tests of $op" 'it has no CUDA kernel yet'
  done
}

# need COMMAND-OR-FILE PACKAGE: a Debian package, where it is missing and can be had. False where it cannot.
need() {
  have "$1" && return
  if command -v apt-get >/dev/null 2>&1; then
    [ -e "$logs/updated" ] || apt-get update -qq >/dev/null 2>&1
    touch "$logs/updated"
    apt-get install -y -qq "$2" >/dev/null 2>&1
  fi
  have "$1"
}
have() { command -v "$1" >/dev/null 2>&1 || [ -e "$1" ]; }

# cxx_tests FOLDER [cmake options]: configures and builds the C++ tests there, and runs them.
cxx_tests() {
  local folder=$1
  shift
  cmake -S . -B "$folder" -DSTATESPACE_TESTS=ON "$@" &&
    cmake --build "$folder" -j 2 --target statespace_tests && in_halves "./$folder/statespace_tests"
}

# in_halves COMMAND…: a doctest program as two processes, each with half the cases: most cases keep one core busy. Both
# count all of them, so only one says how many passed.
in_halves() {
  local half first second
  half=$(("$("$@" --count --no-version | grep -oE '[0-9]+$' | tail -n 1)" / 2))
  "$@" --last="$half" >"$logs/half" 2>&1 &
  "$@" --first=$((half + 1))
  second=$?
  wait $!
  first=$?
  grep -v 'test cases:' "$logs/half"
  return $((first | second))
}

# The last line, and the exit status. A word that selects nothing is a mistake.
finish() {
  [ $((passed + failed + skipped)) -ne 0 ] || { echo "no check is called so: ${only[*]:-}"; failed=1; }
  [ "$skipped" -eq 0 ] || echo "$skipped skipped, for the reasons above"
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
}

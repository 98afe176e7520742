# The shipped model: its first steps again, from its text and command; what goes to transformers and peft, and comes from them.
shipped_model() {
  local work
  work=$(mktemp -d) || return 1
  (cd "$work" && apt-get download r-cran-janeaustenr >/dev/null 2>&1 && dpkg-deb -x r-cran-janeaustenr_*.deb austen) &&
    npm run --silent build && node scripts/shipped/text.mjs "$work/austen" >"$work/austen.txt" &&
    node scripts/shipped/check.mjs "$work/austen.txt" "$work/run" 60
  local failed=$?
  rm -rf "$work"
  return $failed
}
with_transformers() { npm run --silent build && npx vitest run test/training/transformers.test.ts; }
random_ggufs() { npm run --silent build && STATESPACE_LONG=1 npx vitest run test/models/random-ggufs.test.ts; }
plain_formats() { npm run --silent build && STATESPACE_LONG=1 npx vitest run test/models/plain-formats.test.ts; }
random_configs() { npm run --silent build && STATESPACE_LONG=1 npx vitest run test/models/random-configs.test.ts; }
if apt-cache policy r-cran-janeaustenr 2>/dev/null | grep -q 'Candidate: 1.0.0-1'; then
  step 'training: the first steps of the shipped model' shipped_model
else
  skip 'training: the first steps of the shipped model' "Debian's r-cran-janeaustenr 1.0.0-1, its text, is not to be had"
fi
counted 'models: formats beside plain networks' plain_formats
if [ -n "${STATESPACE_PYTHON:-}" ]; then
  counted 'training: to transformers and peft, and back' with_transformers
  counted 'models: random configs of transformers, and back' random_configs
  counted 'models: random GGUF files by gguf-py' random_ggufs
else
  skip 'training: to transformers and peft, and back' 'STATESPACE_PYTHON names no Python with both'
  skip 'models: random configs of transformers, and back' 'STATESPACE_PYTHON names no Python with transformers'
  skip 'models: random GGUF files by gguf-py' 'STATESPACE_PYTHON names no Python with transformers and gguf'
fi

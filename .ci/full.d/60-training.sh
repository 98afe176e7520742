# The shipped model: its first steps again, from its text and command; what was trained goes to transformers and peft.
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
if apt-cache policy r-cran-janeaustenr 2>/dev/null | grep -q 'Candidate: 1.0.0-1'; then
  step 'training: the first steps of the shipped model' shipped_model
else
  skip 'training: the first steps of the shipped model' "Debian's r-cran-janeaustenr 1.0.0-1, its text, is not to be had"
fi
if [ -n "${STATESPACE_PYTHON:-}" ]; then
  counted 'training: to transformers and peft, and back' with_transformers
else
  skip 'training: to transformers and peft, and back' 'STATESPACE_PYTHON names no Python with both'
fi

# Sourced by every finding: a temporary folder that is removed at the end, and exact versions of packages in it.
# python_packages NAME==VERSION ... sets $python; node_packages NAME@VERSION ... makes $work/node a project with them.

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false PIP_DISABLE_PIP_VERSION_CHECK=1
export HF_HOME="$work/hub" OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore

python_packages() {
  local first rest url index=()
  python3 -m venv "$work/venv"
  python="$work/venv/bin/python"
  # Where pip is configured with extra indexes only, they stand in for the public one.
  if ! "$python" -m pip config get global.index-url >/dev/null 2>&1; then
    read -r first rest <<<"$("$python" -m pip config get global.extra-index-url 2>/dev/null || true)"
    if [[ -n ${first:-} ]]; then
      index=(--index-url "$first")
      for url in $rest; do index+=(--extra-index-url "$url"); done
    fi
  fi
  "$python" -m pip install --quiet "${index[@]}" "$@" 2> >(grep -v '^WARNING: Location' >&2)
}

node_packages() {
  mkdir -p "$work/node"
  (cd "$work/node" && npm init --yes >/dev/null && npm install --silent --no-audit --no-fund --ignore-scripts --save-exact "$@" >/dev/null)
}

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

# web_xgrammar makes $work/node with @mlc-ai/web-xgrammar 0.1.27 and a module grammar.mjs: accepts(schema, text), and
# accepting(rows) of [schema, text, whether the schema allows it, whether the grammar did when this was written].
web_xgrammar() {
  node_packages @mlc-ai/web-xgrammar@0.1.27
  cat >"$work/node/grammar.mjs" <<'JS'
import { createRequire } from 'node:module';

// The package expects these three of CommonJS.
Object.assign(globalThis, { require: createRequire(import.meta.url), __filename: new URL(import.meta.url).pathname, __dirname: '.' });
await import('@mlc-ai/web-xgrammar');
const { GrammarCompiler, GrammarMatcher, TokenizerInfo } = globalThis.xgrammar;
const vocabulary = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code));
const compiler = await GrammarCompiler.createGrammarCompiler(
  await TokenizerInfo.createTokenizerInfo(vocabulary, 'raw', false, 128, [0]),
);
export async function accepts(schema, text) {
  const matcher = await GrammarMatcher.createGrammarMatcher(await compiler.compileJSONSchema(JSON.stringify(schema)));
  return [...text].every((character) => matcher.acceptToken(character.charCodeAt(0))) && matcher.acceptToken(0);
}
export async function accepting(rows) {
  let holds = true;
  for (const [schema, text, allowed, seen] of rows) {
    const taken = await accepts(schema, text);
    console.log(`${JSON.stringify(schema)} ${text}: ${taken ? 'accepted' : 'refused'}${taken === allowed ? '' : ', wrong'}`);
    holds &&= taken === seen;
  }
  return holds;
}
JS
}

# fla_references sets $python, which can import fla_reference: reference(rule) is the module of flash-linear-attention's
# plain PyTorch for a rule, by itself, as the package imports Triton.
fla_references() {
  python_packages torch==2.13.0 numpy einops==0.8.2
  python_packages --no-deps fla-core==0.5.2
  cat >"$work/fla_reference.py" <<'PY'
import importlib.util

def reference(rule):
    path = f"{importlib.util.find_spec('fla').submodule_search_locations[0]}/ops/{rule}/naive.py"
    spec = importlib.util.spec_from_file_location(rule, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
PY
  export PYTHONPATH="$work"
}

# small_mamba_gguf FILE [letters | VOCABULARY] writes a Mamba model of random weights, 2 layers and 64 tokens, by the gguf package in
# $python. With letters the tokens are the characters from ! on, so that texts of these can be read. VOCABULARY is a file of JSON
# with the keys under tokenizer.ggml (model, pre, tokens, token_type, scores, merges, ...; charsmap in base64) in their place.
small_mamba_gguf() {
  "$python" - "$@" <<'PY'
import base64, json, sys
import numpy as np
from gguf import GGUFWriter

given = sys.argv[2:] or [""]
vocabulary = {
    "model": "gpt2", "pre": "gpt-2", "token_type": [1] * 64, "merges": ["t 1"], "eos_token_id": 0,
    "tokens": [chr(33 + token) if given[0] == "letters" else f"t{token}" for token in range(64)],
} if given[0] in ("", "letters") else json.load(open(given[0]))
random = np.random.default_rng(0)
layers, width, inner, state, rank, tokens = 2, 32, 64, 8, 2, len(vocabulary["tokens"])

def weights(out, into):
    return (random.standard_normal((out, into)) / np.sqrt(into)).astype(np.float32)

writer = GGUFWriter(sys.argv[1], "mamba")
writer.add_context_length(4096)
writer.add_embedding_length(width)
writer.add_feed_forward_length(0)
writer.add_head_count(0)
writer.add_block_count(layers)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_ssm_conv_kernel(4)
writer.add_ssm_inner_size(inner)
writer.add_ssm_state_size(state)
writer.add_ssm_time_step_rank(rank)
lists = {"tokens": writer.add_token_list, "token_type": writer.add_token_types, "scores": writer.add_token_scores, "merges": writer.add_token_merges}
for key, value in vocabulary.items():
    if key in lists:
        lists[key](value)
    elif key == "charsmap":
        writer.add_precompiled_charsmap(base64.b64decode(value))
    elif isinstance(value, bool):
        writer.add_bool(f"tokenizer.ggml.{key}", value)
    elif isinstance(value, int):
        writer.add_uint32(f"tokenizer.ggml.{key}", value)
    else:
        writer.add_string(f"tokenizer.{key}" if key == "chat_template" else f"tokenizer.ggml.{key}", value)
writer.add_tensor("token_embd.weight", random.standard_normal((tokens, width)).astype(np.float32))
writer.add_tensor("output_norm.weight", np.full(width, 0.5, np.float32))
for layer in range(layers):
    for name, value in {
        "attn_norm.weight": np.ones(width, np.float32),
        "ssm_in.weight": weights(2 * inner, width),
        "ssm_conv1d.weight": weights(inner, 4),
        "ssm_conv1d.bias": np.zeros(inner, np.float32),
        "ssm_x.weight": weights(rank + 2 * state, inner),
        "ssm_dt.weight": weights(inner, rank),
        "ssm_dt.bias": np.full(inner, -3, np.float32),
        "ssm_a": -np.tile(np.arange(1, state + 1, dtype=np.float32) / 64, (inner, 1)),
        "ssm_d": np.ones(inner, np.float32),
        "ssm_out.weight": 2 * weights(width, inner),
    }.items():
        writer.add_tensor(f"blk.{layer}.{name}", value)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
PY
}

# small_mamba_in_llama makes $work/node with node-llama-cpp 3.22.1, that model and a module mamba.mjs: llama, a sequence, next(sequence,
# token) is the probabilities after one more token, after(tokens) those of another sequence that has read these and 5, apart(a, b)
# how far two are from each other.
small_mamba_in_llama() {
  python_packages gguf==0.19.0
  node_packages node-llama-cpp@3.22.1
  small_mamba_gguf "$work/node/model.gguf"
  cat >"$work/node/mamba.mjs" <<'JS'
import { getLlama } from 'node-llama-cpp';

export const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: 1 });
const model = await llama.loadModel({ modelPath: 'model.gguf', gpuLayers: 0 });
const context = await model.createContext({ contextSize: 256, sequences: 2, threads: 1 });
export const sequence = context.getSequence();
const other = context.getSequence();

export const next = async (of, token) => (await of.controlledEvaluate([[token, { generateNext: { probabilities: true } }]]))[0].next.probabilities;
export const apart = (a, b) => Math.max(...[...a].map(([token, value]) => Math.abs(value - (b.get(token) ?? 0))));
export async function after(tokens) {
  await other.clearHistory();
  await other.evaluateWithoutGeneratingNewTokens(tokens);
  return next(other, 5);
}
JS
}

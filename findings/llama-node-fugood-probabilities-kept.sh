#!/usr/bin/env bash
# @fugood/llama.node: completion_probabilities has those of all completions before as well.
#
# Versions: @fugood/llama.node 1.7.15 (its prebuilt llama.cpp, CPU), gguf 0.19.0 to make the model.
# Behaviour: the list of probabilities is not emptied between completions of a context. The first piece that the callback of a later one gets has all of them.
# Seen with a Mamba model of random weights, n_probs 2 and 200 tokens each: 200, 400 and 600 entries for texts of 200 tokens; the first pieces have 1, 201 and 401. A completion without n_probs between has none.
# Why it matters: scores and log-probabilities of a second request are the first one's, and memory grows with every such request.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages gguf==0.19.0
node_packages @fugood/llama.node@1.7.15
small_mamba_gguf "$work/node/model.gguf" letters

cat >"$work/node/completions.mjs" <<'JS'
import { loadModel } from '@fugood/llama.node';

const made = () => loadModel({ model: 'model.gguf', n_ctx: 512, n_gpu_layers: 0, n_threads: 1, use_mmap: false });
const settings = { temperature: 0, seed: 1, ignore_eos: true };

const context = await made();
let holds = true;
let texts = '';
for (const [i, prompt] of ['ABCDEF', 'GHIJK', 'LMNOPQ'].entries()) {
  const pieces = [];
  const { text, completion_probabilities: list } = await context.completion({ ...settings, prompt, n_predict: 200, n_probs: 2 }, (piece) => pieces.push(piece.completion_probabilities.length));
  texts += text;
  for (let waited = 0; pieces.length === 0 && waited < 100; waited++) await new Promise((done) => setTimeout(done, 10)); // pieces may come after the answer
  const all = list.map((entry) => entry.content).join('');
  console.log(`completion ${i + 1}: ${text.length} characters, ${list.length} probabilities, ${pieces[0]} with the first piece; all texts so far: ${all === texts}`);
  holds &&= text.length === 200 && list.length === 200 * (i + 1) && pieces[0] === 200 * i + 1 && all === texts;
  const plain = await context.completion({ ...settings, prompt, n_predict: 200 });
  holds &&= plain.completion_probabilities === undefined && plain.text === text;
}

process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node completions.mjs 2>/dev/null | grep '^completion')

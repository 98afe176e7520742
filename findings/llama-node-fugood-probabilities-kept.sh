#!/usr/bin/env bash
# @fugood/llama.node: completion_probabilities has those of all completions before as well, and a context that answers fast is "in progress" for good.
#
# Versions: @fugood/llama.node 1.7.15 (its prebuilt llama.cpp, CPU), gguf 0.19.0 to make the model.
# Behaviour: the list of probabilities is not emptied between completions of a context. The first piece that the callback of a later one gets has all of them. A completion is put in the queue before
#   it is noted as running: one that is done by then is noted afterwards, and completion() throws from then on, until the context is made anew.
# Seen with a Mamba model of random weights, n_probs 2 and 200 tokens each: 200, 400 and 600 entries for texts of 200 tokens; the first pieces have 1, 201 and 401. A completion without n_probs between has none. Of up to 3,000 completions of 2
#   tokens, one after the other and each awaited, one is refused, "Another completion is in progress", mostly within 50, and so is the next, a second later. None of 100 with 200 tokens.
# Why it matters: scores and log-probabilities of a second request are the first one's, memory grows with every such request, and a server whose answers are a token or two, as of a classifier, stops answering.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages gguf==0.19.0
node_packages @fugood/llama.node@1.7.15
small_mamba_gguf "$work/node/model.gguf" letters

cat >"$work/node/completions.mjs" <<'JS'
import { setTimeout as wait } from 'node:timers/promises';
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
  const all = list.map((entry) => entry.content).join('');
  console.log(`completion ${i + 1}: ${text.length} characters, ${list.length} probabilities, ${pieces[0]} with the first piece; all texts so far: ${all === texts}`);
  holds &&= text.length === 200 && list.length === 200 * (i + 1) && pieces[0] === 200 * i + 1 && all === texts;
  const plain = await context.completion({ ...settings, prompt, n_predict: 200 });
  holds &&= plain.completion_probabilities === undefined && plain.text === text;
}

async function refusedAfter(count, tokens) {
  const fast = await made();
  const once = async () => fast.completion({ ...settings, prompt: 'ABCDEF', n_predict: tokens });
  for (let done = 0; done < count; done++) {
    try {
      await once();
    } catch (error) {
      await wait(1000);
      return { done, first: error.message, later: await once().then(() => 'answered', (reason) => reason.message) };
    }
  }
  return { done: count };
}
const short = await refusedAfter(3000, 2);
const long = await refusedAfter(100, 200);
console.log(`completions of 2 tokens: ${JSON.stringify(short)}`);
console.log(`completions of 200 tokens: ${JSON.stringify(long)}`);
holds &&= short.first === 'Another completion is in progress' && short.later === short.first && long.done > 20;
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node completions.mjs 2>/dev/null | grep '^completion')

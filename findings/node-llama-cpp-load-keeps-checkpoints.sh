#!/usr/bin/env bash
# node-llama-cpp, recurrent and hybrid models: after loadStateFromFile() the sequence falls back to a checkpoint of the text before.
#
# Versions: node-llama-cpp 3.22.1 (its prebuilt llama.cpp, CPU), gguf 0.19.0 to make the model.
# Behaviour: loading a saved state replaces tokens and state of a sequence, and leaves its checkpoints. Erasing from the end (a regenerated answer, an edited
#   question, adaptStateToTokens()) then goes back to the nearest checkpoint, whichever text it was taken in.
# Seen with a Mamba model of random weights: one text of 90 tokens saved; another read, with a checkpoint at 60; the saved one loaded. lastCheckpointIndex is
#   that of the other. After the last 26 are erased contextTokens are the first 64 of the loaded text, and the next token's probabilities up to 0.12 from
#   those after these 64; they are, to the bit, those after the first 60 tokens of the other text and 4 of this one. With clearHistory() before loading: 0.
# Why it matters: where a sequence serves saved conversations in turn, an answer that is taken back is written again from a mixture of
#   two texts, while contextTokens look right. clearHistory() before loadStateFromFile() is the way out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
small_mamba_in_llama

cat >"$work/node/load.mjs" <<'JS'
import { after, apart, llama, next, sequence } from './mamba.mjs';

const [saved, former] = [7, 11].map((step) => Array.from({ length: 90 }, (_, i) => 1 + ((i * i * step + i * 13) % 63)));

await sequence.evaluateWithoutGeneratingNewTokens(saved);
await sequence.saveStateToFile('saved.state');

async function loaded(clear) {
  await sequence.clearHistory();
  await sequence.evaluateWithoutGeneratingNewTokens(former.slice(0, 60));
  await sequence.takeCheckpoint();
  await sequence.evaluateWithoutGeneratingNewTokens(former.slice(60));
  if (clear) await sequence.clearHistory();
  await sequence.loadStateFromFile('saved.state', { acceptRisk: true });
  const checkpoint = sequence.lastCheckpointIndex;
  await sequence.eraseContextTokenRanges([{ start: 64, end: 90 }]);
  if (sequence.contextTokens.join() !== saved.slice(0, 64).join()) throw new Error('contextTokens are not what is left');
  const seen = await next(sequence, 5);
  return {
    checkpoint,
    fromLeft: apart(seen, await after(saved.slice(0, 64))),
    fromMixture: apart(seen, await after([...former.slice(0, 60), ...saved.slice(60, 64)])),
  };
}
const over = await loaded(false);
const cleared = await loaded(true);
console.log('loaded over another text:', over);
console.log('loaded after clearHistory():', cleared);
await llama.dispose();
process.exitCode = over.fromLeft > 1e-2 && over.fromMixture < 1e-4 && cleared.fromLeft < 1e-4 ? 0 : 1;
JS
(cd "$work/node" && node load.mjs)

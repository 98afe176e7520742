#!/usr/bin/env bash
# node-llama-cpp, recurrent and hybrid models: tokens that were erased in front of a checkpoint stay in the state, and others drop out.
#
# Versions: node-llama-cpp 3.22.1 (its prebuilt llama.cpp, CPU), gguf 0.19.0 to make the model.
# Behaviour: states that cannot be cut are put back to a checkpoint. Erasing drops the checkpoints that lie beyond the new length, and keeps one
#   behind the erased place, which knows the erased tokens. What is left is then read on from the checkpoint's place in the old text.
# Seen with a Mamba model of random weights: erased 10 to 20 of 100 tokens with a checkpoint at 60: contextTokens are the 90 that are left, and the next token's
#   probabilities up to 0.02 from those after these 90; they are, to the bit, those after the first 60 tokens and the last 30. Without a checkpoint, or erased
#   behind it: 0. A text of 256 tokens in a context of 256 with a checkpoint at 150, whose first 100 are erased by themselves: 0.08 from those of the 156 left. (Jamba: up to
#   0.2; falcon_h1, granite, lfm2, nemotron_h, qwen3_next, rwkv7 as well.)
# Why it matters: chat sessions take such checkpoints, and a context that is full erases its beginning. What was to be forgotten still
#   speaks, as many tokens after the checkpoint were never read, and contextTokens tell another text than the state.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
small_mamba_in_llama

cat >"$work/node/erase.mjs" <<'JS'
import { after, apart, llama, next, sequence } from './mamba.mjs';

const text = Array.from({ length: 256 }, (_, i) => 1 + ((i * i * 7 + i * 13) % 63));

// Reads tokens, with a checkpoint once `at` of them are read (0: none), erases from..to, and says how far the next token's
// probabilities are from those after what is left, and from those after the tokens that the state is suspected to hold.
async function erased(count, at, from, to) {
  await sequence.clearHistory();
  await sequence.evaluateWithoutGeneratingNewTokens(text.slice(0, at));
  if (at) await sequence.takeCheckpoint();
  await sequence.evaluateWithoutGeneratingNewTokens(text.slice(at, count));
  await sequence.eraseContextTokenRanges([{ start: from, end: to }]);
  const left = [...text.slice(0, from), ...text.slice(to, count)];
  if (sequence.contextTokens.join() !== left.join()) throw new Error('contextTokens are not what is left');
  const seen = await next(sequence, 5);
  return { fromLeft: apart(seen, await after(left)), fromSuspected: apart(seen, await after([...text.slice(0, at), ...left.slice(at)])) };
}
const without = await erased(100, 0, 10, 20);
const behind = await erased(100, 60, 80, 90);
const before = await erased(100, 60, 10, 20);
console.log('erased 10 to 20 of 100, no checkpoint:', without.fromLeft);
console.log('erased 80 to 90 of 100, checkpoint at 60:', behind.fromLeft);
console.log('erased 10 to 20 of 100, checkpoint at 60:', before);

// A text beyond the context: its beginning is erased, by default 100 tokens.
await sequence.clearHistory();
await sequence.evaluateWithoutGeneratingNewTokens(text.slice(0, 150));
await sequence.takeCheckpoint();
await sequence.evaluateWithoutGeneratingNewTokens(text.slice(150));
const left = sequence.contextTokens;
const seen = await next(sequence, 5);
const shifted = { left: left.length, fromLeft: apart(seen, await after(left)) };
console.log('context shift of 256 tokens, checkpoint at 150:', shifted);
await llama.dispose();
process.exitCode =
  without.fromLeft < 1e-4 && behind.fromLeft < 1e-4 && before.fromLeft > 1e-2 && before.fromSuspected < 1e-4 && left.length < 200 && shifted.fromLeft > 1e-2
    ? 0
    : 1;
JS
(cd "$work/node" && node erase.mjs)

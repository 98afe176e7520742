// llama.cpp through node-llama-cpp: one JSON job a line in ({file, context, decodeTokens, reps}), one answer a line out.
// usage: node llama_cpp.mjs PEERS-DIR THREADS

import { createInterface } from 'node:readline';
import { openLlama } from './node_llama.mjs';

const [, , dir, threadsText] = process.argv;
const threads = Number(threadsText);
const { llama, version } = await openLlama(dir, threads);

const seconds = async (run) => {
  const started = performance.now();
  await run();
  return (performance.now() - started) / 1000;
};

async function answer({ file, context, decodeTokens, reps }) {
  const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
  const prompt = (length) => Array.from({ length }, () => 200 + Math.floor(Math.random() * 40_000));
  let best = null;
  // Flash attention is faster for some models and refused for others: the faster of both answers.
  for (const flashAttention of [false, true]) {
    const made = await model.createContext({
      contextSize: context + decodeTokens + 64,
      batchSize: 512,
      threads: { ideal: threads, min: threads },
      flashAttention,
    });
    const sequence = made.getSequence();
    await sequence.evaluateWithoutGeneratingNewTokens(prompt(32));
    const [prefill, decode] = [[], []];
    for (let rep = 0; rep < reps; rep++) {
      await sequence.clearHistory();
      const tokens = prompt(context);
      prefill.push(await seconds(() => sequence.evaluateWithoutGeneratingNewTokens(tokens)));
      const steps = await seconds(async () => {
        for (let i = 0; i < decodeTokens; i++) await sequence.evaluateWithoutGeneratingNewTokens([300 + i]);
      });
      decode.push(steps / decodeTokens);
    }
    const sum = (values) => values.reduce((total, value) => total + value, 0);
    if (best === null || sum(prefill) < sum(best.prefill)) best = { prefill, decode };
    await made.dispose();
  }
  await model.dispose();
  return best;
}

console.log(JSON.stringify({ peer: `llama.cpp (node-llama-cpp ${version})` }));
for await (const line of createInterface({ input: process.stdin })) {
  const reply = await answer(JSON.parse(line)).catch((error) => ({ error: error.message }));
  console.log(JSON.stringify(reply));
}
process.exit(0);

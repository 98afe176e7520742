// Many clients of one engine beside as many sequences of node-llama-cpp, which batches them too: the same GGUF file,
// the same prompts, greedy, in one run after a short one each.
// usage: node llama_cpp_clients.mjs PEERS-DIR FILE.gguf [CLIENTS] [LONGEST] [GENERATED] [THREADS]

import { createRequire } from 'node:module';
import { openLlama } from './node_llama.mjs';

const [, , dir, file, ...numbers] = process.argv;
const [clients = 64, longest = 400, generated = 32, threads = 2] = numbers.map(Number);
const SHORTEST = 10;

// Lengths grow by one factor from the shortest to the longest.
const growth = (longest / SHORTEST) ** (1 / Math.max(1, clients - 1));
const prompts = Array.from({ length: clients }, (_, i) =>
  Array.from({ length: Math.round(SHORTEST * growth ** i) }, (_, k) => 200 + ((k * 7919 + i * 131) % 30_000)),
);
const short = prompts.map((prompt) => prompt.slice(0, SHORTEST));

async function seconds(run) {
  const started = performance.now();
  await run();
  return (performance.now() - started) / 1000;
}

async function ours() {
  const { loadModel, createEngine, setThreads } = createRequire(import.meta.url)('../../dist/lib/index.js');
  setThreads(threads);
  const model = await loadModel(file);
  const engine = createEngine(model, { prefixCache: false });
  const serve = (asked, count) =>
    Promise.all(
      asked.map(async (prompt) => {
        let got = 0;
        for await (const _ of engine.generate({ prompt, maxTokens: count, minTokens: count })) got++;
        if (got !== count) throw new Error(`a client got ${got} of ${count} tokens`);
      }),
    );
  await serve(short, 2);
  const taken = await seconds(() => serve(prompts, generated));
  await engine.dispose();
  await model.dispose();
  return taken;
}

async function theirs() {
  const { llama } = await openLlama(dir, threads);
  const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
  const context = await model.createContext({
    contextSize: longest + generated + 16,
    batchSize: 512,
    sequences: clients,
    threads: { ideal: threads, min: threads },
  });
  const sequences = prompts.map(() => context.getSequence());
  const serve = (asked, count) =>
    Promise.all(
      asked.map(async (prompt, i) => {
        let got = 0;
        const tokens = sequences[i].evaluate(prompt, { temperature: 0, yieldEogToken: true });
        for await (const _ of tokens) if (++got === count) break;
        if (got !== count) throw new Error(`a sequence got ${got} of ${count} tokens`);
      }),
    );
  await serve(short, 2);
  for (const sequence of sequences) await sequence.clearHistory();
  return seconds(() => serve(prompts, generated));
}

const [a, b] = [await ours(), await theirs()];
const total = prompts.reduce((sum, { length }) => sum + length, 0) + clients * generated;
for (const [name, taken] of [
  ['engine', a],
  ['llama.cpp', b],
])
  console.log(`${name}: ${taken.toFixed(2)} s, ${(total / taken).toFixed(0)} tokens/s, prompts and answers`);
console.log(`engine / llama.cpp, tokens/s: ${(b / a).toFixed(2)}`);
process.exit(0);

// A prompt, and then another that begins with the same tokens, beside node-llama-cpp with what it keeps by itself: the same
// GGUF file, greedy, time to the first token.
// usage: node llama_cpp_prefix.mjs PEERS-DIR FILE.gguf [PREFIX] [THREADS]

import { createRequire } from 'node:module';
import { openLlama } from './node_llama.mjs';

const [, , dir, file, ...numbers] = process.argv;
const [prefix = 8192, threads = 2] = numbers.map(Number);
const OWN = 8; // tokens behind the prefix, others in each prompt

const promptOf = (own) => [
  ...Array.from({ length: prefix }, (_, k) => 200 + ((k * 7919) % 30_000)),
  ...Array.from({ length: OWN }, (_, k) => 200 + ((k * 31 + own * 1009) % 30_000)),
];
const short = promptOf(0).slice(-OWN);

async function milliseconds(run) {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

async function ours() {
  const { loadModel, createEngine, setThreads } = createRequire(import.meta.url)('../../dist/lib/index.js');
  setThreads(threads);
  const model = await loadModel(file);
  const engine = createEngine(model);
  let known = 0;
  const first = async (prompt) => {
    for await (const { cachedTokens } of engine.generate({ prompt, maxTokens: 1, minTokens: 1 })) known = cachedTokens;
  };
  await first(short);
  const times = [];
  for (const own of [1, 2]) times.push(await milliseconds(() => first(promptOf(own))));
  await engine.dispose();
  await model.dispose();
  return { times, known };
}

async function theirs() {
  const { llama } = await openLlama(dir, threads);
  const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
  const context = await model.createContext({
    contextSize: prefix + 256,
    batchSize: 512,
    threads: { ideal: threads, min: threads },
  });
  const sequence = context.getSequence();
  let known = 0;
  const first = async (prompt) => {
    await sequence.adaptStateToTokens(prompt);
    known = sequence.nextTokenIndex;
    const options = { temperature: 0, yieldEogToken: true };
    for await (const _ of sequence.evaluate(prompt.slice(known), options)) break;
  };
  await first(short);
  await sequence.clearHistory();
  const times = [];
  for (const own of [1, 2]) times.push(await milliseconds(() => first(promptOf(own))));
  return { times, known };
}

const results = { engine: await ours(), 'llama.cpp': await theirs() };
for (const [name, { times, known }] of Object.entries(results)) {
  const [a, b] = times;
  const share = ((100 * b) / a).toFixed(1);
  console.log(
    `${name}: first ${a.toFixed(0)} ms, second ${b.toFixed(1)} ms (${share} %), ${known} of ${prefix} tokens known`,
  );
}
process.exit(0);

// Run by test/stress/event-loop.test.ts: prints, as JSON, the milliseconds of processor time that the event loop's thread
// takes for calls whose work belongs on other threads.
const { readFileSync } = require('node:fs');
const { createModel, loadModel } = require('../../dist/lib/index.js');

const taken = () => Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ')[0]) / 1e6;
const times = {};

/** Least of several: a collection may fall into one of them. */
async function timed(name, work) {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 4; i++) {
    const before = taken();
    await work();
    least = Math.min(least, taken() - before);
  }
  times[name] = least;
}

(async () => {
  // 67 MB of state.
  const mamba = { model_type: 'mamba', vocab_size: 61, hidden_size: 512, num_hidden_layers: 8, state_size: 2048 };
  const recurrent = await createModel(mamba, { seed: 1 });
  const session = recurrent.createSession();
  await session.forward([1, 2, 3], { logits: 'none' });
  let saved;
  await timed('saveAsync', async () => {
    saved = await session.saveAsync();
  });
  await timed('restoreSessionAsync', async () => (await recurrent.restoreSessionAsync(saved)).dispose());
  saved = undefined;
  await recurrent.dispose();

  // 67 MB of one tensor.
  const llama = { model_type: 'llama', vocab_size: 65_536, hidden_size: 256, intermediate_size: 256 };
  const config = { ...llama, num_hidden_layers: 1, num_attention_heads: 4, tie_word_embeddings: true };
  const model = await createModel(config, { seed: 1 });
  const name = 'model.embed_tokens.weight';
  let table;
  await timed('getParameter', async () => {
    table = await model.getParameter(name);
  });
  await timed('setParameters', () => model.setParameters(new Map([[name, table]])));
  const all = await model.parameters();
  await timed('loadModel', async () => (await loadModel(all, { config })).dispose());
  for (const dtype of ['f32', 'bf16', 'q8_0', 'q4_0']) {
    let halves;
    await timed(`convert to ${dtype}`, async () => {
      halves = await table.convert(dtype);
    });
    await timed(`convert from ${dtype}`, () => halves.convert('f32'));
  }
  process.stdout.write(JSON.stringify(times));
})();

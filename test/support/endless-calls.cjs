// One call of each kind that may take long, for tests that end it in the middle: in a worker, or by a signal.
const { join } = require('node:path');

const VOCAB = 512;
const config = ({ width, layers }) => ({
  ...{ model_type: 'llama', vocab_size: VOCAB, hidden_size: width, intermediate_size: 2 * width },
  ...{ num_hidden_layers: layers, num_attention_heads: width / 32, num_key_value_heads: width / 64 },
});
const ids = (n) => Int32Array.from({ length: n }, (_, i) => (i * 7919 + 104729) % VOCAB);

/** By name: what makes (statespace, sizes) ready for calls, and then makes one that `signal` ends, where it takes one. */
const calls = {
  async loadModel({ loadModel }, { folder }) {
    return async (signal) => (await loadModel(folder, { signal })).dispose();
  },
  async createModel({ createModel }, sizes) {
    return async (signal) => (await createModel(config(sizes), { seed: 1, signal })).dispose();
  },
  async forward({ loadModel }, { folder, tokens }) {
    const session = (await loadModel(folder)).createSession();
    return (signal) => session.forward(ids(tokens), { logits: 'none', signal });
  },
  async forwardBatch({ loadModel }, { folder, tokens }) {
    const model = await loadModel(folder);
    const entries = () => [1, 2].map(() => ({ session: model.createSession(), tokens: ids(tokens) }));
    return (signal) => model.forwardBatch(entries(), { signal });
  },
  async generate({ loadModel }, { folder, tokens }) {
    const model = await loadModel(folder);
    return async (signal) => {
      for await (const _ of model.createSession().generate({ prompt: ids(tokens), maxTokens: 1e6, signal }));
    };
  },
  async engine({ loadModel, createEngine }, { folder, tokens }) {
    const engine = await createEngine(await loadModel(folder));
    return async (signal) => {
      for await (const _ of engine.generate({ tokens: ids(tokens), maxTokens: 1000, signal }));
    };
  },
  async train({ createTrainer, loadModel }, { folder, tokens }) {
    const trainer = createTrainer(await loadModel(folder, { dtype: 'f32' }));
    const length = Math.min(tokens, 2048);
    return (signal) => trainer.step({ ids: { data: ids(length), shape: [1, length] } }, { signal });
  },
  async quantize({ quantize }, { folder }) {
    const out = join(folder, `${process.pid}-${Math.random()}.gguf`);
    return (signal) => quantize(folder, out, { type: 'q4_K_M', signal });
  },
  async op({ ops, Tensor }, { tokens }) {
    const x = new Tensor(new Float32Array(tokens * 256).fill(0.01), [1, tokens, 4, 64]);
    return (signal) => ops.attention({ q: x, k: x, v: x }, { signal });
  },
};

/** The same of those that take no signal. */
const unsignalled = {
  async saveAsync({ loadModel }, { folder, tokens }) {
    const session = (await loadModel(folder)).createSession();
    await session.forward(ids(tokens), { logits: 'none' });
    return () => session.saveAsync();
  },
  async restoreSessionAsync({ loadModel }, { folder, tokens }) {
    const model = await loadModel(folder);
    const session = model.createSession();
    await session.forward(ids(tokens), { logits: 'none' });
    const snapshot = session.save();
    return async () => (await model.restoreSessionAsync(snapshot)).dispose();
  },
  async opSync({ ops, Tensor }, { tokens }) {
    const x = new Tensor(new Float32Array(tokens * 256).fill(0.01), [1, tokens, 4, 64]);
    return async () => void ops.attentionSync({ q: x, k: x, v: x });
  },
};

module.exports = { calls, unsignalled, config };

// Trains the model and the adapters of this folder, and asks transformers and peft about them:
//   STATESPACE_PYTHON=venv/bin/python node test/training/transformers/make.cjs [folder]
const { execFileSync } = require('node:child_process');
const { readFileSync, rmSync, writeFileSync } = require('node:fs');
const { join, resolve } = require('node:path');
const { createModel, createTrainer, loadModel, Tensor } = require('../../../dist/lib/index.js');

const folder = resolve(process.argv[2] ?? __dirname);
const CONFIG = {
  ...{ model_type: 'bamba', vocab_size: 40, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 2 },
  ...{ num_attention_heads: 2, num_key_value_heads: 1, attn_layer_indices: [1], tie_word_embeddings: true },
  ...{ mamba_n_heads: 4, mamba_d_head: 8, mamba_d_state: 8, mamba_n_groups: 1, mamba_expand: 2, mamba_d_conv: 4 },
  max_position_embeddings: 64,
};
const data = Int32Array.from({ length: 96 }, (_, i) => (7 * Math.floor(i / 24) + 3 * (i % 5)) % 40);
const batch = { ids: new Tensor(data, [4, 24]) };

async function main() {
  const model = await createModel(CONFIG, { seed: 3, device: 'cpu' });
  const trainer = createTrainer(model, { learningRate: 1e-2 });
  for (let i = 0; i < 20; i++) await trainer.step(batch);
  await model.setParameters(await trainer.parameters());
  await model.save(join(folder, 'model'));
  const base = await loadModel(join(folder, 'model'));
  // Of matrices, and of the table of embeddings that is the head as well.
  for (const [name, targets] of [
    ['adapters', ['in_proj', 'q_proj']],
    ['table', ['embed_tokens', 'o_proj']],
  ]) {
    const adapted = createTrainer(base, { learningRate: 3e-2, lora: { rank: 2, alpha: 4, targets } });
    for (let i = 0; i < 10; i++)
      await adapted.step({
        ids: new Tensor(
          data.map((id) => 39 - id),
          [4, 24],
        ),
      });
    await adapted.save(join(folder, name));
    await adapted.dispose();
    // What says where this was made is not kept.
    for (const file of ['trainer.json', 'optimizer.safetensors']) rmSync(join(folder, name, file));
    const config = join(folder, name, 'adapter_config.json');
    const { base_model_name_or_path: _, ...kept } = JSON.parse(readFileSync(config, 'utf8'));
    writeFileSync(config, `${JSON.stringify({ base_model_name_or_path: 'model', ...kept }, null, 2)}\n`);
  }
  for (const it of [trainer, base, model]) await it.dispose();
  const python = process.env.STATESPACE_PYTHON ?? 'python3';
  execFileSync(python, [join(__dirname, 'make.py'), folder], { stdio: ['ignore', 'inherit', 'inherit'] });
}

void main();

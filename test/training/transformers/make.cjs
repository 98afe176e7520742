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

/** What says where adapters were made is not kept. */
function clean(path) {
  for (const file of ['trainer.json', 'optimizer.safetensors']) rmSync(join(path, file));
  const config = join(path, 'adapter_config.json');
  const { base_model_name_or_path: _, ...kept } = JSON.parse(readFileSync(config, 'utf8'));
  writeFileSync(config, `${JSON.stringify({ base_model_name_or_path: 'model', ...kept }, null, 2)}\n`);
}

/** Adapters of single experts, which transformers holds in one parameter, and peft joins for some models only. */
async function experts() {
  const model = await createModel(
    {
      ...{ model_type: 'jamba', vocab_size: 40, hidden_size: 16, intermediate_size: 12, num_hidden_layers: 2 },
      ...{
        num_attention_heads: 2,
        num_key_value_heads: 1,
        attn_layer_period: 2,
        attn_layer_offset: 1,
        mamba_d_state: 8,
      },
      ...{ num_experts: 3, num_experts_per_tok: 2, expert_layer_period: 2, expert_layer_offset: 1, mamba_dt_rank: 2 },
    },
    { seed: 3, device: 'cpu' },
  );
  await model.save(join(folder, 'jamba/model'));
  const base = await loadModel(join(folder, 'jamba/model'));
  for (const [name, targets] of [
    ['all', ['gate_proj', 'up_proj', 'down_proj']],
    ['one', ['q_proj', 'up_proj']],
  ]) {
    const trainer = createTrainer(base, { learningRate: 3e-2, lora: { rank: 2, alpha: 5, targets } });
    for (let i = 0; i < 10; i++) await trainer.step(batch);
    await trainer.save(join(folder, 'jamba', name));
    await trainer.dispose();
    clean(join(folder, 'jamba', name));
  }
  for (const it of [base, model]) await it.dispose();
}

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
    clean(join(folder, name));
  }
  for (const it of [trainer, base, model]) await it.dispose();
  await experts();
  const python = process.env.STATESPACE_PYTHON ?? 'python3';
  execFileSync(python, [join(__dirname, 'make.py'), folder], { stdio: ['ignore', 'inherit', 'inherit'] });
}

void main();

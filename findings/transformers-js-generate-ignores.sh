#!/usr/bin/env bash
# @huggingface/transformers: top_p, min_p, num_beams and num_return_sequences are taken and not used, and a finished row of a batch writes on.
#
# Versions: @huggingface/transformers 4.3.2 (onnxruntime-node of its own), onnx 1.23.1 to make the model.
# Behaviour: sampling knows temperature and top_k. top_p is a documented setting of GenerationConfig, and nothing reads it; TopPLogitsWarper and
#   TopKLogitsWarper are exported, and have no code. num_beams > 1 keeps one beam, whose next token is the best one. Generation ends when every row has had the end
#   token; until then a row that had it gets the model's next tokens, where Python writes pad_token_id.
# Seen with a model that is a table of next tokens: of two tokens of 0.6 and 0.4, top_p 0.3 gives both in 60 steps, top_k 1 the first alone; TopPLogitsWarper in a logits_processor
#   throws "_call should be implemented in a subclass". num_beams 2 gives "2 4" of probability 0.15, where "3 10" has 0.4. num_return_sequences 2 gives one row. Of a
#   batch, 4 -> 5 (the end) goes on with 6 7 7 7 while the other row goes on; alone it stops at 5.
# Why it matters: published generation configs set top_p (0.8 to 0.95, with top_k 0 or 50): in Node the tail is sampled as well, and texts are worse for no
#   visible reason. Batched answers are followed by text that nobody asked for, as decode() with skip_special_tokens takes only the end token away.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages onnx==1.23.1 numpy==2.4.6
node_packages @huggingface/transformers@4.3.2

mkdir -p "$work/node/table/onnx"
"$python" - "$work/node/table" <<'PY'
import json, sys
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

vocabulary = 16
following = {1: {2: 0.6, 3: 0.4}, 2: {4: 0.25, 11: 0.25, 12: 0.25, 13: 0.25}, 3: {10: 1}, 4: {5: 1}, 5: {6: 1}, 6: {7: 1}, 7: {7: 1}, 8: {9: 1}, 9: {9: 1},
             14: {14: 0.6, 15: 0.4}, 15: {14: 0.6, 15: 0.4}}
table = np.full((vocabulary, vocabulary), -40, np.float32)
for token, row in following.items():
    for after, probability in row.items():
        table[token, after] = np.log(probability)
graph = helper.make_graph(
    [helper.make_node("Gather", ["table", "input_ids"], ["logits"])], "table",
    [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", vocabulary])],
    [numpy_helper.from_array(table, "table")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), sys.argv[1] + "/onnx/model.onnx")
ids = dict(bos_token_id=1, eos_token_id=5, pad_token_id=0)
config = dict(ids, model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=vocabulary, hidden_size=8, num_hidden_layers=1,
              num_attention_heads=1, num_key_value_heads=1, head_dim=8)
json.dump(config, open(sys.argv[1] + "/config.json", "w"))
json.dump(ids, open(sys.argv[1] + "/generation_config.json", "w"))
PY
cat >"$work/node/generate.mjs" <<'JS'
import { AutoModelForCausalLM, env, LogitsProcessorList, Tensor, TopPLogitsWarper } from '@huggingface/transformers';

env.allowRemoteModels = false;
env.localModelPath = process.cwd();
const model = await AutoModelForCausalLM.from_pretrained('table', { dtype: 'fp32' });
async function generate(rows, options) {
  const shape = [rows.length, rows[0].length];
  const input_ids = new Tensor('int64', BigInt64Array.from(rows.flat().map(BigInt)), shape);
  const attention_mask = new Tensor('int64', new BigInt64Array(rows.flat().length).fill(1n), shape);
  return (await model.generate({ input_ids, attention_mask, ...options })).tolist().map((row) => row.map(Number).join(' '));
}
const kinds = (row) => [...new Set(row.split(' '))].sort().join(' ');
const sampled = { do_sample: true, max_new_tokens: 60 };
const warpers = new LogitsProcessorList();
warpers.push(new TopPLogitsWarper(0.3));
const seen = {
  topP: kinds((await generate([[14]], { ...sampled, top_k: 0, top_p: 0.3 }))[0]),
  minP: kinds((await generate([[14]], { ...sampled, top_k: 0, min_p: 0.9 }))[0]),
  topK: kinds((await generate([[14]], { ...sampled, top_k: 1 }))[0]),
  warper: await generate([[14]], { ...sampled, logits_processor: warpers }).then(String, (error) => error.message),
  beams: (await generate([[1]], { num_beams: 2, max_new_tokens: 2 })).join('; '),
  returned: (await generate([[14]], { ...sampled, num_return_sequences: 2 })).length,
  batch: (await generate([[4], [8]], { max_new_tokens: 5 })).join('; '),
  alone: (await generate([[4]], { max_new_tokens: 5 })).join('; '),
};
console.log(seen);
const holds =
  seen.topP === '14 15' &&
  seen.minP === '14 15' &&
  seen.topK === '14' &&
  /should be implemented in a subclass/.test(seen.warper) &&
  /^1 2 \d+$/.test(seen.beams) &&
  seen.returned === 1 &&
  seen.batch === '4 5 6 7 7 7; 8 9 9 9 9 9' &&
  seen.alone === '4 5';
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node generate.mjs)

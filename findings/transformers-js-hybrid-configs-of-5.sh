#!/usr/bin/env bash
# @huggingface/transformers (JavaScript) finds no states in a Granite-hybrid or Nemotron-H config that transformers 5 (Python) wrote.
#
# Versions: @huggingface/transformers 4.3.2, transformers 5.18.0 (Python), onnx 1.23.1 to make the models.
# Behaviour: getCacheNames() of these two families looks for layers called "mamba" and "attention". transformers 5 writes "linear_attention" and
#   "full_attention", whatever words a config was made with, so that no layer has a state: none is fed, and the model is not run.
# Seen with ONNX models of one layer of each kind: "Missing the following inputs: past_conv.0, past_ssm.0, past_key_values.1.key, past_key_values.1.value" for both; the
#   same models beside the same config with the words of transformers 4 generate. olmo_hybrid, whose layers are looked for by the new words, generates.
# Why it matters: an export made today of a Granite 4 or Nemotron-H fine-tune does not run in JavaScript, and the message speaks of inputs that the user never gives;
#   the remedy is two words in config.json.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 onnx==1.23.1 numpy
node_packages @huggingface/transformers@4.3.2

"$python" - "$work/node" <<'PY'
import json, os, sys
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from transformers import AutoConfig

common = dict(vocab_size=8, hidden_size=8, num_attention_heads=1, num_key_value_heads=1, intermediate_size=8, pad_token_id=0, bos_token_id=1, eos_token_id=7)
mixer = dict(mamba_n_heads=2, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=4)
layers = ["linear_attention", "full_attention"]
configs = {
    "granitemoehybrid": dict(common, num_hidden_layers=2, layer_types=layers, **mixer),
    "nemotron_h": dict(common, layers_block_type=layers, mamba_num_heads=2, mamba_head_dim=8, n_groups=1, ssm_state_size=4, head_dim=8),
    "olmo_hybrid": dict(common, num_hidden_layers=2, layer_types=layers, linear_key_head_dim=4, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=2),
}
states = {
    "olmo_hybrid": {"past_conv.0.query": (8, 4), "past_conv.0.key": (8, 4), "past_conv.0.value": (16, 4), "past_recurrent.0": (2, 4, 8)},
}
def model_of(kind):
    """The next token is the one after; every state that the layers have goes in and comes out as it was."""
    names = dict(states.get(kind, {"past_conv.0": (24, 4), "past_ssm.0": (2, 8, 4)}), **{"past_key_values.1.key": (1, "past", 8), "past_key_values.1.value": (1, "past", 8)})
    out = {name: name.replace("past_key_values", "present").replace("past_", "present_") for name in names}
    table = np.eye(8, dtype=np.float32)[[1, 2, 3, 4, 5, 6, 7, 7]]
    info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", length]) for name, length in (("input_ids", "length"), ("attention_mask", "all"))]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["logits"])] + [helper.make_node("Identity", [name], [out[name]]) for name in names], kind,
        ids + [info(name, shape) for name, shape in names.items()],
        [info("logits", ("length", 8))] + [info(out[name], shape) for name, shape in names.items()],
        [numpy_helper.from_array(table, "table")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

for kind, settings in configs.items():
    folder = f"{sys.argv[1]}/{kind}"
    AutoConfig.for_model(kind, **settings).save_pretrained(folder)
    written = json.load(open(f"{folder}/config.json"))
    print(kind, "as written:", {key: written[key] for key in ("layer_types", "layers_block_type", "num_hidden_layers") if key in written})
    former = dict(written)
    key = "layers_block_type" if kind == "nemotron_h" else "layer_types"
    former[key] = [{"linear_attention": "mamba", "full_attention": "attention"}[layer] for layer in written[key]]
    for name, config in ((kind, written), (f"{kind}-4", former)):
        os.makedirs(f"{sys.argv[1]}/{name}/onnx", exist_ok=True)
        json.dump(config, open(f"{sys.argv[1]}/{name}/config.json", "w"))
        onnx.save(model_of(kind), f"{sys.argv[1]}/{name}/onnx/model.onnx")
PY
cat >"$work/node/generate.mjs" <<'JS'
import { AutoModelForCausalLM, env, Tensor } from '@huggingface/transformers';

env.allowRemoteModels = false;
env.localModelPath = process.cwd();
const seen = {};
for (const name of ['granitemoehybrid', 'granitemoehybrid-4', 'nemotron_h', 'nemotron_h-4', 'olmo_hybrid']) {
  try {
    const model = await AutoModelForCausalLM.from_pretrained(name, { dtype: 'fp32' });
    const ids = (data) => new Tensor('int64', BigInt64Array.from(data), [1, data.length]);
    const tokens = await model.generate({ input_ids: ids([1n, 2n]), attention_mask: ids([1n, 1n]), max_new_tokens: 3 });
    seen[name] = tokens.tolist()[0].map(Number).join(' ');
  } catch (error) {
    seen[name] = error.message.slice(0, 200);
  }
}
console.log(seen);
const missing = /Missing the following inputs: past_conv\.0, past_ssm\.0, past_key_values\.1\.key, past_key_values\.1\.value/;
const holds =
  missing.test(seen.granitemoehybrid) &&
  missing.test(seen.nemotron_h) &&
  ['granitemoehybrid-4', 'nemotron_h-4', 'olmo_hybrid'].every((name) => seen[name] === '1 2 3 4 5');
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node generate.mjs)

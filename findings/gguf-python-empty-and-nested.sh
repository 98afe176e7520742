#!/usr/bin/env bash
# gguf-py leaves keys with an empty string or list out of a file without a word, and reads a list of lists as one list.
#
# Versions: gguf 0.19.0 (Python), @huggingface/gguf 0.4.6 (JavaScript).
# Behaviour: GGUFWriter.add_string() and add_array() return at once where the value is empty, while add_key_value() with an empty list raises "Empty array" as the file is written.
#   GGUFReader's contents() of nested arrays joins what lies inside.
# Seen: of a name "", a list [] and [[1, 2], [3]] the file has the last alone; Python reads it as [1, 2, 3], JavaScript as [[1, 2], [3]].
# Why it matters: "no chat template", a separator that is empty, a tokenizer without merges or an empty list of tags cannot be told from "not known", and readers take their
#   default. Copying a file's metadata by reader and writer changes it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages gguf==0.19.0
node_packages @huggingface/gguf@0.4.6

"$python" - "$work/node" <<'PY'
import json, sys
from gguf import GGUFReader, GGUFValueType, GGUFWriter

def writer(name):
    return GGUFWriter(f"{sys.argv[1]}/{name}.gguf", "mamba")

def finish(some):
    some.write_header_to_file()
    some.write_kv_data_to_file()
    some.write_tensors_to_file()
    some.close()

file = writer("empty")
file.add_string("name", "")
file.add_array("list", [])
file.add_array("nested", [[1, 2], [3]])
finish(file)
fields = GGUFReader(f"{sys.argv[1]}/empty.gguf").fields
read = {key: field.contents() for key, field in fields.items() if not key.startswith(("GGUF.", "general."))}
file = writer("explicit")
file.add_key_value("list", [], GGUFValueType.ARRAY, sub_type=GGUFValueType.INT32)
try:
    finish(file)
    raised = ""
except ValueError as error:
    raised = str(error)
print("Python reads", read, " add_key_value:", raised)
json.dump({"read": read, "raised": raised}, open(sys.argv[1] + "/python.json", "w"))
PY
cat >"$work/node/read.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { gguf } from '@huggingface/gguf';

const { read, raised } = JSON.parse(readFileSync('python.json', 'utf8'));
const { metadata } = await gguf('empty.gguf', { allowLocalFile: true });
const { version, tensor_count, kv_count, 'general.architecture': _, ...rest } = metadata;
console.log('JavaScript reads', JSON.stringify(rest));
const holds =
  JSON.stringify(read) === '{"nested":[1,2,3]}' && JSON.stringify(rest) === '{"nested":[[1,2],[3]]}' && /Empty array/.test(raised);
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node read.mjs)

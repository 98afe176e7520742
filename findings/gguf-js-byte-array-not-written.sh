#!/usr/bin/env bash
# @huggingface/gguf reads arrays of bytes and of arrays, and cannot write them back: no edit of a Unigram model's metadata.
#
# Versions: @huggingface/gguf 0.4.6, gguf 0.19.0 (Python).
# Behaviour: serializeGgufMetadata() and buildGgufHeader() take what gguf() read. For an array they ask `if (!subType)`, and the number of UINT8 is
#   0, so that it counts as missing. Elements that are arrays are written without a type of their own, which reading did not keep either.
# Seen: "Array type requires subType to be specified" for [1, 2, 3] as UINT8 and for [[1, 2], [3]]; the same numbers as INT8 or INT32 make a header that
#   reads back the same. Python writes all four.
# Why it matters: `tokenizer.ggml.precompiled_charsmap` of every T5, XLM-R and other Unigram model is an array of UINT8: renaming such a model or
#   giving it a chat template in the browser fails, and the message names neither key nor remedy.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages gguf==0.19.0
node_packages @huggingface/gguf@0.4.6

"$python" - "$work/node" <<'PY'
import sys
from gguf import GGUFValueType, GGUFWriter

def write(name, value, kind):
    writer = GGUFWriter(f"{sys.argv[1]}/{name}.gguf", "t5")
    writer.add_key_value("numbers", value, GGUFValueType.ARRAY, sub_type=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

write("UINT8", [1, 2, 3], GGUFValueType.UINT8)
write("INT8", [1, 2, 3], GGUFValueType.INT8)
write("INT32", [1, 2, 3], GGUFValueType.INT32)
write("ARRAY", [[1, 2], [3]], GGUFValueType.ARRAY)
PY
cat >"$work/node/write.mjs" <<'JS'
import { writeFileSync } from 'node:fs';
import { gguf, serializeGgufMetadata } from '@huggingface/gguf';

const expected = { UINT8: 'Array type requires subType', INT8: '[1,2,3]', INT32: '[1,2,3]', ARRAY: 'Array type requires subType' };
for (const [kind, outcome] of Object.entries(expected)) {
  const options = { allowLocalFile: true, typedMetadata: true };
  const { metadata, typedMetadata } = await gguf(`${kind}.gguf`, options);
  let again;
  try {
    writeFileSync('again.gguf', serializeGgufMetadata(typedMetadata));
    again = JSON.stringify((await gguf('again.gguf', options)).metadata.numbers);
  } catch (error) {
    again = error.message;
  }
  console.log(kind, 'read:', JSON.stringify(metadata.numbers), ' written and read:', again);
  if (!again.startsWith(outcome)) process.exitCode = 1;
}
JS
(cd "$work/node" && node write.mjs)

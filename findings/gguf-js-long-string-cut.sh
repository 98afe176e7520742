#!/usr/bin/env bash
# @huggingface/gguf cuts a long string of the metadata off without a word, or loses its place behind it.
#
# Versions: @huggingface/gguf 0.4.6, gguf 0.19.0 (Python).
# Behaviour: the file is read in pieces of 2 MB, and the next piece is fetched when reading a number runs over the end (RangeError). A string's bytes are
#   taken with ArrayBuffer.slice(), which does not throw but gives less. Reading goes on behind the full length.
# Seen: a string of 2.5 million bytes comes back with 1,999,885 characters, and keys, tensors and parameter count behind it are right; one of 5 million ends in
#   "Offset is outside the bounds of the DataView". Python reads both. buildGgufHeader() on what was read writes the short string: the new header is
#   500,096 bytes shorter, still a valid one.
# Why it matters: `tokenizer.huggingface.json`, a key of the GGUF specification, holds a whole tokenizer.json (2 to 10 MB): a reader gets half a
#   JSON text, and a tool that edits another key in place destroys it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages gguf==0.19.0
node_packages @huggingface/gguf@0.4.6

"$python" - "$work/node" <<'PY'
import sys
import numpy as np
from gguf import GGUFReader, GGUFWriter

for length in (1_400_000, 2_500_000, 5_000_000):
    path = f"{sys.argv[1]}/{length}.gguf"
    writer = GGUFWriter(path, "mamba")
    writer.add_string("tokenizer.huggingface.json", "abcdefgh" * (length // 8))
    writer.add_string("general.name", "behind it")
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert len(GGUFReader(path).fields["tokenizer.huggingface.json"].contents()) == length
PY
cat >"$work/node/read.mjs" <<'JS'
import { openAsBlob } from 'node:fs';
import { buildGgufHeader, gguf } from '@huggingface/gguf';

const seen = [];
for (const length of [1_400_000, 2_500_000, 5_000_000]) {
  try {
    const file = `${length}.gguf`;
    const read = await gguf(file, { allowLocalFile: true, typedMetadata: true, computeParametersCount: true });
    const { [`tokenizer.huggingface.json`]: text, [`general.name`]: name } = read.metadata;
    const header = await buildGgufHeader(await openAsBlob(file), read.typedMetadata, {
      littleEndian: true,
      tensorInfoByteRange: read.tensorInfoByteRange,
    });
    seen.push({ length, read: text.length, name, parameters: read.parameterCount, headerGrew: header.size - Number(read.tensorDataOffset) });
  } catch (error) {
    seen.push({ length, error: error.constructor.name });
  }
  console.log(seen.at(-1));
}
const [short, middle, long] = seen;
process.exitCode =
  short.read === short.length &&
  middle.read < 2_000_000 &&
  middle.name === 'behind it' &&
  middle.parameters === 64 &&
  middle.headerGrew < -500_000 &&
  long.error === 'RangeError'
    ? 0
    : 1;
JS
(cd "$work/node" && node read.mjs)

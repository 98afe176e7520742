#!/usr/bin/env bash
# llama.cpp's unigram tokenizer passes over tokens of bytes and add_space_prefix: unknown letters are lost as <unk>, and a space stands in front where the file asks for none.
#
# Versions: node-llama-cpp 3.22.1 (its prebuilt llama.cpp), gguf 0.19.0, sentencepiece 0.2.2.
# Behaviour: of a file with tokenizer.ggml.model "t5", tokens of bytes (sentencepiece's byte_fallback) are read and not used: a letter without a token is <unk>. add_space_prefix = false makes no difference. Behind a user-defined symbol within a
#   word a space is put that is not there. remove_extra_whitespaces and the table of characters are followed.
# Seen, 6 texts, ids other than sentencepiece's: defaults 0, identity and kept spaces 0, nmt_nfkc_cf 0; byte_fallback 3 (▁a|▁|c|a|f|<0xC3>|<0xA9> is ▁a|▁|c|a|f|<unk>), no space in front 6, symbols 1 (with the symbol "el r",
#   "the model runs", ▁the|▁model|▁runs, is ▁the|▁|m|o|d|el r|▁|u|n|s).
# Why it matters: what is not in the vocabulary (ideographs, accents) reaches the model as one and the same token instead of its bytes, and nobody can ask it about the word; with a space too many the first word of every prompt is
#   another token. Files of T5 and XLM-R, with a space in front and without bytes, are right, so that tests on these show nothing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages sentencepiece==0.2.2 protobuf gguf==0.19.0
node_packages node-llama-cpp@3.22.1

"$python" - "$work" <<'PY'
import base64, io, json, sys
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

words = "the model runs and the state of a model is kept while it reads text , so that models of state and attention read the rest of a text faster than others".split()
lines = [" ".join(words[(start * step) % len(words)] for start in range(6)) + "." for step in range(1, 30)] + ["a cafe in the north", "The State runs"]
texts = ["the model runs", "a café", "The State of the model", "reads 東京 text", "state and attention.", "naïve models"]
kinds = {
    "defaults": ({}, 0),
    "identity, spaces kept": (dict(normalization_rule_name="identity", remove_extra_whitespaces=False), 0),
    "nmt_nfkc_cf": (dict(normalization_rule_name="nmt_nfkc_cf"), 0),
    "byte_fallback": (dict(byte_fallback=True), None),
    "no space in front": (dict(add_dummy_prefix=False), None),
    "symbols": (dict(user_defined_symbols=["el r"]), None),
}
cases = []
for kind, (settings, expected) in kinds.items():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=330 if "byte_fallback" in settings else 75, model_type="unigram",
        hard_vocab_limit=False, minloglevel=2, **settings)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    rules = proto.normalizer_spec
    file = {
        "model": "t5", "tokens": [piece.piece for piece in proto.pieces], "scores": [piece.score for piece in proto.pieces], "token_type": [piece.type for piece in proto.pieces],
        "unknown_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "add_bos_token": False, "add_eos_token": False,
        "add_space_prefix": rules.add_dummy_prefix, "remove_extra_whitespaces": rules.remove_extra_whitespaces,
    }
    if rules.precompiled_charsmap:
        file["charsmap"] = base64.b64encode(rules.precompiled_charsmap).decode()
    json.dump(file, open(f"{sys.argv[1]}/vocabulary.{len(cases)}.json", "w"))
    cases.append([kind, file["tokens"], [[text, list(processor.encode(text))] for text in texts], expected])
json.dump(cases, open(f"{sys.argv[1]}/node/cases.json", "w"))
PY
for file in "$work"/vocabulary.*.json; do
  number=${file%.json}
  small_mamba_gguf "$work/node/${number##*.}.gguf" "$file"
done

cat >"$work/node/ids.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { getLlama } from 'node-llama-cpp';

const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: 1 });
let holds = true;
for (const [number, [kind, words, texts, none]] of JSON.parse(readFileSync('cases.json', 'utf8')).entries()) {
  const model = await llama.loadModel({ modelPath: `${number}.gguf`, gpuLayers: 0 });
  const wrong = texts.map(([text, right]) => [text, right, [...model.tokenize(text)]]).filter(([, right, ids]) => right.join() !== ids.join());
  console.log(`# ${kind}: ${wrong.length} of ${texts.length} differ`);
  for (const [text, right, ids] of wrong.slice(0, 2)) {
    console.log(`#   ${text}: ${right.map((id) => words[id]).join('|')}, llama.cpp ${ids.map((id) => words[id]).join('|')}`);
  }
  holds &&= none === 0 ? wrong.length === 0 : wrong.length > 0;
}
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node ids.mjs 2>/dev/null | sed -n 's/^# //p')

#!/usr/bin/env bash
# @huggingface/tokenizers does not read the table of characters of a unigram tokenizer (Precompiled): every table is taken for NFKC, so that case-folding ones leave capitals and own rules are not applied.
#
# Versions: @huggingface/tokenizers 0.2.0 (JavaScript), tokenizers 0.23.2 and sentencepiece 0.2.2 (Python).
# Behaviour: sentencepiece writes its rules into the model, and tokenizer.json has them as precompiled_charsmap. JavaScript leaves the bytes alone and does what the table of XLM-R and T5 (nmt_nfkc) does, by String.prototype.normalize.
# Seen, 6 texts, ids as sentencepiece's: nmt_nfkc 6 in Python and 6 in JavaScript; nmt_nfkc_cf 6 and 3 ("The State" is ▁the|▁state against ▁|<unk>|he|▁|<unk>|t|a|t|e); rules of one's own (a dash to " - ", A to a) 6 and 4: "x²" is
#   ▁|x|<unk> in Python and ▁|x|2 in JavaScript, and the dash keeps no spaces.
# Why it matters: models that were trained with nmt_nfkc_cf or with rules of their own (--normalization_rule_tsv) get unknown tokens for each capital letter from Node and the browser, without a word; with the usual table all is right, so tests on
#   XLM-R and T5 pass.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages sentencepiece==0.2.2 protobuf tokenizers==0.23.2
node_packages @huggingface/tokenizers@0.2.0

"$python" - "$work" <<'PY'
import io, json, sys
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

work = sys.argv[1]
lines = ["the state of the model", "a state and the other one", "all of it is read", "x2 and one half", "hello world", "abc abc"] * 3
texts = ["The State", "hello WORLD", "ＡＢＣ and abc", "x² ½", "a state—the other", "the state of the model"]
open(f"{work}/rules.tsv", "w").write("41\t61\n2014\t20 2D 20\n")
kinds = {"nmt_nfkc": dict(normalization_rule_name="nmt_nfkc"), "nmt_nfkc_cf": dict(normalization_rule_name="nmt_nfkc_cf"), "rules of one's own": dict(normalization_rule_tsv=f"{work}/rules.tsv")}
cases = []
for kind, settings in kinds.items():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, vocab_size=60, model_type="unigram", hard_vocab_limit=False, minloglevel=2, **settings)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in proto.pieces], unk_id=0))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    cases.append([kind, tokenizer.to_str(), [[text, list(processor.encode(text)), tokenizer.encode(text).ids] for text in texts]])
json.dump(cases, open(f"{work}/node/cases.json", "w"))
PY

cat >"$work/node/ids.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';

let holds = true;
for (const [kind, file, texts] of JSON.parse(readFileSync('cases.json', 'utf8'))) {
  const json = JSON.parse(file);
  const tokenizer = new Tokenizer(json, {});
  const words = (ids) => ids.map((id) => json.model.vocab[id][0]).join('|');
  const python = texts.filter(([, right, ids]) => ids.join() === right.join()).length;
  const wrong = texts.filter(([text, right]) => tokenizer.encode(text).ids.join() !== right.join());
  console.log(`${kind}: of ${texts.length} texts Python has ${python} right, JavaScript ${texts.length - wrong.length}`);
  for (const [text, right] of wrong) console.log(`  ${text}: ${words(right)}, JavaScript ${words(tokenizer.encode(text).ids)}`);
  holds &&= python === texts.length && (kind === 'nmt_nfkc' ? wrong.length === 0 : wrong.length >= 2);
}
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node ids.mjs)

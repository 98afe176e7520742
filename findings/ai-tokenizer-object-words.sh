#!/usr/bin/env bash
# ai-tokenizer takes the words of every JavaScript object for tokens: "constructor" becomes a function among the ids; allowedSpecial "all" allows none.
#
# Versions: ai-tokenizer 1.0.6, tiktoken 1.0.22.
# Behaviour: vocabularies are plain objects, asked by vocabulary[piece]. A piece that is no token of the encoding and is a name on Object.prototype finds the method. encode(text, "all") reads the text as if there were no special tokens, where
#   tiktoken reads all of them; a list of their names works.
# Seen: p50k_base, "a.constructor()" is [64, 13, Object, 3419], 4 tokens, decoded as "a.()" (right: [64, 13, 41571, 273, 3419]); toString, valueOf, x.hasOwnProperty and isPrototypeOf alike; cl100k_base isPrototypeOf; o200k_base
#   none. encode("hi<|endoftext|>", "all") has 8 ids of text, right are 2.
# Why it matters: prompts of code hold these words. Ids go to JSON as null, counts are too low by the word's tokens, and decode() leaves the word out; nothing is raised. A prompt with the model's own marks is counted, and sent, as
#   text about marks.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages ai-tokenizer@1.0.6 tiktoken@1.0.22

cat >"$work/node/words.mjs" <<'JS'
import { Tokenizer } from 'ai-tokenizer';
import * as cl100k from 'ai-tokenizer/encoding/cl100k_base';
import * as o200k from 'ai-tokenizer/encoding/o200k_base';
import * as p50k from 'ai-tokenizer/encoding/p50k_base';
import { get_encoding } from 'tiktoken';

const texts = ['a.constructor()', 'toString', 'valueOf', 'x.hasOwnProperty', 'isPrototypeOf', 'a.length()'];
const wrong = {};
for (const [name, encoding] of Object.entries({ p50k_base: p50k, cl100k_base: cl100k, o200k_base: o200k })) {
  const here = new Tokenizer(encoding);
  const reference = get_encoding(name);
  wrong[name] = [];
  for (const text of texts) {
    const ids = here.encode(text);
    const right = [...reference.encode(text)];
    if (JSON.stringify(ids) === JSON.stringify(right)) continue;
    wrong[name].push(text);
    console.log(`${name}: ${JSON.stringify(text)} is ${JSON.stringify(ids)} of types ${ids.map((id) => typeof id)}, counted ${here.count(text)}, decoded ${JSON.stringify(here.decode(ids))}; right is ${JSON.stringify(right)}`);
  }
  console.log(`${name}: ${wrong[name].length} of ${texts.length} texts wrong`);
}
const marked = 'hi<|endoftext|>';
const here = new Tokenizer(cl100k);
const all = here.encode(marked, 'all');
const named = here.encode(marked, ['<|endoftext|>']);
const right = [...get_encoding('cl100k_base').encode(marked, 'all')];
console.log(`cl100k_base, ${marked}: allowedSpecial "all" ${JSON.stringify(all)}, by name ${JSON.stringify(named)}, tiktoken "all" ${JSON.stringify(right)}`);
const expected = { p50k_base: texts.slice(0, 5), cl100k_base: ['isPrototypeOf'], o200k_base: [] };
const holds =
  JSON.stringify(wrong) === JSON.stringify(expected) &&
  new Tokenizer(p50k).encode('toString').some((id) => typeof id === 'function') &&
  JSON.stringify(named) === JSON.stringify(right) &&
  JSON.stringify(all) !== JSON.stringify(right);
process.exitCode = holds ? 0 : 1;
JS
(cd "$work/node" && node words.mjs)

#!/usr/bin/env bash
# gpt-tokenizer cannot write the tokens that begin with U+FEFF: a C# file starts with three tokens where the model knows one.
#
# Versions: gpt-tokenizer 4.0.0; tiktoken 1.0.22 (npm) beside it.
# Behaviour: the vocabularies keep what is text as strings, and a string that is made of bytes loses a leading byte order mark; so
#   the entries that begin with one are never found.
# Seen: o200k_base has 9 such tokens, cl100k_base 8 ("\ufeffusing", "\ufeffnamespace", "\ufeff//", "\ufeff#", ...). Encoded, each of them is one id in tiktoken, and
#   two to four in gpt-tokenizer: "\ufeffusing System;" begins with 9251 there, and with 5416 123 1846 here. decode() of the right ids is right.
# Why it matters: Visual Studio writes this mark in front of every source file. Counts are too high, and ids that go to a model
#   itself are a sequence that it has never seen at the place where each such file begins.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages gpt-tokenizer@4.0.0 tiktoken@1.0.22

cat >"$work/node/marks.mjs" <<'JS'
import { encode as cl100k } from 'gpt-tokenizer/encoding/cl100k_base';
import { encode as o200k } from 'gpt-tokenizer/encoding/o200k_base';
import { get_encoding } from 'tiktoken';

const text = new TextDecoder('utf-8', { ignoreBOM: true });
let holds = true;
for (const [name, encode, size, expected] of [['o200k_base', o200k, 199998, 9], ['cl100k_base', cl100k, 100256, 8]]) {
  const encoding = get_encoding(name);
  const tokens = [];
  for (let id = 0; id < size; id++) {
    const bytes = encoding.decode_single_token_bytes(id);
    if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) tokens.push([id, text.decode(bytes)]);
  }
  const whole = tokens.filter(([id, token]) => encoding.encode(token).join() === `${id}`).length;
  const found = tokens.filter(([id, token]) => encode(token).join() === `${id}`).length;
  const source = '\ufeffusing System;';
  const [right, here] = [encoding.encode(source).join(' '), encode(source).join(' ')];
  const without = encode(source.slice(1)).join() === encoding.encode(source.slice(1)).join();
  console.log(`${name}: ${tokens.length} tokens begin with the mark; tiktoken writes ${whole} of them, gpt-tokenizer ${found}`);
  console.log(`  ${JSON.stringify(source)}: ${right} in tiktoken, ${here} in gpt-tokenizer; the same without the mark: ${without}`);
  holds &&= tokens.length === expected && whole === expected && found === 0 && right !== here && without;
}
process.exitCode = holds ? 0 : 1;
JS
(cd "$work/node" && node marks.mjs)

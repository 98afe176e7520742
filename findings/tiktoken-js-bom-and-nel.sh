#!/usr/bin/env bash
# The JavaScript ports of tiktoken disagree with it, and with each other, about a byte order mark and U+0085.
#
# Versions: tiktoken 1.0.22 (the Rust code as WebAssembly), js-tiktoken 1.0.21, gpt-tokenizer 4.0.0; the same ranks in all.
# Behaviour: the patterns that part a text speak of \s. For Rust U+0085 is white space and U+FEFF is not; for a JavaScript regular expression it is the other way
#   round. gpt-tokenizer's tables lost each token whose text begins with U+FEFF besides, as TextDecoder drops a byte order mark.
# Seen with cl100k_base and o200k_base: "\uFEFFusing System;" is 3 tokens in tiktoken and js-tiktoken, 5 in gpt-tokenizer, which has no one token for U+FEFF. "  \uFEFF",
#   "\uFEFF//", "  \u0085" and "\u0085's" are other ids in both ports. Of the characters below U+0880 in such places no other differs. decode() of js-tiktoken drops a
#   U+FEFF in front: that of the one token is "".
# Why it matters: files written on Windows begin with U+FEFF, and texts from EBCDIC hosts hold U+0085; ids that were counted, cut or cached in Node are not
#   those of the model's own tokenizer. A port has to spell \s out, and to keep its tables as bytes.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages tiktoken@1.0.22 js-tiktoken@1.0.21 gpt-tokenizer@4.0.0

cat >"$work/node/ids.mjs" <<'JS'
import * as cl100k_base from 'gpt-tokenizer/encoding/cl100k_base';
import * as o200k_base from 'gpt-tokenizer/encoding/o200k_base';
import { getEncoding } from 'js-tiktoken';
import { get_encoding } from 'tiktoken';

const ports = { cl100k_base, o200k_base };
const texts = ['plain text', '\ufeffusing System;', '\ufeff', '  \ufeff', '\ufeff//', '  \u0085', "\u0085's"];
let holds = true;
for (const [name, port] of Object.entries(ports)) {
  const rust = get_encoding(name);
  const js = getEncoding(name);
  const different = { js: new Set(), gpt: new Set() };
  const ids = (text) => ({ rust: `${rust.encode(text)}`, js: `${js.encode(text)}`, gpt: `${port.encode(text)}` });
  const agree = {};
  for (const text of texts) {
    const all = ids(text);
    console.log(name, JSON.stringify(text).replace('\ufeff', '\\ufeff').replace('\u0085', '\\u0085'), all);
    agree[text] = `${all.js === all.rust},${all.gpt === all.rust}`;
  }
  for (let code = 0; code < 0x880; code++) {
    const character = String.fromCharCode(code);
    const all = ids(`a${character}1  ${character}B ${character}'s`);
    if (all.js !== all.rust) different.js.add(code.toString(16));
    if (all.gpt !== all.rust) different.gpt.add(code.toString(16));
  }
  console.log(name, 'different below U+0880:', different);
  holds &&=
    agree['plain text'] === 'true,true' &&
    agree['\ufeff'] === 'true,false' &&
    ['  \ufeff', '\ufeff//', '  \u0085', "\u0085's"].every((text) => agree[text] === 'false,false') &&
    js.decode(js.encode('\ufeff')) === '' &&
    js.decode(js.encode('\ufeffusing')) === 'using' &&
    new TextDecoder('utf-8', { ignoreBOM: true }).decode(rust.decode(rust.encode('\ufeffusing'))) === '\ufeffusing' &&
    agree['\ufeffusing System;'] === 'true,false' &&
    [...different.js].join() === '85' &&
    [...different.gpt].join() === '85';
}
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node ids.mjs)

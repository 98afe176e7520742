#!/usr/bin/env bash
# gpt-tokenizer decodes all texts of a process with one decoder: half a character of one answer comes out in the next one.
#
# Versions: gpt-tokenizer 4.0.0; js-tiktoken 1.0.21 beside it.
# Behaviour: tokens that are whole characters are kept as strings and added as such; bytes go through one TextDecoder of the module with stream: true, which
#   keeps what is no whole character yet, and is never told that a text ends.
# Seen with o200k_base: decode() of the first of 4 tokens of U+13000 is "", and decode() of all 4 is then U+FFFD and the character; so it is between two
#   encodings (cl100k_base). Ids of [half a character, "hello", all of U+13000] give "hello", U+FFFD, the character: the replacement stands behind the word that
#   it stood before. js-tiktoken has U+FFFD where it belongs, each time. The first byte order mark of the process is dropped, later ones are not.
# Why it matters: an answer that was cut by max_tokens within an emoji or a rare script, or tokens that are shown one by one, leave bytes for the next request's
#   text in the same process, whoever asks for it; a test that decodes in another order passes.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages gpt-tokenizer@4.0.0 js-tiktoken@1.0.21

cat >"$work/node/decode.mjs" <<'JS'
import * as cl100k_base from 'gpt-tokenizer/encoding/cl100k_base';
import * as o200k_base from 'gpt-tokenizer/encoding/o200k_base';
import { getEncoding } from 'js-tiktoken';

const other = getEncoding('o200k_base');
const rare = '\u{13000}';
const ids = other.encode(rare);
const hello = other.encode('hello');
const mark = '\ufeff and so on';
const texts = (tokenizer) => ({
  half: tokenizer.decode(ids.slice(0, 1)),
  thenWhole: tokenizer.decode(ids),
  again: tokenizer.decode(ids),
  mixed: tokenizer.decode([...ids.slice(0, 1), ...hello, ...ids]),
});
const marks = [cl100k_base.decode(cl100k_base.encode(mark)), cl100k_base.decode(cl100k_base.encode(mark))];
const seen = texts(o200k_base);
cl100k_base.decode(cl100k_base.encode(rare).slice(0, 1));
seen.afterOtherEncoding = o200k_base.decode(ids);
const right = texts(other);
console.log(ids, { 'gpt-tokenizer': seen, 'js-tiktoken': right, marks: marks.map((text) => text.length - mark.length) });
const holds =
  seen.half === '' &&
  seen.thenWhole === `\ufffd${rare}` &&
  seen.again === rare &&
  seen.mixed === `hello\ufffd${rare}` &&
  seen.afterOtherEncoding === `\ufffd${rare}` &&
  right.half === '\ufffd' &&
  right.thenWhole === rare &&
  right.mixed === `\ufffdhello${rare}`;
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node decode.mjs)

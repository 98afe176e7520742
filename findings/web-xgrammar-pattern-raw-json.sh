#!/usr/bin/env bash
# web-xgrammar: a string's pattern is matched against the JSON text, so that what comes out need not be JSON.
#
# Versions: @mlc-ai/web-xgrammar 0.1.27.
# Behaviour: JSON schema's pattern speaks of a string's value. The converter puts it between two quotes as it is: a class such as
#   [^,] or . takes raw quotes, backslashes and line breaks, and a pattern that asks for a quote never gets an escaped one.
# Seen: pattern ^[^,]+$ accepts "x"y" and a string across two lines, ^.*$ accepts "x\", all of which JSON.parse refuses; ^"a"$ accepts
#   ""a"" and refuses "\"a\"", the one text with that value. ^[a-z]+$ is all right.
# Why it matters: structured output that promises JSON throws in the client's parser. Patterns that name the characters they allow
#   are safe, those that name what they exclude are not.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
web_xgrammar

cat >"$work/node/patterns.mjs" <<'JS'
import { accepts } from './grammar.mjs';

function allows(pattern, text) {
  try {
    return new RegExp(pattern, 'u').test(JSON.parse(text));
  } catch {
    return false;
  }
}
const rows = [
  ['^[^,]+$', '"x"y"', true], ['^[^,]+$', '"x\ny"', true], ['^.*$', '"x\\"', true],
  ['^"a"$', '""a""', true], ['^"a"$', '"\\"a\\""', false], ['^[a-z]+$', '"xy"', true], ['^[a-z]+$', '"x"y"', false],
];
let [holds, wrong] = [true, 0];
for (const [pattern, text, seen] of rows) {
  const taken = await accepts({ type: 'string', pattern }, text);
  wrong += taken !== allows(pattern, text);
  console.log(`${pattern} ${JSON.stringify(text).slice(1, -1)}: ${taken ? 'accepted' : 'refused'}, by the schema ${allows(pattern, text) ? 'allowed' : 'forbidden'}`);
  holds &&= taken === seen;
}
process.exit(holds && wrong === 5 ? 0 : 1);
JS
(cd "$work/node" && node patterns.mjs)

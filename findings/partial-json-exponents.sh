#!/usr/bin/env bash
# Two parsers of unfinished JSON read numbers with an exponent as other numbers: 1e-4 becomes 1, and 2e3 becomes 23.
#
# Versions: best-effort-json-parser 1.5.1, incomplete-json-parser 1.1.5, against partial-json 0.1.7.
# Behaviour: best-effort-json-parser ends a number at its "e", and takes what follows for the next name or element;
#   only a text that is whole goes to JSON.parse. incomplete-json-parser drops the "e" and goes on with the digits where there is no point or sign in the
#   number, and refuses it otherwise, also in a whole text.
# Seen with best-effort-json-parser: {"lr": 1e-4, "steps": 100 is {"lr": 1, "e-4, \"steps\"": 100}; [0.5, 2e3, 7 is [0.5, 2, "e3", 7]. With
#   incomplete-json-parser [0.5, 2e3, 7] is [0.5, 23, 7], whole or not, and 1e-4 an error. partial-json reads all of them. Nothing is
#   said in the first two cases.
# Why it matters: these packages show structured output while it streams, and save an answer that ran into max_tokens.
#   Models write learning rates, probabilities and physical constants so; the value is wrong by powers of ten, and names move.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages best-effort-json-parser@1.5.1 incomplete-json-parser@1.1.5 partial-json@0.1.7

cat >"$work/node/exponents.mjs" <<'JS'
import { parse as bestEffort } from 'best-effort-json-parser';
import { IncompleteJsonParser } from 'incomplete-json-parser';
import { parse as partial } from 'partial-json';

console.error = () => {};
const reading = (parse, text) => {
  try {
    return JSON.stringify(parse(text));
  } catch {
    return 'an error';
  }
};
const incomplete = (text) => IncompleteJsonParser.parse(text);
const rows = [
  ['best-effort-json-parser', bestEffort, '{"lr": 1e-4, "steps": 100', '{"lr":1,"e-4, \\"steps\\"":100}'],
  ['best-effort-json-parser', bestEffort, '[0.5, 2e3, 7', '[0.5,2,"e3",7]'],
  ['best-effort-json-parser', bestEffort, '{"lr": 0.0001, "steps": 100', '{"lr":0.0001,"steps":100}'],
  ['best-effort-json-parser', bestEffort, '{"lr": 1e-4, "steps": 100}', '{"lr":0.0001,"steps":100}'],
  ['incomplete-json-parser', incomplete, '[0.5, 2e3, 7', '[0.5,23,7]'],
  ['incomplete-json-parser', incomplete, '[0.5, 2e3, 7]', '[0.5,23,7]'],
  ['incomplete-json-parser', incomplete, '{"lr": 1e-4}', 'an error'],
  ['partial-json', partial, '{"lr": 1e-4, "steps": 100', '{"lr":0.0001,"steps":100}'],
  ['partial-json', partial, '[0.5, 2e3, 7', '[0.5,2000,7]'],
];
let holds = true;
for (const [name, parse, text, expected] of rows) {
  const seen = reading(parse, text);
  console.log(`${name.padEnd(24)} ${text.padEnd(28)} ${seen}`);
  holds &&= seen === expected;
}
process.exitCode = holds ? 0 : 1;
JS
(cd "$work/node" && node exponents.mjs)

#!/usr/bin/env bash
# LangChain's JsonOutputParser shows half an escape as text while it streams: "Malmö" is "Malm\", "Malmu", "Malmu0" and "Malmu00" on the way.
#
# Versions: @langchain/core 1.4.0; partial-json 0.1.7 for comparison.
# Behaviour: what follows a backslash that the text ends behind is not waited for. The backslash stands for itself, \u and fewer than four digits for
#   "u" and these digits, and half a surrogate pair for a lone surrogate.
# Seen, one character at a time: {"city": "Malm\u00f6"} passes through "Malm\", "Malmu", "Malmu0", "Malmu00", "Malmu00f" and then "Malmö"; "tab\tend" through
#   "tab\". partial-json's values are beginnings of the last one, but for one half of a
#   surrogate pair. The last value is right, if the text is whole; of
#   a text cut by max_tokens it is "Malmu00".
# Why it matters: an interface that appends what is new gets text that no answer holds, and never takes it back; one that
#   redraws flickers at each quote and line feed. Models that write ASCII JSON escape every letter of most languages.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages @langchain/core@1.4.0 partial-json@0.1.7

cat >"$work/node/escapes.mjs" <<'JS'
import { JsonOutputParser } from '@langchain/core/output_parsers';
import { parse } from 'partial-json';

const streamed = async (text) => {
  async function* characters() {
    yield* text;
  }
  const values = [];
  for await (const value of await new JsonOutputParser().transform(characters(), {})) values.push(value.t ?? '');
  return [...new Set(values)];
};
const partial = (text) => {
  const values = [...text].map((_, i) => {
    try {
      return parse(text.slice(0, i + 1)).t ?? '';
    } catch {
      return '';
    }
  });
  return [...new Set(values)];
};
const rows = [
  ['{"t": "Malm\\u00f6"}', ['Malm\\', 'Malmu', 'Malmu0', 'Malmu00', 'Malmu00f']],
  ['{"t": "tab\\tend"}', ['tab\\']],
  ['{"t": "say \\"hi\\""}', ['say \\', 'say "hi\\']],
  ['{"t": "\\ud83d\\ude00"}', ['\\', 'u', 'ud', 'ud8', 'ud83', '\ud83d', '\ud83d\\', '\ud83du', '\ud83dud', '\ud83dude', '\ud83dude0']],
  ['{"t": "plain"}', []],
];
let holds = true;
for (const [text, expected] of rows) {
  const last = JSON.parse(text).t;
  const strange = (values) => values.filter((value) => !last.startsWith(value) || /[\ud800-\udbff]$/.test(value));
  const [here, there] = [strange(await streamed(text)), strange(partial(text))];
  console.log(`${text.padEnd(24)} no beginning of ${JSON.stringify(last)}: ${JSON.stringify(here)}; partial-json ${JSON.stringify(there)}`);
  holds &&= JSON.stringify(here) === JSON.stringify(expected) && there.every((value) => value === '\ud83d');
}
process.exitCode = holds ? 0 : 1;
JS
(cd "$work/node" && node escapes.mjs)

#!/usr/bin/env bash
# web-xgrammar forbids required properties that no "properties" describes, and enum values with a slash unless it is escaped.
#
# Versions: @mlc-ai/web-xgrammar 0.1.27.
# Behaviour: objects are made from `properties`; a name that stands in `required` alone is neither asked for nor let in. The strings of enum and const
#   become the text that its JSON library writes, which is "\/" for "/". prefixItems are all asked for, and nothing may follow them.
# Seen: {properties: {a}, required: [b]} accepts {"a": 1} and refuses {"b": 1} and {"a": 1, "b": 2}. enum ["text/plain"] refuses "text/plain" and accepts
#   "text\/plain". prefixItems of two refuses [], [1] and [1, "a", 5], all of which the schema allows. With b among the properties, and for "text-plain", all is right.
# Why it matters: schemas joined from parts (required here, properties there) make a model write objects that fail validation, each time; MIME types, paths,
#   dates and model names in an enum are forced into tokens that no model was trained to write, and string comparison of the raw text fails.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
web_xgrammar

cat >"$work/node/objects.mjs" <<'JS'
import { accepting } from './grammar.mjs';

const integer = { type: 'integer' };
const alone = { type: 'object', properties: { a: integer }, required: ['b'] };
const described = { type: 'object', properties: { a: integer, b: integer }, required: ['b'] };
const pair = { type: 'array', prefixItems: [integer, { type: 'string' }] };
const rows = [
  [alone, '{"a": 1}', false, true],
  [alone, '{"b": 1}', true, false],
  [alone, '{"a": 1, "b": 2}', true, false],
  [described, '{"a": 1}', false, false],
  [described, '{"b": 1}', true, true],
  [described, '{"a": 1, "b": 2}', true, true],
  [{ enum: ['text/plain'] }, '"text/plain"', true, false],
  [{ enum: ['text/plain'] }, '"text\\/plain"', true, true],
  [{ const: '2026/01' }, '"2026/01"', true, false],
  [{ enum: ['text-plain'] }, '"text-plain"', true, true],
  [pair, '[1, "a"]', true, true],
  [pair, '[1]', true, false],
  [pair, '[]', true, false],
  [pair, '[1, "a", 5]', true, false],
];
process.exit((await accepting(rows)) ? 0 : 1);
JS
(cd "$work/node" && node objects.mjs)

#!/usr/bin/env bash
# web-xgrammar's JSON schema converter: bounds of numbers let numbers beyond them through, and keep allowed ones out.
#
# Versions: @mlc-ai/web-xgrammar 0.1.27.
# Behaviour: minimum and maximum become digits of a grammar, and the digits are wrong at the edges.
# Seen: integer from 0 to 120: 121 is accepted. number from 0 to 120: 120.5 accepted; from -1.5 to 2.25: -1.6 accepted. exclusiveMinimum 0:
#   "0" accepted, "0.5" refused. exclusiveMaximum 1: "1" accepted. Right are: integer from 1 to 1000000, 1000001 refused; maximum
#   1, 1.99 refused.
# Why it matters: output that "cannot" break its schema fails validation (ages, percentages, probabilities), or a model is kept from
#   the answer; whoever relies on the grammar has to check the numbers again.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
web_xgrammar

cat >"$work/node/bounds.mjs" <<'JS'
import { accepting } from './grammar.mjs';

const rows = [
  [{ type: 'integer', minimum: 0, maximum: 120 }, '121', false, true],
  [{ type: 'integer', minimum: 0, maximum: 120 }, '120', true, true],
  [{ type: 'number', minimum: 0, maximum: 120 }, '120.5', false, true],
  [{ type: 'number', minimum: -1.5, maximum: 2.25 }, '-1.6', false, true],
  [{ type: 'number', exclusiveMinimum: 0 }, '0', false, true],
  [{ type: 'number', exclusiveMinimum: 0 }, '0.5', true, false],
  [{ type: 'number', exclusiveMaximum: 1 }, '1', false, true],
  [{ type: 'integer', minimum: 1, maximum: 1000000 }, '1000001', false, false],
  [{ type: 'number', maximum: 1 }, '1.99', false, false],
];
process.exit((await accepting(rows)) ? 0 : 1);
JS
(cd "$work/node" && node bounds.mjs)

#!/usr/bin/env bash
# @huggingface/jinja prints None as nothing, True as true and lists as JSON; title and capitalize write other letters than in Python.
#
# Versions: @huggingface/jinja 0.5.11 (JavaScript), jinja2 3.1.6 (Python) in the sandbox that transformers uses.
# Behaviour: values are printed as JavaScript or JSON would, null as an empty text. Nothing is raised.
# Seen, Python against JavaScript: a content of null "None" and "", which also equals what is not defined (Python: no); True "True" and "true"; ["a", 1, null] "['a', 1, None]" and
#   '["a", 1, null]', joined "a,1,None" and "a,1,"; {"k": "v"} "{'k': 'v'}" and '{"k": "v"}'; -7 % 3 2 and -1; "it's ok"|title "It's Ok" and "It'S Ok"; "hELLO"|capitalize "Hello"
#   and "HELLO". tojson, slices, division, default('', true) and upper agree.
# Why it matters: an assistant's turn with tool calls has the content null, booleans and lists are arguments of calls and parts of
#   tools' schemas: templates that print them without tojson give other prompts than the model was trained on, and prefix caches of the two miss each other.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages jinja2==3.1.6
node_packages @huggingface/jinja@0.5.11

"$python" - "$work/node/cases.json" <<'PY'
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment

values = {"content": None, "strict": True, "items": ["a", 1, None], "arguments": {"k": "v"}}
differing = ["{{ content }}", "{{ content == missing }}", "{{ strict }}", "{{ items }}", "{{ items|join(',') }}", "{{ arguments }}", "{{ -7 % 3 }}", '{{ "it\'s ok"|title }}',
             "{{ 'hELLO'|capitalize }}"]
same = ["{{ items|tojson }}", "{{ 'abc'[-2:] }}", "{{ 7 / 2 }}", "{{ content|default('', true) }}", "{{ 'é'|upper }}"]
environment = ImmutableSandboxedEnvironment()
json.dump({"values": values, "differing": len(differing), "cases": [[t, environment.from_string(t).render(**values)] for t in differing + same]}, open(sys.argv[1], "w"))
PY
cat >"$work/node/compare.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { Template } from '@huggingface/jinja';

const { values, differing, cases } = JSON.parse(readFileSync('cases.json', 'utf8'));
const seen = cases.map(([template, python]) => {
  const here = new Template(template).render(values);
  console.log(`${template}: Python ${JSON.stringify(python)}, JavaScript ${JSON.stringify(here)}`);
  return [here, here === python];
});
const texts = ['', 'true', 'true', '["a", 1, null]', 'a,1,', '{"k": "v"}', '-1', "It'S Ok", 'HELLO'];
process.exitCode = seen.every(([here, same], i) => (i < differing ? !same && here === texts[i] : same)) ? 0 : 1;
JS
(cd "$work/node" && node compare.mjs)

#!/usr/bin/env bash
# strip, lstrip and rstrip ignore their argument in @huggingface/jinja: chat templates take indentation away.
#
# Versions: @huggingface/jinja 0.5.11 (JavaScript), jinja2 3.1.6 (Python).
# Behaviour: Python's str.strip(chars) takes away those characters. JavaScript's takes away all white space at that end whatever is
#   asked for, and nothing else.
# Seen: '{{ text.lstrip("\n") }}' of "\n    return 1" keeps four spaces in Python and none in JavaScript; '{{ text.strip("#") }}' of
#   "# a #" is " a " and "# a #". Without an argument both agree.
# Why it matters: templates of reasoning models strip line feeds between the thoughts and the answer in this way (Qwen3, QwQ, SmolLM3). An
#   assistant's turn that begins with indented code goes back into the next prompt without its indentation, from Node only.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages jinja2==3.1.6
node_packages @huggingface/jinja@0.5.11

"$python" - "$work/node/cases.json" <<'PY'
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment

cases = [["{{ text.lstrip('\\n') }}", "\n    return 1"], ["{{ text.rstrip('\\n') }}", "x = 1  \n"], ["{{ text.strip('#') }}", "# a #"],
         ["{{ text.strip() }}", "\n a \n"]]
environment = ImmutableSandboxedEnvironment()
json.dump([[*case, environment.from_string(case[0]).render(text=case[1])] for case in cases], open(sys.argv[1], "w"))
PY
cat >"$work/node/compare.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { Template } from '@huggingface/jinja';

const same = JSON.parse(readFileSync('cases.json', 'utf8')).map(([template, text, python]) => {
  const here = new Template(template).render({ text });
  console.log(`${template} of ${JSON.stringify(text)}: Python ${JSON.stringify(python)}, JavaScript ${JSON.stringify(here)}`);
  return here === python;
});
process.exitCode = same.join() === 'false,false,false,true' ? 0 : 1;
JS
(cd "$work/node" && node compare.mjs)

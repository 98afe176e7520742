#!/usr/bin/env bash
# minijinja-js: tojson writes apostrophes, <, > and & as \u0027 and the like, and sorts keys: tools look otherwise than to the trained model.
#
# Versions: minijinja-js 2.11.0, @huggingface/jinja 0.5.11 (JavaScript), jinja2 3.1.6 (Python).
# Behaviour: jinja2's tojson makes text that is safe within HTML. transformers puts json.dumps without escapes in its place for chat templates, which is what models were trained
#   on; @huggingface/jinja has that one, minijinja has jinja2's, on maps that are sorted by key.
# Seen, for a tool described as "the user's <b> & more": minijinja-js gives {"description":"the user\\u0027s \\u003cb\\u003e \\u0026 more","name":"ask"}, @huggingface/jinja and json.dumps
#   {"name": "ask", "description": "the user's <b> & more"}. Read as JSON both are the same. A filter of the same name that is added to the environment mends it,
#   keys included only if the objects are handed over as text.
# Why it matters: tool descriptions and results are full of apostrophes, comparisons and markup. Each is six characters of other tokens in the prompt;
#   nothing is raised, calls get worse, and prefix caches that were filled by another renderer miss.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages jinja2==3.1.6
node_packages minijinja-js@2.11.0 @huggingface/jinja@0.5.11

"$python" - "$work/node" <<'PY'
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment

tool = {"name": "ask", "description": "the user's <b> & more"}
template = "{{ tool | tojson }}"
plain = ImmutableSandboxedEnvironment()
chat = ImmutableSandboxedEnvironment()
# As transformers has it: its own function, of json.dumps without escapes.
chat.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
rendered = {"template": template, "tool": tool, "jinja2": plain.from_string(template).render(tool=tool), "chat": chat.from_string(template).render(tool=tool)}
json.dump(rendered, open(sys.argv[1] + "/rendered.json", "w"))
PY
cat >"$work/node/tojson.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Template } from '@huggingface/jinja';

const { Environment } = createRequire(import.meta.url)('minijinja-js');
const { template, tool, jinja2, chat } = JSON.parse(readFileSync('rendered.json', 'utf8'));
function minijinja(context, filter) {
  const environment = new Environment();
  environment.addTemplate('chat', template);
  if (filter) environment.addFilter('tojson', filter);
  return environment.renderTemplate('chat', context);
}
const seen = {
  jinja2,
  'chat templates in Python': chat,
  '@huggingface/jinja': new Template(template).render({ tool }),
  'minijinja-js': minijinja({ tool }),
  'minijinja-js, text and a filter': minijinja({ tool: chat }, (text) => text),
};
console.log(seen);
const same = (text) => JSON.stringify(JSON.parse(text), Object.keys(tool).sort());
process.exit(
  chat === `{"name": "ask", "description": "the user's <b> & more"}` &&
    seen['@huggingface/jinja'] === chat &&
    seen['minijinja-js'] === String.raw`{"description":"the user\u0027s \u003cb\u003e \u0026 more","name":"ask"}` &&
    same(seen['minijinja-js']) === same(chat) &&
    seen['minijinja-js, text and a filter'] === chat &&
    jinja2.includes(String.raw`\u0027`)
    ? 0
    : 1,
);
JS
(cd "$work/node" && node tojson.mjs)

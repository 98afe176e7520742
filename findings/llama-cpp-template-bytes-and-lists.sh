#!/usr/bin/env bash
# llama.cpp's chat templates count a string in bytes and cut characters in two, print lists run together and mappings as nothing, and take None for a value that is missing.
#
# Versions: @fugood/llama.node 1.7.15 (its prebuilt llama.cpp, CPU), gguf 0.19.0 to make the model, jinja2 3.1.6.
# Behaviour: strings of llama.cpp's own template engine are C++ strings: length, slices and indexes are of bytes, upper and lower of ASCII. A list is printed as its elements one after the other, a mapping as "". None prints nothing, and
#   default() replaces it. `%` takes the sign of its left side. Nothing is raised.
# Seen, Python / llama.cpp: "héllo"|length 5 / 6, [2:] "llo" / half a character and "llo", [:3] "hél" / "hé", |upper "HÉLLO" / "HéLLO"; ["a", 1.5] "['a', 1.5]" / "a1.5"; {"a": 1} "{'a': 1}" / ""; none "None" / ""; none|default("d") "None" / "d";
#   -7 % 3 2 / -1; "a,b".split(",") "['a', 'b']" / "ab". tojson, join, items and loops are alike.
# Why it matters: templates that print arguments as they are ({{ value }} between two tags, as those of coder models do) show a list of names as one word and an object as nothing; a title or a thought that is cut by length ends in a byte that is no
#   text, from llama.cpp only.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages gguf==0.19.0 jinja2==3.1.6
node_packages @fugood/llama.node@1.7.15

"$python" - "$work" <<'PY'
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment

content = "messages[0].content"
cases = [  # expression, whether both print the same
    (f"{content} | length", False), (f"{content}[2:]", False), (f"{content}[:3]", False), (f"{content} | upper", False),
    ("['a', 1.5]", False), ("{'a': 1}", False), ("none", False), ("none | default('d')", False), ("-7 % 3", False), ("'a,b'.split(',')", False),
    (f"{content} | tojson", True), ("['a', 'b'] | join(', ')", True), ("{'a': [1, none]} | tojson", True), ("nothing | default('d')", True), ("7 % 3", True), ("true", True),
]
environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
messages = [{"role": "user", "content": "héllo"}]
template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
rows = [[f"[{{{{ {expression} }}}}]", environment.from_string(f"[{{{{ {expression} }}}}]").render(messages=messages), same] for expression, same in cases]
json.dump({"messages": messages, "rows": rows}, open(f"{sys.argv[1]}/node/chat.json", "w"))
vocabulary = {"model": "gpt2", "pre": "gpt-2", "tokens": [chr(33 + token) for token in range(64)], "token_type": [1] * 64, "merges": ["t 1"], "eos_token_id": 0, "chat_template": template}
json.dump(vocabulary, open(f"{sys.argv[1]}/vocabulary.json", "w"))
PY
small_mamba_gguf "$work/node/model.gguf" "$work/vocabulary.json"

cat >"$work/node/chat.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { loadModel } from '@fugood/llama.node';

const { messages, rows } = JSON.parse(readFileSync('chat.json', 'utf8'));
const context = await loadModel({ model: 'model.gguf', n_ctx: 128, n_gpu_layers: 0, n_threads: 1, use_mmap: false });
let holds = true;
for (const [template, python, same] of rows) {
  const { prompt } = context.getFormattedChat(messages, template, { jinja: true });
  console.log(`# ${template}: Python ${python}, llama.cpp ${prompt}`);
  holds &&= (python === prompt) === same;
}
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node chat.mjs 2>/dev/null | sed -n 's/^# //p')

#!/usr/bin/env bash
# llama.cpp's chat templates write numbers of tool calls and schemas with six digits: latitude 52.520008 becomes 52.52, and 1234567.89 1.23457e+06.
#
# Versions: @fugood/llama.node 1.7.15 (its prebuilt llama.cpp, CPU), gguf 0.19.0 to make the model, jinja2 3.1.6.
# Behaviour: llama.cpp renders templates by an engine of its own, whose tojson prints a number with a fraction by six significant digits, and whose {{ number }} by six behind the point. Whole numbers are whole. Nothing is raised.
# Seen, arguments of a tool call by tojson: 52.520008 is 52.52, 1234567.89 is 1.23457e+06, 0.333333333 is 0.333333; bounds in a tool's schema: minimum -89.999999 is -90, maximum 1234567.5 1.23457e+06. By {{ }}: 0.00001234 is 0.000012, while
#   1234567.89 and 52.520008 are whole. Python prints all as they are.
# Why it matters: the model is shown another call than it made a turn ago, and the tool's answer to the real one beside it: coordinates move by 100 m, amounts of money lose what is behind the point; it is told bounds that do not hold. Prompts of the
#   same conversation differ between Python and llama.cpp, so that caches of prefixes and evaluations do too.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages gguf==0.19.0 jinja2==3.1.6
node_packages @fugood/llama.node@1.7.15

"$python" - "$work" <<'PY'
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment

template = (
    "{% for tool in tools %}{{ tool.function.parameters | tojson }}\n{% endfor %}"
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n"
    "{% for call in message.tool_calls or [] %}{{ call.function.arguments | tojson }}\n"
    "{% for name, value in call.function.arguments | items %}{{ name }} is {{ value }}\n{% endfor %}{% endfor %}{% endfor %}"
)
values = {"latitude": 52.520008, "amount": 1234567.89, "third": 0.333333333, "share": 0.00001234, "count": 123456789012345, "half": -0.5}
schema = {"type": "object", "properties": {"latitude": {"type": "number", "minimum": -89.999999, "maximum": 1234567.5}}}
call = {"type": "function", "id": "1", "function": {"name": "f", "arguments": values}}
messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "1", "content": "ok"}]
tools = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}}]
environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
python = environment.from_string(template).render(messages=messages, tools=tools)
call["function"] = {"name": "f", "arguments": json.dumps(values)}
json.dump({"template": template, "messages": messages, "tools": tools, "python": python}, open(f"{sys.argv[1]}/node/chat.json", "w"))
vocabulary = {"model": "gpt2", "pre": "gpt-2", "tokens": [chr(33 + token) for token in range(64)], "token_type": [1] * 64, "merges": ["t 1"], "eos_token_id": 0, "chat_template": template}
json.dump(vocabulary, open(f"{sys.argv[1]}/vocabulary.json", "w"))
PY
small_mamba_gguf "$work/node/model.gguf" "$work/vocabulary.json"

cat >"$work/node/chat.mjs" <<'JS'
import { readFileSync } from 'node:fs';
import { loadModel } from '@fugood/llama.node';

const { template, messages, tools, python } = JSON.parse(readFileSync('chat.json', 'utf8'));
const context = await loadModel({ model: 'model.gguf', n_ctx: 128, n_gpu_layers: 0, n_threads: 1, use_mmap: false });
const { prompt } = context.getFormattedChat(messages, template, { jinja: true, tools });
for (const [by, text] of [['Python', python], ['llama.cpp', prompt]]) for (const line of text.trim().split('\n')) console.log(`# ${by}: ${line}`);
const right = ['"latitude": 52.520008', '"amount": 1234567.89', '"third": 0.333333333', '"minimum": -89.999999', '"maximum": 1234567.5', '"count": 123456789012345', '"half": -0.5', 'amount is 1234567.89', 'latitude is 52.520008'];
const seen = ['"latitude": 52.52,', '"amount": 1.23457e+06', '"third": 0.333333,', '"minimum": -90,', '"maximum": 1.23457e+06', '"count": 123456789012345', '"half": -0.5', 'amount is 1234567.89', 'latitude is 52.520008', 'share is 0.000012'];
process.exit(right.every((part) => python.includes(part)) && seen.every((part) => prompt.includes(part)) ? 0 : 1);
JS
(cd "$work/node" && node chat.mjs 2>/dev/null | sed -n 's/^# //p')

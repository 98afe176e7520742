#!/usr/bin/env bash
# openai 3 for Python, stream helper: a role, id or name that is sent again is doubled ("assistantassistant"), and choices or tool calls that do not come in the order of their indexes are an IndexError.
#
# Versions: openai 3.22.1 (Python), openai 7.59.0 (Node) to compare.
# Behaviour: chat.completions.stream() adds strings of a delta to those before, whatever they are, and numbers too; only index and type are taken as they come. Choices and tool calls are looked up by position in a list that grows as they come, so
#   that one whose index is beyond its end, the second answer before the first or call 1 before call 0, fails or is put elsewhere. Every field of a delta is optional in every chunk by the API, which names no order.
# Seen: the role in each of three chunks: "assistantassistantassistant" in Python, "assistant" in Node. A tool call whose id and name are in both of its chunks: "c1c1" "ff". n=2 with choice 1 first: IndexError; n=3 in the order 0, 2, 1:
#   IndexError; tool call 1 before 0: IndexError. Node reads all of these. In order and said once, all are right in both.
# Why it matters: servers that compute several answers at once send what is ready first, and some repeat the role. History that holds the doubled role is refused by the next request, and one out of order ends the stream.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages openai==3.22.1
node_packages openai@7.59.0

cat >"$work/node/streams.json" <<'JSON'
{
  "in order": [[0, {"role": "assistant", "content": "a"}], [1, {"role": "assistant", "content": "b"}], [0, {"content": "A"}], [1, {"content": "B"}], [0, {}, "stop"], [1, {}, "stop"]],
  "role again": [[0, {"role": "assistant", "content": "a"}], [0, {"role": "assistant", "content": "b"}], [0, {"role": "assistant"}, "stop"]],
  "choice 1 first": [[1, {"role": "assistant", "content": "b"}], [0, {"role": "assistant", "content": "a"}], [0, {}, "stop"], [1, {}, "stop"]],
  "choices 0, 2, 1": [[0, {"role": "assistant", "content": "a"}], [2, {"role": "assistant", "content": "c"}], [1, {"role": "assistant", "content": "b"}], [0, {}, "stop"], [1, {}, "stop"], [2, {}, "stop"]],
  "calls in order": [[0, {"role": "assistant", "tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": "{"}}]}],
    [0, {"tool_calls": [{"index": 1, "id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}], [0, {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}], [0, {}, "tool_calls"]],
  "call 1 first": [[0, {"role": "assistant", "tool_calls": [{"index": 1, "id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}],
    [0, {"tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}], [0, {}, "tool_calls"]],
  "id and name again": [[0, {"role": "assistant", "tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{"}}]}],
    [0, {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "}"}}]}], [0, {}, "tool_calls"]]
}
JSON
cat >"$work/node/node.mjs" <<'JS'
import { readFileSync, writeFileSync } from 'node:fs';
import OpenAI from 'openai';

const all = {};
for (const [name, stream] of Object.entries(JSON.parse(readFileSync('streams.json', 'utf8')))) {
  const events = stream.map(([index, delta, finish_reason = null]) => ({ id: '1', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index, delta, finish_reason }] }));
  const body = `${events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('')}data: [DONE]\n\n`;
  const fetch = async () => new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  const client = new OpenAI({ apiKey: 'x', baseURL: 'http://127.0.0.1/v1', fetch, maxRetries: 0 });
  try {
    const { choices } = await client.chat.completions.stream({ model: 'm', messages: [{ role: 'user', content: 'x' }] }).finalChatCompletion();
    all[name] = choices.map(({ index, message: { role, content, tool_calls } }) => [index, role, content, (tool_calls ?? []).map((call) => [call.id, call.function.name, call.function.arguments])]);
  } catch (error) {
    all[name] = error.message;
  }
}
writeFileSync('node.json', JSON.stringify(all));
JS
(cd "$work/node" && node node.mjs)
(cd "$work/node" && "$python" - <<'PY'
import http.server, json, sys, threading
from openai import OpenAI

body = b""

class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="x", max_retries=0)

def read(stream):
    global body
    chunks = [{"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish[0] if finish else None}]}
              for index, delta, *finish in stream]
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    try:
        with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "x"}]) as events:
            for _ in events:
                pass
            choices = events.get_final_completion().choices
    except IndexError as error:
        return f"IndexError: {error}"
    return [[one.index, one.message.role, one.message.content, [[call.id, call.function.name, call.function.arguments] for call in one.message.tool_calls or []]] for one in choices]

node = json.load(open("node.json"))
seen = {}
for name, stream in json.load(open("streams.json")).items():
    seen[name] = read(stream)
    print(f"{name}:\n  Python {seen[name]}\n  Node   {node[name]}")
holds = all(seen[name] == node[name] for name in ("in order", "calls in order"))
holds &= seen["role again"][0][1] == "assistant" * 3 and node["role again"][0][1] == "assistant"
holds &= seen["id and name again"][0][3] == [["c1c1", "ff", "{}"]]
holds &= all(str(seen[name]).startswith("IndexError") and isinstance(node[name], list) for name in ("choice 1 first", "choices 0, 2, 1", "call 1 first"))
sys.exit(not holds)
PY
)

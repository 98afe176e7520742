#!/usr/bin/env bash
# InferenceClient of huggingface_hub keeps every answer in memory until it is closed, ends a stream when it goes out of scope, and cannot read a chunk with U+2028, U+2029 or U+0085 in its text.
#
# Versions: huggingface_hub 2.0.0 (httpx2 2.13.1) and 1.33.0 (httpx 0.28.1).
# Behaviour: each request puts its response on a stack of the client, which is emptied by close() or `with` alone. The iterator of a stream holds no reference to the client, whose end closes it. Lines of a stream are cut by str.splitlines(), at more
#   characters than server-sent events end lines with; these three may stand in a JSON string as they are.
# Seen, a server on this machine that answers chat completions of 100,000 characters: after 400 calls by one client 44 MB (40 MB of answers), after close() nothing, as with `with` for each call. A function that returns
#   InferenceClient(...).chat_completion(..., stream=True): StreamClosed at the first chunk; with the client in a variable all chunks. "a", U+2028, "b" in a chunk: JSONDecodeError; escaped as \u2028 it is read. Both versions alike.
# Why it matters: a service that makes one client, as its documentation shows, grows with all that was ever answered, embeddings too; a helper that returns a stream fails. A server for such clients has to escape what other clients read.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

cat >"$work/client.py" <<'PY'
import gc, http.server, json, sys, threading, tracemalloc
import huggingface_hub
from huggingface_hub import InferenceClient

answer = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                     "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 100_000}, "finish_reason": "stop"}]}).encode()
texts = {"plain": "ab", "U+2028": "a\u2028b", "U+2029": "a\u2029b", "U+0085": "a\u0085b"}

class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        if not asked.get("stream"):
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(answer)
            return
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.end_headers()
        name, escaped = asked["messages"][0]["content"].split()
        chunks = [{"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
                  for delta, finish in (({"role": "assistant", "content": texts[name]}, None), ({}, "stop"))]
        lines = [json.dumps(chunk, ensure_ascii=escaped == "escaped") for chunk in chunks] + ["[DONE]"]
        self.wfile.write("".join(f"data: {line}\n\n" for line in lines).encode())

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()

def client():
    return InferenceClient(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="x")

def ask(by, text="plain", escaped="raw", **settings):
    return by.chat_completion([{"role": "user", "content": f"{text} {escaped}"}], model="m", **settings)

def megabytes():
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / 1e6

def outcome(run):
    try:
        return "".join(chunk.choices[0].delta.content or "" for chunk in run())
    except Exception as error:
        return type(error).__name__

print(f"huggingface_hub {huggingface_hub.__version__}")
ask(client())
tracemalloc.start()
kept = client()
for _ in range(400):
    ask(kept)
grown = megabytes()
kept.close()
closed = megabytes()
for _ in range(400):
    with kept:
        ask(kept)
scoped = megabytes()
tracemalloc.stop()
print(f"400 answers of 0.1 MB: {grown:.1f} MB, closed {closed:.1f} MB; closed after each {scoped:.1f} MB")

returned, held = outcome(lambda: ask(client(), stream=True)), outcome(lambda: ask(kept, stream=True))
print(f"stream of a client that nothing else refers to: {returned}; of one in a variable: {held}")
read = {(name, escaped): outcome(lambda: ask(kept, name, escaped, stream=True)) for name in texts for escaped in ("raw", "escaped")}
print("text of a chunk:", {f"{name}, {escaped}": text for (name, escaped), text in read.items()})
holds = grown > 35 and closed < 2 and scoped < 2 and returned == "StreamClosed" and held == "ab"
holds &= all(text == ("JSONDecodeError" if name != "plain" and escaped == "raw" else texts[name]) for (name, escaped), text in read.items())
sys.exit(not holds)
PY
python_packages huggingface-hub==2.0.0
HF_HUB_OFFLINE=0 "$python" "$work/client.py"
rm -r "$work/venv"
python_packages huggingface-hub==1.33.0
HF_HUB_OFFLINE=0 "$python" "$work/client.py"

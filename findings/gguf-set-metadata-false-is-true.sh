#!/usr/bin/env bash
# gguf-set-metadata writes true for "false", "0" and "no": a flag such as tokenizer.ggml.add_bos_token can be turned on by asking for off, and off by an empty argument alone.
#
# Versions: gguf 0.19.0, its command gguf-set-metadata, numpy 2.4.6.
# Behaviour: the value is made by numpy's type for the key's type, and numpy's bool of a text is whether it has characters. The file is changed in place, and the tool reports success.
# Seen: a flag that is false, set to "false", "False", "0", "no" or "off": true in the file, exit code 0, "Field changed. Successful completion." One that is true, set to "false": "already set to requested value True". "" makes it false. Numbers
#   (uint32, float32) come out as asked.
# Why it matters: add_bos_token and add_eos_token decide what every prompt begins and ends with, and it is by this tool that published files are corrected: the mistake is made certain while the user reads that it is gone.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages gguf==0.19.0 numpy==2.4.6

"$python" - "$work" <<'PY'
import subprocess, sys
import numpy as np
from gguf import GGUFReader, GGUFWriter

folder = sys.argv[1]
path, tool = f"{folder}/model.gguf", f"{folder}/venv/bin/gguf-set-metadata"

def after(flag, asked, key="tokenizer.ggml.add_bos_token"):
    writer = GGUFWriter(path, "llama")
    writer.add_add_bos_token(flag)
    writer.add_context_length(4096)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    run = subprocess.run([tool, "--force", path, key, asked], capture_output=True, text=True)
    said = run.stderr.strip().splitlines()[-1].split(":")[-1].strip()
    return GGUFReader(path).get_field(key).contents(), run.returncode, said

holds = True
for flag, asked, seen in [(False, "false", True), (False, "False", True), (False, "0", True), (False, "no", True), (False, "off", True), (False, "true", True), (True, "false", True), (True, "", False)]:
    value, code, said = after(flag, asked)
    print(f"{flag}, set to {asked!r}: {value}, exit code {code}, {said!r}")
    holds &= value is seen and code == 0
for key, asked, wanted in (("llama.context_length", "8192", 8192), ("llama.attention.layer_norm_rms_epsilon", "1e-6", 1e-6)):
    value, code, _ = after(False, asked, key)
    print(f"{key}, set to {asked!r}: {value}")
    holds &= code == 0 and abs(value - wanted) < 1e-9
sys.exit(not holds)
PY

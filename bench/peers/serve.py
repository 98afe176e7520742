"""The Python side of `statespace bench peers`: one JSON job a line in, one JSON answer a line out.

A job names a kernel or model and its inputs as raw files; an answer has the seconds of every sample, and the first
result as a raw f32 file, so that the caller can compare it with its own.
"""
import json
import sys
import time

import numpy as np

SHORTEST_SAMPLE = 0.01
LONGEST_CASE = 40.0


def argument_threads():
    return int(sys.argv[1])


def samples(run, reps):
    """Seconds per run. Short runs are repeated within a sample; a case of many seconds ends after its first."""
    started = time.perf_counter()
    run()
    once = max(time.perf_counter() - started, 1e-7)
    times = max(1, int(np.ceil(SHORTEST_SAMPLE / once)))
    seconds = []
    for _ in range(reps):
        begin = time.perf_counter()
        for _ in range(times):
            run()
        seconds.append((time.perf_counter() - begin) / times)
        if time.perf_counter() - started > LONGEST_CASE:
            break
    return seconds


def inputs(job):
    """The job's tensors by name; bf16 comes as uint16 words."""
    types = {"f32": np.float32, "bf16": np.uint16, "f16": np.float16}
    return {name: np.fromfile(t["file"], types[t["dtype"]]).reshape(t["shape"]) for name, t in job["inputs"].items()}


def serve(hello, answer):
    print(json.dumps(hello), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            reply = answer(job)
        except Exception as error:  # whatever it is, the caller shows it and goes on
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)

"""What all peers share: how they are asked, and how they answer.

A peer is started with a JSON object of settings as its argument. It says what
it is in one line of JSON on stdout, then answers each line on stdin with one:

    {"do": "load"}                          {"load_ms": 210.5}
    {"do": "generate", "prompt": [1, 2],
     "tokens": 3, "temperature": 0,
     "seed": 0}                             {"ids": [7, 8, 9], "first_ms": 12.1, "decode_ms": 20.3}
    {"do": "memory"}                        {"peak_bytes": 123}

Times are the peer's own: first_ms from the call to the first token, decode_ms
from the first token to the last. {"error": "..."} answers what failed. The end
of stdin ends the peer.
"""

import json
import os
import sys
import time
import traceback


def peak_bytes():
    """The most memory that this process ever held."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def loaded_library(name):
    """The path of a shared library in this process whose path has name in it."""
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split()[-1] for line in maps if name in line}
    except OSError:
        return ""
    return min(paths, default="")


def generate(tokens, request):
    """Takes request's number of token ids from an iterator and times them."""
    start = time.perf_counter()
    ids = [next(tokens)]
    first = time.perf_counter()
    while len(ids) < request["tokens"]:
        ids.append(next(tokens))
    last = time.perf_counter()
    tokens.close()
    return {"ids": ids, "first_ms": (first - start) * 1e3, "decode_ms": (last - first) * 1e3}


def serve(describe, actions):
    """Answers requests until the end of stdin."""
    # Libraries print when they please, and stdout is the protocol.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(act):
        try:
            reply = act()
        except Exception as e:
            traceback.print_exc()
            reply = {"error": f"{type(e).__name__}: {e}"}
        out.write(json.dumps(reply) + "\n")
        out.flush()

    answer(describe)
    for line in sys.stdin:
        request = json.loads(line)
        answer(lambda: actions[request["do"]](request))

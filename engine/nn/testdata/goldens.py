#!/usr/bin/env python3
"""Writes what mlx-lm's rotary positions make of fixed queries.

    goldens.py OUT.json < CASES.json

The reference is mlx-lm 0.32.0 on mlx 0.32.2. `go test ./engine/nn -run RoPE
-goldens` hands over the cases and calls this script.
"""

import json
import sys

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx_lm.models.rope_utils import initialize_rope

VERSIONS = {"mlx": "0.32.2", "mlx_lm": "0.32.0"}


def main():
    got = {"mlx": mx.__version__, "mlx_lm": mlx_lm.__version__}
    if got != VERSIONS:
        sys.exit(f"want {VERSIONS}, got {got}")
    mx.set_default_device(mx.cpu)
    out = {}
    for case in json.load(sys.stdin):
        config, dims = case["config"], case["dims"]
        rope = initialize_rope(
            dims,
            config.get("rope_theta", 10000),
            config.get("rope_traditional", False),
            config.get("rope_scaling"),
            config.get("max_position_embeddings"),
        )
        # The values of the test's query.
        x = mx.array([(i * 7919 % 257 - 128) / 128 for i in range(2 * dims)])
        rows = []
        for offset in case["offsets"]:
            y = rope(x.reshape(1, 1, 2, dims), offset=offset)
            rows.append([float(f"{v:.7g}") for v in np.array(y).ravel()])
        out[case["name"]] = rows
    with open(sys.argv[1], "w") as f:
        lines = [f"{json.dumps(n)}: {json.dumps(r, separators=(',', ':'))}" for n, r in out.items()]
        f.write(json.dumps({"versions": VERSIONS})[:-1] + ', "cases": {\n' + ",\n".join(lines) + "\n}}\n")


main()

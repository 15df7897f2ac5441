#!/usr/bin/env python3
"""Write blocks of GGML's quantized types with the values that the gguf package gives them.

    blocks_golden.py OUT.json.gz

Per type there are random blocks as quantizing makes them, blocks of random bits with scales of every
size and sign, and blocks at the edges: all bits set, none set, one bit set in each byte, the largest
and the smallest scales. All scales are finite. OUT holds the versions used and, per type, the blocks
one after the other and the float32 values of each as the first 8 bytes of their SHA-256, the values of
the first block also as they are; both in base64. Zeros of the types that stay packed are positive:
MLX's affine form cannot say otherwise.

Made with gguf 0.19.0 and numpy 2.4.6.
"""

import base64
import gzip
import hashlib
import importlib.metadata
import json
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

# Where the float16 scales of a block are.
SCALES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}
# The largest that all scales may be. Values of the types that are kept packed must have a float16 bias,
# those of the others must fit a float16.
LARGEST = {"Q4_0": 8000, "Q4_1": 65504, "Q5_0": 4000, "Q5_1": 65504, "Q8_0": 500,
           "Q2_K": 800, "Q3_K": 500, "Q4_K": 50, "Q5_K": 25, "Q6_K": 15}
SMALLEST = 2.0**-24  # the smallest float16


def with_scales(block, name, values):
    for at, value in zip(SCALES[name], values):
        block[at : at + 2] = np.array([value], dtype=np.float16).view(np.uint8)
    return block


def blocks(name, rng):
    size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
    bits = lambda: rng.integers(0, 256, size, dtype=np.uint8)
    largest = LARGEST[name]
    for _ in range(24):  # of the size of real weights
        yield with_scales(bits(), name, rng.uniform(1e-5, 1e-2, 2))
    for _ in range(24):  # of any size and sign
        yield with_scales(bits(), name, rng.choice([-1, 1], 2) * largest * 2.0 ** -rng.uniform(0, 24, 2))
    for fill in [0, 255] + [1 << i for i in range(8)]:
        yield with_scales(np.full(size, fill, dtype=np.uint8), name, [0.5, 0.25])
    for scales in [(largest, largest), (-largest, -largest), (largest, -largest), (SMALLEST, SMALLEST),
                   (-SMALLEST, SMALLEST), (0, 0), (-0.0, -0.0), (0, 1), (1, 0), (largest, SMALLEST)]:
        yield with_scales(bits(), name, scales)


def values(block, name):
    v = quants.dequantize(block.reshape(1, -1), GGMLQuantizationType[name]).astype("<f4")
    return (v if name.endswith("_K") else v + np.float32(0)).tobytes()


def main():
    text = lambda data: base64.b64encode(data).decode()
    types = {}
    for name in SCALES:
        all = list(blocks(name, np.random.default_rng(int(GGMLQuantizationType[name]))))
        results = [values(b, name) for b in all]
        types[name] = {
            "blocks": text(b"".join(b.tobytes() for b in all)),
            "values": text(results[0]),
            "digests": text(b"".join(hashlib.sha256(v).digest()[:8] for v in results)),
        }
    out = {"versions": {p: importlib.metadata.version(p) for p in ["gguf", "numpy"]}, "types": types}
    data = json.dumps(out, indent=1).encode()
    with open(sys.argv[1], "wb") as f:
        f.write(gzip.compress(data, 9, mtime=0))


main()

#!/usr/bin/env python3
"""Hold every tensor of an imported model against the file it came from.

    compare_gguf.py MODEL.gguf FOLDER

The values of the file are those of the gguf package's dequantization, the pairs of names those of its own
map of the architecture, and the values of the folder those of mx.dequantize. They must be equal, or for
types that the import rounds equal after rounding to 16 bits. Prints per GGML type how many weights
there are and the largest difference, also as a part of the type's step: the distance between two
values of one block that are next to each other.

Written for gguf 0.19.0 and mlx 0.32.2.
"""

import collections
import json
import pathlib
import sys

import gguf
import mlx.core as mx
import numpy as np


def stored(weights, config, name):
    """The values of a module's weight as float32, and the type they are kept in."""
    w = weights[f"{name}.weight"]
    if f"{name}.scales" not in weights:
        return np.array(w.astype(mx.float32)), w.dtype
    how = config["quantization"]
    how = how.get(name) or how
    scales, biases = (weights[f"{name}.{leaf}"].astype(mx.float32) for leaf in ("scales", "biases"))
    return np.array(mx.dequantize(w, scales, biases, how["group_size"], how["bits"])), None


def rounded(values, dtype):
    if dtype is None or dtype == mx.float32:
        return values
    return np.array(mx.array(values).astype(dtype).astype(mx.float32))


def halves(values, heads):
    """llama.cpp's order of the rows of a query or key head, undone."""
    rows, width = values.shape
    return values.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def main():
    reader = gguf.GGUFReader(sys.argv[1])
    folder = pathlib.Path(sys.argv[2])
    mx.set_default_device(mx.cpu)
    config = json.loads((folder / "config.json").read_text())
    weights = {}
    for shard in folder.glob("*.safetensors"):
        weights.update(mx.load(str(shard)))
    arch = reader.fields["general.architecture"].contents()
    names = gguf.get_tensor_name_map(
        {name: a for a, name in gguf.MODEL_ARCH_NAMES.items()}[arch], config["num_hidden_layers"]
    )
    modules = sorted({n.rsplit(".", 1)[0] for n in weights if n.endswith(".weight")})
    ours = {names.get_name(m): m for m in modules}
    tensors = {t.name.removesuffix(".weight"): t for t in reader.tensors if t.name != "rope_freqs.weight"}
    if ours.keys() != tensors.keys():
        sys.exit(f"different tensors: {ours.keys() ^ tensors.keys()}")

    figures = collections.defaultdict(lambda: [0, 0, 0.0, 0.0])
    for name, t in tensors.items():
        want = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        if arch == "gemma3" and name.endswith("norm"):
            want = want - np.float32(1)  # convert_hf_to_gguf.py adds it
        if arch == "llama" and name.endswith(("attn_q", "attn_k")):
            heads = "num_attention_heads" if name.endswith("q") else "num_key_value_heads"
            want = halves(want, config[heads])
        got, dtype = stored(weights, config, ours[name])
        if got.shape != want.shape or not np.array_equal(got, rounded(want, dtype)):
            sys.exit(f"{name} ({t.tensor_type.name}): differs")
        f = figures[t.tensor_type.name]
        off = np.abs(got - want)
        f[0], f[1], f[2] = f[0] + 1, f[1] + want.size, max(f[2], float(off.max()))
        if f[2] > 0:
            # The least step of a run of 16, which is in one block.
            run = np.sort(want.reshape(-1, 16), axis=1)
            gaps = np.diff(run, axis=1)
            step = np.where(gaps > 0, gaps, np.inf).min(axis=1)
            f[3] = max(f[3], float((off.reshape(-1, 16).max(axis=1) / step).max()))
    print(f"{'type':6}{'tensors':>8}{'weights':>12}{'largest difference':>20}{'of a step':>11}")
    for kind, (count, size, off, part) in sorted(figures.items()):
        print(f"{kind:6}{count:8}{size:12}{off:20.3g}{part:11.3g}")


main()

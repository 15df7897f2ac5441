#!/usr/bin/env python3
"""Writes the scores that other people's code gives for our checkpoints.

    goldens.py tiny  FOLDERS OUT.json    every checkpoint under FOLDERS
    goldens.py large FOLDER  OUT.json    one real model, unpacked to float32
    goldens.py gemma FOLDER  OUT.json    another one
    goldens.py convert FOLDERS OUT.json  what mlx-lm's convert makes of checkpoints

The reference is mlx-lm 0.32.0 on mlx 0.32.2, the mlx-lm that runs on the MLX
this program is built against. `go test ./engine -run Golden -goldens` writes
the tiny checkpoints and the prompts and calls this script.
"""

import hashlib
import importlib
import json
import pathlib
import shutil
import sys
import tempfile

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model, save_config, save_model

VERSIONS = {"mlx": "0.32.2", "mlx_lm": "0.32.0"}
GREEDY = 64
TOP = 64
PROJECTIONS = 8


def check_versions():
    got = {"mlx": mx.__version__, "mlx_lm": mlx_lm.__version__}
    if got != VERSIONS:
        sys.exit(f"want {VERSIONS}, got {got}")


def run(model, ids):
    """The scores after ids, and the greedy continuation one token at a time."""
    cache = make_prompt_cache(model)
    logits = model(mx.array([ids]), cache)[0, -1]
    scores, greedy = np.array(logits.astype(mx.float32)), []
    for _ in range(GREEDY):
        token = mx.argmax(logits).item()
        greedy.append(token)
        logits = model(mx.array([[token]]), cache)[0, -1]
    return scores, greedy


def short(values):
    return [float(f"{v:.7g}") for v in values]


def tiny(folder, prompts):
    model, _ = load_model(folder)
    model.set_dtype(mx.float32)  # packed weights stay; their results are not rounded
    out = []
    for ids in prompts:
        scores, greedy = run(model, ids)
        out.append({"prompt": len(ids), "logits": short(scores), "greedy": greedy})
    return out


def unpacked(folder):
    """A copy of the model with every weight as float32 and none quantized."""
    to = pathlib.Path(tempfile.mkdtemp())
    config = json.loads((folder / "config.json").read_text())
    top = config.pop("quantization", None)
    config.pop("quantization_config", None)
    config["torch_dtype"] = "float32"
    (to / "config.json").write_text(json.dumps(config))
    weights, tensors = mx.load(str(folder / "model.safetensors")), {}
    for name, value in weights.items():
        path, leaf = name.rsplit(".", 1)
        if f"{path}.scales" not in weights:
            tensors[name] = value.astype(mx.float32)
        elif leaf == "weight":
            how = top.get(path, top)
            tensors[name] = mx.dequantize(
                value,
                weights[f"{path}.scales"].astype(mx.float32),
                weights[f"{path}.biases"].astype(mx.float32),
                how["group_size"],
                how["bits"],
            )
    mx.save_safetensors(str(to / "model.safetensors"), tensors, {"format": "mlx"})
    return to


def projections(n):
    """Fixed vectors from a linear congruential generator, as the test has it."""
    state = np.uint32(1)
    rows = np.empty(PROJECTIONS * n)
    for i in range(rows.size):
        state = np.uint32((int(state) * 1664525 + 1013904223) & 0xFFFFFFFF)
        rows[i] = (int(state) >> 8) / (1 << 23) - 1
    return rows.reshape(PROJECTIONS, n) / np.sqrt(n)


def large(folder, prompts):
    copy = unpacked(folder)
    model, _ = load_model(copy)
    basis, out = None, []
    for ids in prompts:
        scores, greedy = run(model, ids)
        if basis is None:
            basis = projections(scores.size)
        top = np.argsort(-scores)[:TOP]
        out.append(
            {
                "prompt": len(ids),
                "top": [int(i) for i in top],
                "values": short(scores[top]),
                "projections": short(basis @ scores.astype(np.float64)),
                "greedy": greedy,
            }
        )
        print(f"{len(out)} of {len(prompts)}", file=sys.stderr)
    shutil.rmtree(copy)
    return out


def digest(value):
    """Type, shape and a hash of the bytes."""
    data = np.array(mx.contiguous(value).view(mx.uint8)).tobytes()
    shape = " ".join(map(str, value.shape))
    return f"{str(value.dtype).split('.')[-1]}[{shape}] {hashlib.sha256(data).hexdigest()[:12]}"


def convert(folder, to, options):
    """mlx-lm's convert without the tokenizer, which it only copies."""
    pipeline = importlib.import_module("mlx_lm.convert")
    def load(path, **_):
        model, config = load_model(pathlib.Path(path), lazy=True)
        return model, None, config

    def save(path, _, model, __, config):
        save_model(path, model)
        save_config(config, path / "config.json")

    pipeline.load, pipeline.save = load, save
    pipeline.convert(str(folder), to, **options)
    config = json.loads((to / "config.json").read_text())
    index = json.loads((to / "model.safetensors.index.json").read_text())
    weights = mx.load(str(to / "model.safetensors"))
    return {
        "tensors": {n: digest(weights[n]) for n in sorted(weights)},
        "quantization": config.get("quantization"),
        "quantization_config": config.get("quantization_config"),
        "index": index["metadata"],
    }


def conversions(folders, target, options):
    with tempfile.TemporaryDirectory() as to:
        cases = {n: convert(folders / n, pathlib.Path(to) / n, o) for n, o in sorted(options.items())}
    lines = [f"{json.dumps(n)}: {json.dumps(c, separators=(',', ':'))}" for n, c in cases.items()]
    target.write_text(json.dumps({"versions": VERSIONS})[:-1] + ', "cases": {\n' + ",\n".join(lines) + "\n}}\n")


def main():
    kind, folder, target = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    check_versions()
    mx.set_default_device(mx.cpu)
    prompts = json.loads(sys.stdin.read())
    if kind == "convert":
        return conversions(folder, target, prompts)
    real = kind in ("large", "gemma")
    if not real:
        cases = {f.name: tiny(f, prompts) for f in sorted(folder.iterdir()) if f.is_dir()}
    else:
        cases = {folder.name: large(folder, prompts)}
    folders = {f.name: f for f in ([folder] if real else folder.iterdir())}
    types = {n: json.loads((folders[n] / "config.json").read_text())["model_type"] for n in cases}
    out = {"versions": VERSIONS, "types": types, "cases": cases}
    text = json.dumps(out, separators=(",", ":"))
    target.write_text(text.replace('{"prompt"', '\n{"prompt"') + "\n")


main()

"""Write what mlx-lm's logits processors and filters make of scores.

Usage: goldens.py FILE.json.gz

Needs mlx 0.32.2 and mlx-lm 0.32.0. The scores are made here and in the test by
the same arithmetic, which float32 does without rounding. A case holds the
parameters, the tokens before, which tokens are left (bits in order of id, in
base64), and the probability after filters and temperature of some of those,
with their log-probability before both.
"""

import base64
import gzip
import importlib.metadata
import json
import math
import random
import sys

import mlx.core as mx
import numpy as np
from mlx_lm import sample_utils

assert importlib.metadata.version("mlx") == "0.32.2"
assert importlib.metadata.version("mlx-lm") == "0.32.0"

# What is drawn from, instead of a draw.
sample_utils.categorical_sampling = lambda logits, temp: logits * (1.0 / temp)


def numbers(seed):
    while True:
        seed = (seed * 1664525 + 1013904223) % 2**32
        yield seed >> 8


def plain(n, seed, unit):
    r = numbers(seed)
    return [(next(r) % 8193 - 4096) / unit for _ in range(n)]


def peaky():
    x = plain(97, 2, 4096)
    x[41] += 20
    return x


def holes():
    r = numbers(4)
    return [v if next(r) % 3 else -math.inf for v in plain(97, 3, 512)]


def lonely():
    return [1.25 if i == 17 else -math.inf for i in range(50)]


def ties(n, seed, levels):
    r = numbers(seed)
    return [(next(r) % levels - levels // 2) / 2 for _ in range(n)]


def wide():
    """Falls with the logarithm of the rank, as real scores do. Ranks are shuffled
    by a multiplication modulo a power of two."""
    x = []
    i = 0
    while len(x) < 49152:
        rank = i * 40503 % 65536 + 1
        i += 1
        if rank > 49152:
            continue
        e = rank.bit_length() - 1
        x.append(14 - 1.5 * (e + rank / 2**e - 1))
    return x


VECTORS = {
    "plain": plain(97, 1, 512),
    "peaky": peaky(),
    "flat": [1.5] * 64,
    "nearly flat": [i * 389 % 1024 / 2048 for i in range(1000)],
    "ties": ties(200, 5, 7),
    "two": [0.5, 0.5],
    "holes": holes(),
    "lonely": lonely(),
    "wide": wide(),
    "wide ties": ties(49152, 6, 31),
}

# Every parameter alone.
ALONE = (
    [{}]
    + [{"temp": t} for t in (0.1, 0.7, 1.5, 5, 100)]
    + [{"top_p": p} for p in (0, 0.01, 0.3, 0.5, 0.9, 0.95, 0.999, 1)]
    + [{"min_p": p} for p in (0.01, 0.05, 0.2, 1)]
    + [{"min_p": p, "min_tokens_to_keep": n} for p, n in ((0.5, 1), (0.5, 2), (1, 7), (0.9, 40))]
    + [{"xtc_probability": 1, "xtc_threshold": t} for t in (0, 0.01, 0.1, 0.5)]
    + [{"xtc_probability": 1, "xtc_threshold": 0.01, "spare": True}]
    + [{"top_k": k} for k in (1, 2, 5, 40)]
    + [{"bias": True}]
    + [{"repetition_penalty": p} for p in (0, 0.5, 1, 1.1, 2)]
    + [{"repetition_penalty": 1.3, "repetition_context_size": n} for n in (0, 1, 5, 1000)]
    + [{"presence_penalty": p} for p in (-1, 0, 0.5, 2)]
    + [{"presence_penalty": 0.75, "presence_context_size": n} for n in (0, 1, 5, 1000)]
    + [{"frequency_penalty": p} for p in (-0.5, 0, 0.25, 1)]
    + [{"frequency_penalty": 0.5, "frequency_context_size": n} for n in (0, 1, 5, 1000)]
)

CHOICES = {
    "temp": (0.2, 0.7, 1, 1.3, 3),
    "top_p": (0.1, 0.5, 0.8, 0.9, 0.95, 0.99),
    "min_p": (0.001, 0.02, 0.1, 0.3),
    "min_tokens_to_keep": (1, 3, 10),
    "xtc": ((1, 0.02), (1, 0.1), (1, 0.3)),
    "top_k": (1, 3, 10, 40),
    "spare": (True,),
    "bias": (True,),
    "repetition_penalty": (0.8, 1.1, 1.5),
    "repetition_context_size": (0, 4, 20, 64),
    "presence_penalty": (-0.5, 0.5, 1.5),
    "presence_context_size": (0, 4, 20, 64),
    "frequency_penalty": (-0.25, 0.25, 1),
    "frequency_context_size": (0, 4, 20, 64),
}


def combinations(n):
    rng = random.Random(4)
    for i in range(n):
        case = {}
        for name, values in CHOICES.items():
            if rng.random() < 0.5:
                value = rng.choice(values)
                case.update({"xtc_probability": value[0], "xtc_threshold": value[1]} if name == "xtc" else {name: value})
        yield case


def before(x):
    """30 tokens with the best ones among them, some of them several times."""
    best = sorted(range(len(x)), key=lambda i: -x[i])[:3]
    r = numbers(7)
    return [best[next(r) % len(best)] if next(r) % 3 == 0 else next(r) % len(x) for _ in range(30)]


def apart(values, threshold):
    """Whether no value is so close to a threshold that rounding decides."""
    return np.all(np.abs(np.asarray(values, np.float64) - threshold) > 1e-4 * abs(threshold))


def settle(case, x):
    """Move thresholds off the places where rounding would decide about a token.
    The filters are looked at one by one, as mlx-lm goes through them."""
    x = np.asarray(x, np.float64)
    if 0 < case.get("top_p", 0) < 1:
        p = np.exp(x - np.logaddexp.reduce(x))
        values, inverse = np.unique(p, return_inverse=True)
        mass = np.bincount(inverse, p)[::-1]
        above = np.cumsum(mass) - mass
        # The last group of equal tokens that begins within top_p: its middle.
        at = np.searchsorted(above, case["top_p"]) - 1
        case["top_p"] = float(np.float32(above[at] + mass[at] / 2))
        assert mass[at] > 2e-5, "the edge of the nucleus is within the rounding of float32"
        x = np.where(p >= values[::-1][at], x, -np.inf)
    if 0 < case.get("min_p", 0) < 1:
        finite = x[np.isfinite(x)] - x.max()
        while not np.all(np.abs(finite - math.log(case["min_p"])) > 1e-4):
            case["min_p"] *= 1.001
        case["min_p"] = float(np.float32(case["min_p"]))
        kept = x - x.max() >= math.log(case["min_p"])
        kept[np.argsort(-x, kind="stable")[: case.get("min_tokens_to_keep", 1)]] = True
        x = np.where(kept, x, -np.inf)
    if case.get("xtc_probability") and case["xtc_threshold"] > 0:
        p = np.exp(x - np.logaddexp.reduce(x))
        while not apart(p, case["xtc_threshold"]) and case["xtc_threshold"] < 0.5:
            case["xtc_threshold"] *= 1.001
        case["xtc_threshold"] = float(np.float32(case["xtc_threshold"]))


def run(name, case):
    case = dict(case)
    x = VECTORS[name]
    tokens = before(x)
    if "min_tokens_to_keep" in case and case["min_tokens_to_keep"] >= len(x):
        del case["min_tokens_to_keep"]
    if case.get("top_k", 0) >= len(x):
        del case["top_k"]
    temp = case.pop("temp", 1)
    spare = [tokens[0], 5] if case.pop("spare", False) and len(x) > 5 else []
    bias = {tokens[1]: 2.5, 0: -1.5, len(x) - 1: 100.0} if case.pop("bias", False) else {}
    processing = {k: v for k, v in case.items() if "penalty" in k or "context" in k}
    logits = mx.array([x], mx.float32)
    history = mx.array(tokens, mx.uint32)
    for processor in sample_utils.make_logits_processors(logit_bias=bias, **processing):
        logits = processor(history, logits)
    settle(case, np.array(logits)[0])
    filtering = {k: v for k, v in case.items() if k not in processing}
    logprobs = logits - mx.logsumexp(logits, keepdims=True)
    sampler = sample_utils.make_sampler(temp=temp, xtc_special_tokens=spare, **filtering)
    left = np.array(sampler(logprobs))[0].astype(np.float64)
    kept = np.flatnonzero(np.isfinite(left))
    probabilities = np.exp(left - np.logaddexp.reduce(left))
    some = kept[np.unique(np.linspace(0, len(kept) - 1, 64).astype(int))]
    return {
        "scores": name,
        "tokens": tokens,
        "temp": temp,
        **({"bias": [[k, v] for k, v in bias.items()]} if bias else {}),
        **({"spare": spare} if spare else {}),
        **case,
        "kept": base64.b64encode(np.packbits(np.isfinite(left), bitorder="little").tobytes()).decode(),
        "ids": some.tolist(),
        "probabilities": [float(f"{v:.9g}") for v in probabilities[some]],
        "logprobs": [float(f"{v:.9g}") for v in np.array(logprobs)[0][some].astype(np.float64)],
    }


def main():
    alone, combined = [], []
    for name in VECTORS:
        for case in ALONE:
            alone.append((name, case))
    names = list(VECTORS)
    for i, case in enumerate(combinations(160)):
        combined.append((names[i % len(names)], case))
    out = {
        "versions": {p: importlib.metadata.version(p) for p in ("mlx", "mlx-lm")},
        "alone": [],
        "combined": [],
    }
    for kind, cases in (("alone", alone), ("combined", combined)):
        for name, case in cases:
            try:
                out[kind].append(run(name, case))
            except AssertionError as e:
                print(f"{name} {case}: left out: {e}", file=sys.stderr)
    text = json.dumps(out, separators=(",", ":")).encode()
    with open(sys.argv[1], "wb") as f:
        # No name and no time, so that the same goldens are the same bytes.
        with gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
            z.write(text)
    print({k: len(out[k]) for k in ("alone", "combined")}, len(text), file=sys.stderr)


main()

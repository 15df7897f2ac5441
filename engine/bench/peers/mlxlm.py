"""mlx-lm as a peer: its generate_step, on a folder of weights in its format.

Settings: {"model": folder, "device": "cpu" or "gpu"}
"""

settings = json.loads(sys.argv[1])
model = None


def describe():
    import mlx.core as mx

    if settings["device"] == "cpu":
        mx.set_default_device(mx.cpu)  # before mlx_lm makes its stream
    import mlx_lm
    import mlx_lm.generate

    return {
        "version": mlx_lm.__version__,
        "details": {
            "mlx": mx.__version__,
            "blas": loaded_library("openblas"),
            "device": str(mx.default_device()),
        },
    }


def load(request):
    import gc
    import pathlib

    import mlx.core as mx
    from mlx_lm.utils import load_model

    global model
    model = None
    gc.collect()
    mx.clear_cache()
    start = time.perf_counter()
    model, _ = load_model(pathlib.Path(settings["model"]))
    return {"load_ms": (time.perf_counter() - start) * 1e3}


def generate_ids(request):
    import mlx.core as mx
    from mlx_lm.generate import generate_step, generation_stream
    from mlx_lm.sample_utils import make_sampler

    mx.random.seed(request["seed"])
    prompt = mx.array(request["prompt"])
    mx.eval(prompt)
    sampler = make_sampler(request["temperature"])
    steps = generate_step(prompt, model, max_tokens=request["tokens"], sampler=sampler)
    reply = generate((token for token, _ in steps), request)
    # The step after the last token is under way. It is not timed, and it must not
    # run while the next program is measured.
    mx.synchronize(generation_stream)
    mx.clear_cache()
    return reply


serve(
    describe,
    {"load": load, "generate": generate_ids, "memory": lambda _: {"peak_bytes": peak_bytes()}},
)

"""llama.cpp as a peer, through llama-cpp-python, on a GGUF file.

Settings: {"model": file, "threads": n, "context": tokens, "device": "cpu" or "gpu"}
"""

settings = json.loads(sys.argv[1])
model = None


def describe():
    import llama_cpp

    return {
        "version": llama_cpp.__version__,
        "details": {"system": llama_cpp.llama_print_system_info().decode().strip()},
    }


def load(request):
    import gc

    from llama_cpp import Llama

    global model
    if model is not None:
        model.close()
    model = None
    gc.collect()
    start = time.perf_counter()
    model = Llama(
        settings["model"],
        n_ctx=settings["context"],
        n_threads=settings["threads"],
        n_threads_batch=settings["threads"],
        n_gpu_layers=-1 if settings["device"] == "gpu" else 0,
        verbose=False,
    )
    return {"load_ms": (time.perf_counter() - start) * 1e3}


def generate_ids(request):
    model.reset()  # or it would keep the prompt of the last time
    model.set_seed(request["seed"] & 0xFFFFFFFF)
    # Everything off but the temperature.
    steps = model.generate(
        request["prompt"], temp=request["temperature"], top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0
    )
    return generate(steps, request)


serve(
    describe,
    {"load": load, "generate": generate_ids, "memory": lambda _: {"peak_bytes": peak_bytes()}},
)

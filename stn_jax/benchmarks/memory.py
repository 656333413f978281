"""Peak memory of a training step, each in a process of its own."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from ml_collections import ConfigDict

STEPS = 5


def peaks(config: ConfigDict) -> dict[str, float | None]:
    """Return the MiB that training a config's network adds, by contender.

    On a GPU, what the framework's allocator held at most; on a CPU, what the process grew by
    between having imported everything and having taken some steps. Both with compilation. None of
    a contender whose process died, as without enough memory.
    """
    return {name: _in_own_process(name, config) for name in ("stn_jax", "PyTorch")}


def _in_own_process(name: str, config: ConfigDict) -> float | None:
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as pool:
        try:
            return pool.submit(_peak, name, config).result() / 2**20
        except (BrokenProcessPool, MemoryError, RuntimeError):
            return None


def _peak(name: str, config: ConfigDict) -> int:
    import jax
    import torch

    from stn_jax.benchmarks import training
    from stn_jax.launch.memory import keep_freed_memory

    keep_freed_memory()
    jax.numpy.zeros(1).block_until_ready()
    on_gpu = jax.default_backend() == "gpu" if name == "stn_jax" else torch.cuda.is_available()
    if not on_gpu:
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # Forget the peak that the imports left.
    build = training.jax_step if name == "stn_jax" else training.torch_step
    contender = build(config)
    for _ in range(STEPS):
        contender.wait(contender.call())
    if not on_gpu:
        return _status("VmHWM") - before
    if name == "stn_jax":
        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    return torch.cuda.max_memory_allocated()


def _status(name: str) -> int:
    """Return one of the kernel's numbers on this process's memory, in bytes; Linux only."""
    text = Path("/proc/self/status").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024

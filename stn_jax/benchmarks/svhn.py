"""Rows on house numbers: what transformers cost (Sect. 4.2: 6 %), how fast batches are read."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax.benchmarks.cost import svhn_training
from stn_jax.benchmarks.timing import Contender, Row
from stn_jax.data import svhn_views
from stn_jax.data.svhn import MAX_DIGITS, SIZES, Numbers
from stn_jax.data.svhn_selection import Selection
from stn_jax.training.streaming import NUM_AHEAD, stream

MODELS = {"CNN": "CNN", "ST-CNN Single": "Single", "ST-CNN Multi": "Multi"}
# Images of a batch by their side in px. A.5 has 128, which take a CPU minutes. Of fewer images the
# dense layers' weights cost each a larger share, and the transformers so a smaller one. At 128 px,
# 32 would need buffers of over 2 GiB, which the C library maps anew in every call.
CPU_BATCH_SIZES = {64: 32, 128: 16}
# Of the paper, and of the config: what a step of the paper's recipe waits for.
BATCH_SIZE, STEPS_PER_CALL = 128, 10
# Of training, timed together: more than what was read ahead before the clock started.
NUM_CALLS = 2 * NUM_AHEAD
NUM_STREAMED = 4096  # images to read from: they are in the system's memory after the first time


def svhn_rows(get_config: Callable[[str], ConfigDict]) -> Iterator[Row]:
    """Yield forward and backward of the three networks of Table 2 at each size.

    Args:
      get_config: of SVHN.
    """
    for size, cpu_batch_size in CPU_BATCH_SIZES.items():
        batch_size = cpu_batch_size if jax.default_backend() == "cpu" else 128
        contenders = {
            name: partial(forward_and_backward, get_config(f"{model},{size}px"), batch_size)
            for name, model in MODELS.items()
        }
        yield Row(f"{size} px, batch {batch_size}", "forward and backward", contenders)


def forward_and_backward(config: ConfigDict, batch_size: int) -> Contender:
    """Return the loss and its gradient of a config's network, on images of noise."""
    training = svhn_training(config)
    batch = jax.tree.map(jnp.asarray, training.noise(np.random.default_rng(0), batch_size))
    params, state = jax.jit(training.model.init)(jax.random.key(0))
    step = jax.jit(jax.value_and_grad(training.loss, has_aux=True))
    return Contender(partial(step, params, state, batch, jax.random.key(1)), jax.block_until_ready)


def input_rows() -> Iterator[Row]:
    """Yield reading batches of the paper's size ahead of the steps, at each size of the crops."""
    for size in SIZES:
        contenders = {"stn_jax": partial(reading, size)}
        yield Row(f"{size} px, batch {BATCH_SIZE}", "read a batch", contenders)


def reading(size: int) -> Contender:
    """Return the stream of batches that training reads from disk, of images of noise."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "images.npy"
    random = np.random.default_rng(0)
    np.save(path, random.integers(0, 256, (NUM_STREAMED, size, size, 3), np.uint8))
    labels = random.integers(0, 10, (NUM_STREAMED, MAX_DIGITS)).astype(np.uint8)
    numbers = Numbers(np.load(path, mmap_mode="r"), labels, np.zeros((NUM_STREAMED, 4), np.float32))
    folder.cleanup()  # The map keeps what it needs.
    read = partial(svhn_views.read_batch, numbers=Selection([numbers]), batch_size=BATCH_SIZE)
    calls = stream(read, [0], start=0, stop=10**9, steps_per_call=STEPS_PER_CALL)

    def call() -> Numbers:
        for _ in range(NUM_CALLS - 1):
            next(calls)
        return next(calls)

    return Contender(call, lambda batches: batches, units=NUM_CALLS * STEPS_PER_CALL)

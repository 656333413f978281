"""How fast batches of the papers' sizes are read from disk, ahead of the steps."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stn_jax.benchmarks.timing import Contender, Row
from stn_jax.data import cub_views, svhn, svhn_views
from stn_jax.data.cub import Birds
from stn_jax.data.svhn_selection import Selection
from stn_jax.training.streaming import NUM_AHEAD, stream

# Calls that are timed together: more than what was read ahead before the clock started.
NUM_CALLS = 2 * NUM_AHEAD
# Of the paper, and of the configs: what a step of the paper's recipe waits for.
NUMBERS_BATCH, NUMBERS_STEPS = 128, 10
BIRDS_BATCH, BIRDS_STEPS = 256, 1
BIRDS_SIZES = {224: 256, 448: 512}  # side of the crops -> shorter side of the images
# Images to read from: they are in the system's memory after the first time.
NUM_NUMBERS, NUM_BIRDS = 4096, 512


def input_rows() -> Iterator[Row]:
    """Yield reading a batch of house numbers and of birds, at each size of their crops."""
    for size in svhn.SIZES:
        contenders = {"stn_jax": partial(numbers, size)}
        yield Row(f"{size} px, batch {NUMBERS_BATCH}", "read a batch", contenders)
    for crop in BIRDS_SIZES:
        contenders = {"stn_jax": partial(birds, crop)}
        yield Row(f"birds, {crop} px, batch {BIRDS_BATCH}", "read a batch", contenders)


def numbers(size: int, *, count: int = NUM_NUMBERS) -> Contender:
    """Return the stream of batches that training on house numbers reads, of images of noise."""
    random = np.random.default_rng(0)
    images = _on_disk(random, count, (size, size, 3))
    labels = random.integers(0, 10, (count, svhn.MAX_DIGITS)).astype(np.uint8)
    source = svhn.Numbers(images, labels, np.zeros((count, 4), np.float32))
    read = partial(svhn_views.read_batch, numbers=Selection([source]), batch_size=NUMBERS_BATCH)
    return _reading(read, NUMBERS_STEPS)


def birds(crop: int, *, count: int = NUM_BIRDS) -> Contender:
    """Return the stream of batches that training on birds reads, of images of noise, 3 to 4."""
    random = np.random.default_rng(0)
    shorter = BIRDS_SIZES[crop]
    shape = (shorter, shorter * 4 // 3, 3)
    source = Birds(
        pixels=_on_disk(random, count, shape).reshape(-1),
        start=np.arange(count, dtype=np.int64) * np.prod(shape),
        shape=np.tile(np.int32(shape[:2]), (count, 1)),
        label=random.integers(0, 200, count, np.int32),
        id=np.arange(count, dtype=np.int32),
    )
    read = partial(cub_views.read_batch, birds=source, crop=crop, batch_size=BIRDS_BATCH)
    return _reading(read, BIRDS_STEPS)


def _on_disk(random: np.random.Generator, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return memory-mapped noise [count, *shape]."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *shape))
        for image in images:
            image[:] = random.integers(0, 256, shape, np.uint8)
        images.flush()
        return np.load(path, mmap_mode="r")  # the map keeps what it needs


def _reading(read: Callable[[jax.Array], Any], steps_per_call: int) -> Contender:
    calls = stream(read, [0], start=0, stop=10**9, steps_per_call=steps_per_call)

    def call() -> Any:
        for _ in range(NUM_CALLS - 1):
            next(calls)
        return next(calls)

    return Contender(call, lambda batches: batches, units=NUM_CALLS * steps_per_call)

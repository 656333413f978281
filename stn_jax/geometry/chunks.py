"""Sampling a few images at a time, as many as a CPU's cache holds."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stn_jax.geometry.checks import are_known, at_least_float32

# Measured on a processor with 1 MiB of cache a core, and 32 MiB that cores share.
_CHUNK_BYTES = 5 * 2**20
_LEAST_BYTES = 2**24  # Smaller batches gain nothing.
_MOST_CHANNELS = 4  # Pixels with more are read fast enough from memory as they are.


def in_chunks(
    function: Callable[[jnp.ndarray, jnp.ndarray], jnp.ndarray],
    image: jnp.ndarray,
    grid: jnp.ndarray,
) -> jnp.ndarray:
    """Call a function of images [B, ..., C] and grids [B, ..., N], on CPUs in chunks of the batch.

    Each chunk of the images is copied, which streams it into the cache, where the points find it in
    any order: half the time for rotated images of 448x448. That is done for many pixels of few
    channels, most of which are read, and where no derivative is taken: derivatives take longer in
    chunks.
    """
    count = _chunk(image, grid)
    if count == image.shape[0]:
        return function(image, grid)

    @jax.custom_jvp
    def undifferentiated(image, grid):
        return jax.lax.platform_dependent(image, grid, cpu=chunked, default=function)

    def chunked(*arrays):
        chunks = [array.reshape(-1, count, *array.shape[1:]) for array in arrays]
        out = jax.lax.map(lambda chunk: function(*chunk), chunks)
        return out.reshape(-1, *out.shape[2:])

    def jvp(primals, tangents):
        moving = [i for i, dot in enumerate(tangents) if not isinstance(dot, SymbolicZero)]

        def of_moving(*values):
            arguments = list(primals)
            for i, value in zip(moving, values, strict=True):
                arguments[i] = value
            return function(*arguments)

        return jax.jvp(of_moving, [primals[i] for i in moving], [tangents[i] for i in moving])

    undifferentiated.defjvp(jvp, symbolic_zeros=True)
    return undifferentiated(image, grid)


def _chunk(image: jnp.ndarray, grid: jnp.ndarray) -> int:
    """Return how many images a chunk has: all, where chunks gain nothing."""
    batch, *_, channels = image.shape
    # Each of several devices has a part of the batch already; one of any size cannot be divided.
    if jax.device_count() > 1 or not are_known((*image.shape, *grid.shape)):
        return batch
    in_bytes = image.size * at_least_float32(image.dtype).itemsize
    if in_bytes < _LEAST_BYTES or channels > _MOST_CHANNELS:
        return batch
    points, pixels = grid.size // grid.shape[-1], image.size // channels
    if 4 * points < pixels:
        return batch
    most = _CHUNK_BYTES * batch // in_bytes
    count = max((n for n in range(1, min(batch, most) + 1) if batch % n == 0), default=0)
    # Otherwise one image is too large, or no divisor of the batch is near the best size.
    return count if count >= max(1, most / 2) else batch

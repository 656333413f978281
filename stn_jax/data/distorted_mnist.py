"""Distorted MNIST (Sect. 4.1): endless training batches and one fixed test set."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from stn_jax.data.distortions import Distortion

NUM_CHANNELS, NUM_CLASSES = 1, 10
# The test digits are distorted once with this key, the same for every model and seed.
TEST_KEY = 2015


class Labelled(NamedTuple):
    """Images with their labels; also the form of a data set that lives on the device.

    Attributes:
      image: [N, H, W, C]; uint8 (0 to 255) for digits, float32 (0 to 1) once distorted.
      label: [N] int32.
    """

    image: jax.Array
    label: jax.Array


def training_batch(
    key: jax.Array, digits: Labelled, *, distortion: Distortion, batch_size: int
) -> Labelled:
    """Draw digits uniformly with replacement and distort each afresh.

    Args:
      key: decides which digits, and each one's distortion.
      digits: the training digits, uint8 [N, 28, 28, 1].
      distortion: how they are distorted.
      batch_size: examples in the batch.

    Returns:
      The batch; images float32 [batch_size, size, size, 1].
    """
    index_key, distortion_key = jax.random.split(key)
    index = jax.random.randint(index_key, (batch_size,), 0, digits.label.shape[0])
    keys = jax.random.split(distortion_key, batch_size)
    images = digits.image[index].astype(jnp.float32) / 255
    images = distortion(keys, images, digits=digits.image, own=index)
    return Labelled(images, digits.label[index])


def fixed_keys(index: jax.Array) -> jax.Array:
    """Return the keys [N] that `fixed_set` distorts the digits at index [N] with."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(TEST_KEY), index)


def fixed_set(
    digits: Labelled,
    clutter: jax.Array,
    *,
    distortion: Distortion,
    index: Sequence[int] | None = None,
    chunk: int = 1000,
) -> Labelled:
    """Distort every digit once, with a fixed key each, independent of model, seed and chunking.

    Args:
      digits: the test (or validation) digits, uint8 [N, 28, 28, 1].
      clutter: the training digits, uint8 [M, 28, 28, 1], that TC's patches are cut from.
      distortion: how they are distorted.
      index: of these digits only, just as they are in the whole set; by default all.
      chunk: examples distorted at a time.

    Returns:
      The set; images float32 [N, size, size, 1].
    """
    index = jnp.arange(digits.label.shape[0]) if index is None else jnp.asarray(index)
    parts = [index[start : start + chunk] for start in range(0, index.size, chunk)]
    images = [_distort(part, digits.image[part], clutter, distortion) for part in parts]
    return Labelled(jnp.concatenate(images), digits.label[index])


# A function of its own: compiled once however often the set is asked for, and without the clutter
# as a constant in it.
@functools.partial(jax.jit, static_argnums=3)
def _distort(
    index: jax.Array, images: jax.Array, clutter: jax.Array, distortion: Distortion
) -> jax.Array:
    images = images.astype(jnp.float32) / 255
    return distortion(fixed_keys(index), images, digits=clutter, own=index)

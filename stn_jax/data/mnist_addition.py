"""MNIST addition (A.1): two distorted digits, one a channel; the label is their sum.

The paper does not say how digits are paired. Training pairs are drawn independently, uniformly
and with replacement. Test pair i joins example i of the distorted MNIST test set with another
example of it, which a fixed permutation names: each distorted test digit is once in either channel.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from stn_jax.data import distorted_mnist
from stn_jax.data.distorted_mnist import TEST_KEY, Labelled
from stn_jax.data.distortions import Distortion

NUM_CHANNELS, NUM_CLASSES = 2, 19


def training_batch(
    key: jax.Array, digits: Labelled, *, distortion: Distortion, batch_size: int
) -> Labelled:
    """Draw pairs of digits, and distort each digit afresh.

    Args:
      key: decides which digits, and each one's distortion.
      digits: the training digits, uint8 [N, 28, 28, 1].
      distortion: how they are distorted.
      batch_size: pairs in the batch.

    Returns:
      The batch; images float32 [batch_size, size, size, 2], labels 0 to 18.
    """
    return _add(
        *(
            distorted_mnist.training_batch(
                channel_key, digits, distortion=distortion, batch_size=batch_size
            )
            for channel_key in jax.random.split(key)
        )
    )


def fixed_pairs(count: int) -> jax.Array:
    """Return the digits of each test pair: int32 [count, 2], one a channel, never the same twice.

    `distorted_mnist.fixed_keys` of them are the keys of the channels' distortions.
    """
    order = jax.random.permutation(jax.random.key(TEST_KEY), count)
    # Each goes with the next in the order: one cycle, so none stays in its place.
    partner = jnp.zeros_like(order).at[order].set(jnp.roll(order, -1))
    return jnp.stack([jnp.arange(count), partner], axis=1)


def fixed_set(
    digits: Labelled,
    clutter: jax.Array,
    *,
    distortion: Distortion,
    index: Sequence[int] | None = None,
    chunk: int = 1000,
) -> Labelled:
    """Make as many pairs as there are digits, the same for every model and seed.

    Args:
      digits: the test (or validation) digits, uint8 [N, 28, 28, 1].
      clutter: the training digits, uint8 [M, 28, 28, 1], for distortions that add clutter.
      distortion: how they are distorted.
      index: of these pairs only, just as they are in the whole set; by default all.
      chunk: examples distorted at a time.

    Returns:
      The set; images float32 [N, size, size, 2], labels 0 to 18.
    """
    pairs = fixed_pairs(digits.label.shape[0])
    pairs = pairs if index is None else pairs[jnp.asarray(index)]
    return _add(
        *(
            distorted_mnist.fixed_set(
                digits, clutter, distortion=distortion, index=channel, chunk=chunk
            )
            for channel in pairs.T
        )
    )


def _add(first: Labelled, second: Labelled) -> Labelled:
    images = jnp.concatenate([first.image, second.image], axis=-1)
    return Labelled(images, first.label + second.label)

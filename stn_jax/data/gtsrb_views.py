"""Training batches of traffic signs, moved and brightened a little at random if asked for.

The published recipe has no augmentation; the motions here are ours, and off by default.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from stn_jax import geometry
from stn_jax.data.distorted_mnist import Labelled


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """How far training images are moved and brightened; nothing by default.

    Attributes:
      rotation: largest angle, either way, in degrees.
      scale: largest factor of enlargement; its inverse is the least. 1 or more.
      shift: largest motion along either axis, as a part of the image's side.
      brightness: largest factor on the intensities, as with scale; what exceeds white is cut off.
    """

    rotation: float = 0.0
    scale: float = 1.0
    shift: float = 0.0
    brightness: float = 1.0

    def __post_init__(self):
        """Check the fields."""
        if min(self.rotation, self.shift) < 0 or min(self.scale, self.brightness) < 1:
            raise ValueError(
                "rotation and shift must not be negative, scale and brightness are factors of 1 or "
                f"more; got {self}."
            )


def training_batch(key: jax.Array, signs: Labelled, *, jitter: Jitter, batch_size: int) -> Labelled:
    """Draw signs uniformly with replacement, and jitter each.

    Args:
      key: decides which signs, and each one's motion and brightness.
      signs: the training signs, uint8 [N, S, S, 3].
      jitter: how far they are moved.
      batch_size: signs in the batch.

    Returns:
      The batch; images float32 [batch_size, S, S, 3], 0 to 1.
    """
    index_key, jitter_key = jax.random.split(key)
    index = jax.random.randint(index_key, (batch_size,), 0, signs.label.shape[0])
    images = signs.image[index].astype(jnp.float32) / 255
    if jitter != Jitter():
        images = _jitter(jitter_key, images, jitter)
    return Labelled(images, signs.label[index])


def _jitter(key: jax.Array, images: jax.Array, jitter: Jitter) -> jax.Array:
    draws = jax.random.uniform(key, (len(images), 5), minval=-1, maxval=1)
    angle = draws[:, :1] * (jnp.pi / 180 * jitter.rotation)
    scale = jitter.scale ** draws[:, 1:2]
    # The image's side is 2 in normalised coordinates, with +-1 at its outer edges.
    shift = draws[:, 2:4] * (2 * jitter.shift)
    theta = jnp.concatenate([angle, scale, shift], axis=-1)
    grid = geometry.similarity_grid(theta, images.shape[1:3], align_corners=False)
    # What comes in from outside continues the image: it has no black border to be recognised by.
    moved = geometry.sample(images, grid, padding="border", align_corners=False)
    brightness = (jitter.brightness ** draws[:, 4]).reshape(-1, 1, 1, 1)
    return jnp.clip(moved * brightness, 0, 1)

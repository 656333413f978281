"""What the networks see of house numbers: crops with their mean taken off, or placed on canvases.

The sources give neither intensities nor augmentation for SVHN. Here, as Goodfellow et al. (2013)
did it, each image has its mean taken off; their random windows are a setting, off by default.
Canvases are no part of the paper: they make an image in which the number has to be found, out of
crops that show little besides it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stn_jax import geometry
from stn_jax.data.svhn import Numbers
from stn_jax.data.svhn_selection import Selection

# Numbers that are evaluated on are placed once with this key, the same for every model and seed.
TEST_KEY = 2015


class Indexed(NamedTuple):
    """Numbers that are evaluated on, and which of their set they are: int32 [N]."""

    numbers: Numbers
    index: jax.Array


@dataclass(frozen=True, kw_only=True)
class View:
    """How prepared crops become a network's input.

    Attributes:
      window: side of the square window that is cut from the crop, at random in training and from
        the middle otherwise; in pixels. 0: the whole crop.
      canvas: side of the image that the window is then put on, in pixels. 0: the window itself.
      scale: on a canvas, least and largest side of the window, as a part of the canvas's; drawn
        uniformly, and so is the place, wholly inside.
    """

    window: int = 0
    canvas: int = 0
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self):
        """Check the fields."""
        if min(self.window, self.canvas) < 0:
            raise ValueError(f"window and canvas are sides in pixels, or 0, got {self}.")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be two numbers, 0 < least <= largest <= 1; got {self}.")
        if not self.canvas and self.scale != (1.0, 1.0):
            raise ValueError(f"without a canvas there is no scale; got {self}.")

    def input_size(self, crop: int) -> int:
        """Return the side of the input that a crop of a side becomes.

        Raises:
          ValueError: if the window is larger than the crop.
        """
        if self.window > crop:
            raise ValueError(f"a window of {self.window} px does not fit in a crop of {crop} px.")
        return self.canvas or self.window or crop


def choose(key: jax.Array, count: int, *, batch_size: int) -> jax.Array:
    """Draw which numbers are in a batch: int32 [batch_size], uniformly with replacement."""
    index_key, _ = jax.random.split(key)
    return jax.random.randint(index_key, (batch_size,), 0, count)


def read_batch(key: jax.Array, numbers: Selection, *, batch_size: int) -> Numbers:
    """Read on the host the numbers that `training_batch` would take with the same key."""
    return numbers.read(np.asarray(choose(key, len(numbers), batch_size=batch_size)))


def training_batch(key: jax.Array, numbers: Numbers, *, view: View, batch_size: int) -> Numbers:
    """Draw numbers and a view of each.

    Args:
      key: decides which numbers, and each one's view.
      numbers: the training set, uint8.
      view: how crops become inputs.
      batch_size: numbers in the batch.

    Returns:
      The batch; images float32 [batch_size, S, S, 3], boxes in their pixels.
    """
    index = choose(key, len(numbers.label), batch_size=batch_size)
    return training_views(key, Numbers(*(field[index] for field in numbers)), view=view)


def training_views(key: jax.Array, numbers: Numbers, *, view: View) -> Numbers:
    """Draw a view of each number of a batch that was chosen before: see `training_batch`."""
    _, view_key = jax.random.split(key)
    keys = jax.random.split(view_key, len(numbers.label))
    return _look(keys, numbers, view, random_window=True)


def fixed_views(numbers: Indexed, *, view: View) -> Numbers:
    """Show numbers that are evaluated on: always in the same view, whatever the batch."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(TEST_KEY), numbers.index)
    return _look(keys, numbers.numbers, view, random_window=False)


def _look(keys: jax.Array, numbers: Numbers, view: View, *, random_window: bool) -> Numbers:
    images = numbers.image.astype(jnp.float32) / 255
    images = images - jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    boxes = jnp.asarray(numbers.box, jnp.float32)
    window_keys, place_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    if view.window:
        room = images.shape[1] - view.window
        corners = jnp.full((len(keys), 2), room // 2)
        if random_window:
            corners = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, room + 1))(window_keys)
        images = jax.vmap(lambda x, at: _window(x, at, view.window))(images, corners)
        boxes = boxes - jnp.tile(corners, 2)
    if view.canvas:
        images, boxes = _place(place_keys, images, boxes, view)
    return Numbers(images, jnp.asarray(numbers.label, jnp.int32), boxes)


def _window(image: jax.Array, corner: jax.Array, side: int) -> jax.Array:
    return jax.lax.dynamic_slice(image, (corner[1], corner[0], 0), (side, side, image.shape[2]))


def _place(
    keys: jax.Array, images: jax.Array, boxes: jax.Array, view: View
) -> tuple[jax.Array, jax.Array]:
    """Put images on canvases whose background is their mean, which is 0 by now."""

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        scale_key, shift_key = jax.random.split(key)
        scale = jax.random.uniform(scale_key, (1,), minval=view.scale[0], maxval=view.scale[1])
        return scale, jax.random.uniform(shift_key, (2,), minval=-1, maxval=1) * (1 - scale)

    scale, shift = jax.vmap(draw)(keys)
    # -1 and +1 are outer edges here: half of the canvas is as many pixels, wherever it lies.
    theta = jnp.concatenate([1 / scale, -shift / scale], axis=-1)
    shape = (view.canvas, view.canvas)
    grid = geometry.attention_grid(theta, shape, align_corners=False)
    placed = geometry.sample(images, grid, align_corners=False)
    # Below half its size, the crop's bilinear taps would leave pixels out: it is halved before.
    side = images.shape[1]
    if side % 2 == 0:
        quarters = images.reshape(len(images), side // 2, 2, side // 2, 2, images.shape[-1])
        halved = geometry.sample(jnp.mean(quarters, axis=(2, 4)), grid, align_corners=False)
        small = scale * view.canvas < side / 2
        placed = jnp.where(small[:, :, None, None], halved, placed)
    centred = boxes * (2 / side) - 1
    return placed, (centred * scale + jnp.tile(shift, 2) + 1) * (view.canvas / 2)

"""What the networks see of the birds: random crops and reflections in training, the central crop.

A.6: 224x224 from images whose shorter side is 256, or 448x448 from 512, at a random place, and
horizontal flips. How images are cropped at test time is not said: one central crop, here.
"""

import jax
import numpy as np

from stn_jax.data.cub import Birds
from stn_jax.data.distorted_mnist import Labelled


def read_batch(key: jax.Array, birds: Birds, *, crop: int, batch_size: int) -> Labelled:
    """Read a training batch on the host: birds drawn uniformly with replacement.

    Args:
        key: decides which birds, where each is cropped, and which are flipped: half of them.
        birds: the training set.
        crop: side of the crops in pixels.
        batch_size: birds in the batch.

    Returns:
        Host arrays; images uint8 [batch_size, crop, crop, 3], labels int32.

    Raises:
        ValueError: the crop is larger than the images.
    """
    index_key, corner_key, flip_key = jax.random.split(key, 3)
    index = np.asarray(jax.random.randint(index_key, (batch_size,), 0, len(birds.label)))
    room = _room(birds.shape[index], crop)
    corner = np.asarray(jax.random.randint(corner_key, (batch_size, 2), 0, room + 1))
    flip = np.asarray(jax.random.bernoulli(flip_key, shape=(batch_size,)))
    return _read(birds, index, corner, flip, crop)


def read_central(index: np.ndarray, birds: Birds, *, crop: int) -> Labelled:
    """Read the central crops of some birds: int [n].

    Returns and raises what `read_batch` does.
    """
    corner = central_corner(birds.shape[index], crop)
    return _read(birds, index, corner, np.zeros(len(index), bool), crop)


def central_corner(shape: np.ndarray, crop: int) -> np.ndarray:
    """Return where the central crop begins, int [N, 2] (y, x), in images of a shape [N, 2] (H, W).

    Raises:
        ValueError: the crop is larger than an image.
    """
    return _room(shape, crop) // 2


def _room(shape: np.ndarray, crop: int) -> np.ndarray:
    room = shape - crop
    if crop < 1 or room.min(initial=0) < 0:
        raise ValueError(
            f"a crop of {crop} px does not fit in images whose shorter side has {shape.min()} px."
        )
    return room


def _read(
    birds: Birds, index: np.ndarray, corner: np.ndarray, flip: np.ndarray, crop: int
) -> Labelled:
    images = np.empty((len(index), crop, crop, 3), np.uint8)
    for image, row, (y, x), mirrored in zip(images, index, corner, flip, strict=True):
        window = birds.image(row)[y : y + crop, x : x + crop]
        image[:] = window[:, ::-1] if mirrored else window
    return Labelled(images, birds.label[index])

"""Attention transforms (Eq. 2) as boxes, boxes around points, and the overlap of boxes.

A box is (left, top, right, bottom) in pixels, from outer edge to outer edge: the image itself is
(0, 0, W, H).
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.checks import coordinates, parameters, spatial_shape
from stn_jax.geometry.coords import pixels_per_unit, to_normalised, to_pixels


def attention_to_box(
    theta: ArrayLike, crop: Sequence[int], image: Sequence[int], *, align_corners: bool = True
) -> jnp.ndarray:
    """Return the box that an attention transform crops, out to the edges of its border pixels.

    Args:
      theta: [..., 3] float, (s, tx, ty) of Eq. 2.
      crop: (H', W') of the output; at least 2x2 with `align_corners`.
      image: (H, W) of the input.
      align_corners: the convention, as in `sample`.

    Returns:
      [..., 4] float; a negative s crops the same box as its magnitude, turned by 180 degrees.

    Raises:
      ValueError: on wrong shapes, or a crop of one pixel, which has no size with `align_corners`.
      TypeError: if theta is not floating point.
    """
    theta = parameters("theta of attention", theta, ("...", 3))
    centre = to_pixels(theta[..., 1:], image, align_corners=align_corners) + 0.5
    scale = jnp.abs(theta[..., 0])
    half = jnp.stack([scale * size for size in _half_size(crop, image, align_corners)], axis=-1)
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def box_to_attention(
    box: ArrayLike, crop: Sequence[int], image: Sequence[int], *, align_corners: bool = True
) -> jnp.ndarray:
    """Return the attention transform that crops a box: the inverse of `attention_to_box`.

    Args:
      box: [..., 4]; of other proportions than the crop's, its width is kept.
      crop: (H', W') of the output.
      image: (H, W) of the input; at least 2x2 with `align_corners`.
      align_corners: the convention, as in `sample`.

    Returns:
      [..., 3] float, (s, tx, ty).

    Raises:
      ValueError: on wrong shapes, or a crop or image of one pixel with `align_corners`.
    """
    box = coordinates("box", box, ("...", 4))
    half_width, _ = _half_size(crop, image, align_corners)
    scale = (box[..., 2:3] - box[..., :1]) / 2 / half_width
    centre = (box[..., :2] + box[..., 2:]) / 2 - 0.5
    shift = to_normalised(centre, image, align_corners=align_corners)
    return jnp.concatenate([scale, shift], axis=-1)


def bounding_box(points: ArrayLike, image: Sequence[int]) -> jnp.ndarray:
    """Return the box around points of an image, out to the edges of their pixels, within the image.

    Args:
      points: [..., N, 2], (x, y) in pixels, 0 at the centre of the first.
      image: (H, W).

    Returns:
      [..., 4] float; what lies outside is cut off, down to an empty box.

    Raises:
      ValueError: on wrong shapes.
    """
    points = coordinates("points", points, ("...", "N", 2))
    # To the outer edges of the pixels whose centres these are.
    box = jnp.concatenate([points.min(axis=-2), points.max(axis=-2) + 1], axis=-1)
    height, width = image
    limits = jnp.asarray([width, height, width, height], box.dtype)
    return jnp.clip(box, 0, jnp.broadcast_to(limits, box.shape))


def intersection_over_union(a: ArrayLike, b: ArrayLike) -> jnp.ndarray:
    """Return the area that boxes [..., 4] share, as a part of the area that they cover together.

    Boxes that both are empty share nothing: 0.

    Raises:
      ValueError: on wrong shapes.
    """
    a, b = (coordinates("a box", box, ("...", 4)) for box in (a, b))
    low, high = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
    shared = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    area_a, area_b = (jnp.prod(box[..., 2:] - box[..., :2], axis=-1) for box in (a, b))
    covered = area_a + area_b - shared
    return shared / jnp.where(covered == 0, 1, covered)


def _half_size(crop: Sequence[int], image: Sequence[int], align_corners: bool) -> list[float]:
    """Return half the size (x, y), in pixels of the image, of a crop with scale 1."""
    crop, image = (spatial_shape(shape, dims=(2,)) for shape in (crop, image))
    for name, shape in (("crop", crop), ("image", image)):
        if align_corners and 1 in shape:
            raise ValueError(f"{name} needs 2x2 pixels at least with align_corners, got {shape}.")
    source, target = (
        pixels_per_unit(shape, align_corners=align_corners) for shape in (image, crop)
    )
    return (source * np.array(crop[::-1]) / 2 / target).tolist()

"""The one convention that ties normalised coordinates to pixels.

Normalised coordinates run over [-1, 1] along each axis (Sect. 3.2, Eq. 1); the last axis of a
grid is (x, y) for images and (x, y, z) for volumes, while array shapes are (H, W) and (D, H, W).

The paper does not say whether -1 and +1 are pixel centres or outer pixel edges:

* ``align_corners=True`` (default): the *centres* of the border pixels, as in the original Torch
  module. An axis of n pixels has spacing 2 / (n - 1).
* ``align_corners=False``: the outer *edges* of the border pixels, spacing 2 / n.

An axis of one pixel has its centre at 0 in both.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.checks import coordinates, spatial_shape


def axis_centres(size: int, *, align_corners: bool = True) -> np.ndarray:
    """Return the normalised coordinates of the pixel centres of one axis, float64 [size]."""
    extent = (size - 1) / size if not align_corners else float(size > 1)
    return np.linspace(-extent, extent, size) if size > 1 else np.zeros(1)


def pixels_per_unit(shape: Sequence[int], *, align_corners: bool = True) -> np.ndarray:
    """Return how many pixels one normalised unit spans, float64 [N] in (x, y[, z]) order.

    Args:
      shape: spatial array shape, (H, W) or (D, H, W).
      align_corners: the convention, see the module's docstring.
    """
    sizes = np.array(shape[::-1], np.float64)
    return (sizes - 1) / 2 if align_corners else sizes / 2


def to_pixels(grid: ArrayLike, shape: Sequence[int], *, align_corners: bool = True) -> jnp.ndarray:
    """Convert normalised coordinates to pixel indices (0 = centre of the first pixel).

    Args:
      grid: [..., N] normalised, last axis (x, y[, z]).
      shape: spatial array shape, (H, W) or (D, H, W).
      align_corners: the convention, see the module's docstring.

    Returns:
      [..., N] pixel coordinates, float32 (or float64), same axis order.

    Raises:
      ValueError: if the points have not a coordinate an axis of the shape.
    """
    shape = spatial_shape(shape)
    axes = range(len(shape))
    grid = coordinates("grid", grid, ("...", len(shape)))
    points = [axis_to_pixels(grid[..., i], shape, i, align_corners=align_corners) for i in axes]
    return jnp.stack(points, axis=-1)


def axis_to_pixels(
    coordinate: jnp.ndarray, shape: Sequence[int], axis: int, *, align_corners: bool
) -> jnp.ndarray:
    """Convert one coordinate to pixel indices: axis 0 is x, 1 is y, 2 is z; see `to_pixels`."""
    scale = pixels_per_unit(shape, align_corners=align_corners)[axis]
    return coordinate * float(scale) + (shape[::-1][axis] - 1) / 2


def to_normalised(
    pixels: ArrayLike, shape: Sequence[int], *, align_corners: bool = True
) -> jnp.ndarray:
    """Convert pixel indices to normalised coordinates; the inverse of `to_pixels`.

    Args:
      pixels: [..., N] pixel coordinates, last axis (x, y[, z]).
      shape: spatial array shape, (H, W) or (D, H, W).
      align_corners: the convention, see the module's docstring.

    Returns:
      [..., N] normalised coordinates, float32 (or float64). On an axis of one pixel with
      `align_corners` every position is its centre: 0.

    Raises:
      ValueError: if the points have not a coordinate an axis of the shape.
    """
    shape = spatial_shape(shape)
    pixels = coordinates("pixels", pixels, ("...", len(shape)))
    scale = pixels_per_unit(shape, align_corners=align_corners)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    centre = (np.array(shape[::-1], np.float64) - 1) / 2
    return (pixels - per_axis(centre, pixels)) * per_axis(inverse, pixels)


def per_axis(values: Sequence[float], points: jnp.ndarray) -> np.ndarray:
    """Give one value a coordinate the rank and dtype of points [..., N], to combine with them."""
    return np.asarray(values).astype(points.dtype).reshape((1,) * (points.ndim - 1) + (-1,))

"""Regular target grids G, the points an undistorted output lies on (Sect. 3.2, Fig. 3a)."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from stn_jax.geometry.checks import spatial_shape
from stn_jax.geometry.coords import axis_centres


def regular_grid(
    shape: Sequence[int], *, align_corners: bool = True, dtype: np.typing.DTypeLike = np.float32
) -> np.ndarray:
    """Return the regular grid of pixel centres in normalised coordinates.

    Args:
      shape: (H, W) or (D, H, W) of the output.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.
      dtype: of the result; that of coordinates which it is combined with.

    Returns:
      Read-only NumPy array [H, W, 2] in (x, y), or [D, H, W, 3] in (x, y, z).

    Raises:
      ValueError: if the shape is not two or three positive integers.
    """
    return _regular_grid(spatial_shape(shape), align_corners, np.dtype(dtype))


@lru_cache(maxsize=256)
def _regular_grid(shape: tuple[int, ...], align_corners: bool, dtype: np.dtype) -> np.ndarray:
    axes = [axis_centres(size, align_corners=align_corners) for size in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1).astype(dtype)
    grid.flags.writeable = False
    return grid


@lru_cache(maxsize=256)
def homogeneous_points(shape: tuple[int, ...], align_corners: bool) -> np.ndarray:
    """Return the regular grid as columns (x, y[, z], 1): the B of T = M_theta B.

    Args:
      shape: (H, W) or (D, H, W) of the output.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      Read-only float64 NumPy array [N + 1, H * W] or [N + 1, D * H * W].
    """
    grid = regular_grid(shape, align_corners=align_corners, dtype=np.float64)
    points = grid.reshape(-1, grid.shape[-1]).T
    points = np.concatenate([points, np.ones((1, points.shape[1]))])
    points.flags.writeable = False
    return points

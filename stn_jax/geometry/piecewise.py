"""Piecewise affine transforms with n x n control points (Sect. 3.2 names them, no more).

Chosen here: the control points are those of the thin plate splines, and every cell of their grid is
cut into two triangles along the diagonal from its (-x, -y) to its (+x, +y) corner. The map is
affine on each triangle and continuous across the edges, so it is a sum over control points of
their positions times hat functions: 1 at the point itself, 0 at all others.
"""

from collections.abc import Sequence
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.checks import spatial_shape
from stn_jax.geometry.controls import control_points, controlled_grid
from stn_jax.geometry.grids import regular_grid


def piecewise_affine_grid(
    theta: ArrayLike, shape: Sequence[int], *, n: int = 4, align_corners: bool = True
) -> jnp.ndarray:
    """Generate sampling grids of piecewise affine transforms (Sect. 3.2).

    Args:
      theta: [B, 2 * n * n] float, the source positions of the control points: all x, row by row,
        then all y. The control grid spans [-1, 1] of the output in both directions.
      shape: (H, W) of the output.
      n: control points a side.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      [B, H, W, 2] source points (x, y), normalised; exactly the regular grid at the identity.

    Raises:
      ValueError: on wrong shapes, or less than two control points a side.
      TypeError: if theta is not floating point.
    """
    basis = _hat_basis(n, spatial_shape(shape, dims=(2,)), align_corners)
    return controlled_grid(theta, basis, shape, n=n, align_corners=align_corners)


@lru_cache(maxsize=64)
def _hat_basis(n: int, shape: tuple[int, ...], align_corners: bool) -> np.ndarray:
    """Return [n * n, H * W]: the hat functions, which are the barycentric weights in a triangle.

    No target point lies outside of the control grid, in neither convention.
    """
    targets = regular_grid(shape, align_corners=align_corners, dtype=np.float64).reshape(-1, 2)
    # In cells of the control grid, from each control point.
    x, y = (targets - np.float64(control_points(n))[:, None]).T * ((n - 1) / 2)
    basis = np.maximum(0, 1 - np.maximum(np.maximum(abs(x), abs(y)), abs(x - y)))
    basis = np.ascontiguousarray(basis.T)
    basis.flags.writeable = False
    return basis

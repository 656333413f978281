"""Thin plate splines with n x n control points (Sect. 4.1; Bookstein 1989, the paper's [2]).

The paper prints no formula. This is Bookstein's interpolant of the control points c_k,

    f(p) = a + A p + sum_k w_k U(|p - c_k|),   U(r) = r^2 log r^2,

with sum_k w_k = 0 and sum_k w_k c_k = 0. It is linear in the values at the control points, so
sampling it on a fixed target grid is one constant matrix, computed once in float64.
"""

from collections.abc import Sequence
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.checks import spatial_shape
from stn_jax.geometry.controls import control_points, controlled_grid
from stn_jax.geometry.grids import regular_grid


def tps_grid(
    theta: ArrayLike, shape: Sequence[int], *, n: int = 4, align_corners: bool = True
) -> jnp.ndarray:
    """Generate sampling grids of thin plate splines (Sect. 4.1).

    Args:
      theta: [B, 2 * n * n] float, the source positions of the control points: all x, row by row,
        then all y. The control grid spans [-1, 1] of the output in both directions.
      shape: (H, W) of the output.
      n: control points a side (the paper's 16 points: n = 4).
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      [B, H, W, 2] source points (x, y), normalised; exactly the regular grid at the identity,
      and the spline through the given positions at the control points.

    Raises:
      ValueError: on wrong shapes, or less than two control points a side.
      TypeError: if theta is not floating point.
    """
    basis = _spline_basis(n, spatial_shape(shape, dims=(2,)), align_corners)
    return controlled_grid(theta, basis, shape, n=n, align_corners=align_corners)


@lru_cache(maxsize=64)
def _spline_basis(n: int, shape: tuple[int, ...], align_corners: bool) -> np.ndarray:
    """Return [n * n, H * W]: the spline at every target point, per unit at each control point."""
    controls = control_points(n).astype(np.float64)
    targets = regular_grid(shape, align_corners=align_corners, dtype=np.float64).reshape(-1, 2)
    count = len(controls)
    affine_part = np.concatenate([np.ones((count, 1)), controls], axis=1)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _radial(controls, controls)
    system[:count, count:] = affine_part
    system[count:, :count] = affine_part.T
    weights = np.linalg.inv(system)[:, :count]
    features = np.concatenate(
        [_radial(targets, controls), np.ones((len(targets), 1)), targets], axis=1
    )
    basis = (features @ weights).T
    basis.flags.writeable = False
    return basis


def _radial(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = np.sum((a[:, None] - b[None]) ** 2, axis=-1)
    return squared * np.log(np.where(squared > 0, squared, 1))

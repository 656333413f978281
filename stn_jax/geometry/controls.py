"""Grids that interpolate n x n control points: what splines and triangles have in common."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.checks import parameters, spatial_shape
from stn_jax.geometry.grids import regular_grid
from stn_jax.geometry.linear import linear_grid


def control_points(n: int) -> np.ndarray:
    """Return the n x n control points [n * n, 2] in (x, y), spanning [-1, 1], row by row."""
    if n < 2:
        raise ValueError(f"a control grid needs n >= 2 control points a side, got n={n}.")
    return regular_grid((n, n)).reshape(-1, 2)


def control_identity(n: int = 4) -> np.ndarray:
    """Return the theta [2 * n * n] of the identity: every control point at its own place."""
    return control_points(n).T.ravel()


def controlled_grid(
    theta: ArrayLike, basis: np.ndarray, shape: Sequence[int], *, n: int, align_corners: bool
) -> jnp.ndarray:
    """Generate the grids of an interpolant that is linear in the control points' positions.

    Args:
      theta: [B, 2 * n * n] float, the source positions of the control points: all x, row by row,
        then all y. The control grid spans [-1, 1] of the output in both directions.
      basis: [n * n, H * W], the weight of each control point at each target point. Affine maps
        must be reproduced.
      shape: (H, W) of the output.
      n: control points a side.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      [B, H, W, 2] source points (x, y), normalised; exactly the regular grid at the identity.
    """
    shape = spatial_shape(shape, dims=(2,))
    name = f"theta of {n} x {n} control points"
    theta = parameters(name, theta, ("B", 2 * n * n))
    offsets = theta - control_identity(n)[None].astype(theta.dtype)
    regular = regular_grid(shape, align_corners=align_corners, dtype=theta.dtype)
    # As the identity is reproduced, f(theta) = G + f(theta - identity): written so, it is exact.
    return regular[None] + linear_grid(offsets.reshape(-1, 2, n * n), basis, shape)

"""Affine transforms (Eq. 1): crop, translation, rotation, scale and skew."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.grids import homogeneous_points
from stn_jax.geometry.linear import linear_grid

IDENTITY = np.array([1, 0, 0, 0, 1, 0], np.float32)


def affine_grid(
    theta: ArrayLike, shape: Sequence[int], *, align_corners: bool = True
) -> jnp.ndarray:
    """Generate sampling grids of affine transforms (Eq. 1).

    Args:
      theta: [B, 6] float, the 2x3 matrix row by row; it takes target (x, y, 1) to source (x, y).
      shape: (H, W) of the output.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      [B, H, W, 2] source points (x, y), normalised; exactly the regular grid at the identity.
    """
    theta = jnp.asarray(theta)
    basis = homogeneous_points(tuple(shape), align_corners)
    return linear_grid(theta.reshape(-1, 2, 3), basis, shape)

"""The generic class of Sect. 3.2: grids that are linear in theta, T_theta = M_theta B."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stn_jax.geometry.checks import parameters, spatial_shape


def linear_grid(matrix: ArrayLike, basis: ArrayLike, shape: Sequence[int]) -> jnp.ndarray:
    """Generate the grid M_theta B (Sect. 3.2); B may be a constant or itself be learnt.

    Attention, affine, thin plate spline and piecewise affine transforms are instances; a projective
    one divides the result by its last row.

    Args:
      matrix: M_theta [B, N, K] float, one matrix a sample.
      basis: B [K, P], the target grid's representation; P = H * W points (D * H * W).
      shape: (H, W) or (D, H, W) of the output.

    Returns:
      [B, H, W, N] or [B, D, H, W, N], float32 (or float64): row i of M_theta gives coordinate i of
      (x, y[, z]).

    Raises:
      ValueError: if matrix, basis and shape do not fit each other.
      TypeError: if the matrix is not floating point.
    """
    return jnp.moveaxis(linear_rows(matrix, basis, shape), 1, -1)


def linear_rows(matrix: ArrayLike, basis: ArrayLike, shape: Sequence[int]) -> jnp.ndarray:
    """Generate M_theta B with the coordinate before the points: [B, N, H, W]; see `linear_grid`.

    Arithmetic on coordinates is several times faster on whole rows than on interleaved points.
    """
    matrix, shape = parameters("matrix", matrix, ("B", "N", "K")), spatial_shape(shape)
    basis = jnp.asarray(basis, matrix.dtype)
    points = math.prod(shape)
    if basis.shape != (matrix.shape[-1], points):
        raise ValueError(
            f"matrix [B, N, K] and basis [K, {points}] for shape {shape} are needed, "
            f"got matrix {matrix.shape} and basis {basis.shape}."
        )
    # Full float32: the reduced precision that accelerators default to moves points by 1e-3.
    rows = jnp.matmul(matrix, basis, precision=jax.lax.Precision.HIGHEST)
    return rows.reshape(*matrix.shape[:2], *shape)

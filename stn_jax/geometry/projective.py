"""Plane projective transforms with 8 parameters (Sect. 3.2; the ninth matrix entry is 1)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.checks import coordinates, parameters, spatial_shape
from stn_jax.geometry.grids import homogeneous_points
from stn_jax.geometry.linear import linear_rows

IDENTITY = np.array([1, 0, 0, 0, 1, 0, 0, 0], np.float32)

# A denominator this small, as a part of its largest coefficient, or negative means that the point
# lies on or behind the horizon.
MIN_DENOMINATOR = 1e-3
# Where such points are sent: finite, and outside any image of more than one pixel.
OUTSIDE = 1e6


def homography_grid(
    matrix: ArrayLike, shape: Sequence[int], *, align_corners: bool = True
) -> jnp.ndarray:
    """Generate sampling grids of homographies.

    Points whose denominator is not above `MIN_DENOMINATOR` times the largest entry of the matrix's
    last row have no source in front of the horizon. They are sent to the constant `OUTSIDE`: with
    zero padding they read 0, with border padding the far corner, and they pass no gradient to the
    matrix. Value and gradient of finite matrices are finite everywhere; NaN stays NaN.

    Args:
      matrix: [B, 3, 3] float, takes homogeneous target (x, y, 1) to source points. A positive
        factor changes nothing; a negative one turns front and back.
      shape: (H, W) of the output.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      [B, H, W, 2] source points (x, y), normalised, float32 (or float64).

    Raises:
      ValueError: on wrong shapes.
      TypeError: if the matrix is not floating point.
    """
    shape = spatial_shape(shape, dims=(2,))
    matrix = parameters("matrix", matrix, ("B", 3, 3))
    rows = linear_rows(matrix, homogeneous_points(shape, align_corners), shape)
    numerator, denominator = rows[:, :2], rows[:, 2:]
    largest = jnp.abs(matrix[:, 2]).max(axis=-1)[:, None, None, None]
    behind = denominator <= MIN_DENOMINATOR * largest  # never of NaN
    # Both branches of a `where` are differentiated: divide by 1 wherever the result is not used.
    points = jnp.where(behind, OUTSIDE, numerator / jnp.where(behind, 1, denominator))
    return jnp.moveaxis(points, 1, -1)


def projective_grid(
    theta: ArrayLike, shape: Sequence[int], *, align_corners: bool = True
) -> jnp.ndarray:
    """Generate sampling grids of projective transforms; `homography_grid` says what lies outside.

    Args:
      theta: [B, 8] float, the 3x3 matrix row by row without its last entry, which is 1.
      shape: (H, W) of the output.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      [B, H, W, 2] source points (x, y), normalised; exactly the regular grid at the identity.

    Raises:
      ValueError: on wrong shapes.
      TypeError: if theta is not floating point.
    """
    theta = parameters("theta of a projective transform", theta, ("B", 8))
    matrix = jnp.concatenate([theta, jnp.ones_like(theta[:, :1])], axis=-1).reshape(-1, 3, 3)
    return homography_grid(matrix, shape, align_corners=align_corners)


def square_to_quad(corners: ArrayLike) -> jnp.ndarray:
    """Return the homography that takes the square [-1, 1]^2 to a quadrilateral.

    Closed form: with the unit square's corners p00, p10, p01, p11 the two projective entries
    solve a 2x2 system (Heckbert 1989, Sect. 2.2.3); no linear solver runs on the device.

    Args:
      corners: [..., 4, 2], the images of (-1, -1), (1, -1), (-1, 1), (1, 1) as (x, y).

    Returns:
      [..., 3, 3], scaled to be positive at the square's centre. Three collinear corners give a
      singular matrix; its entries are finite.

    Raises:
      ValueError: on another shape.
    """
    corners = coordinates("corners", corners, ("...", 4, 2))
    p00, p10, p01, p11 = (corners[..., i, :] for i in range(4))
    right, below, excess = p10 - p11, p01 - p11, p00 - p10 - p01 + p11
    area = _cross(right, below)
    g, h = _cross(excess, below), _cross(right, excess)
    # Everything multiplied by `area`: no division, so degenerate corners stay finite.
    columns = [
        (p10 - p00) * area[..., None] + g[..., None] * p10,
        (p01 - p00) * area[..., None] + h[..., None] * p01,
        p00 * area[..., None],
    ]
    last_row = (g, h, area)
    unit = jnp.stack(
        [jnp.concatenate([c, w[..., None]], -1) for c, w in zip(columns, last_row, strict=True)],
        axis=-1,
    )
    half = jnp.array([[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]], corners.dtype)
    matrix = jnp.matmul(unit, half, precision=jax.lax.Precision.HIGHEST)
    centre = matrix[..., 2:, 2:]
    return jnp.where(centre < 0, -matrix, matrix)


def invert_homography(matrix: ArrayLike) -> jnp.ndarray:
    """Return the inverse of homographies, with denominator 1 at the image of the centre (0, 0).

    Args:
      matrix: [..., 3, 3] float; a factor changes nothing.

    Returns:
      [..., 3, 3], the inverse times a factor; with any if the centre's image is at infinity. Finite
      for singular matrices too, and then without meaning.

    Raises:
      ValueError: on another shape.
      TypeError: if the matrix is not floating point.
    """
    matrix = parameters("matrix", matrix, ("...", 3, 3))
    # Determinants of large and of small matrices would leave the range of the dtype.
    largest = jax.lax.stop_gradient(jnp.abs(matrix).max(axis=(-2, -1), keepdims=True))
    matrix = matrix / jnp.where(largest > 0, largest, 1)
    r0, r1, r2 = (matrix[..., i, :] for i in range(3))
    adjugate = jnp.stack([jnp.cross(r1, r2), jnp.cross(r2, r0), jnp.cross(r0, r1)], axis=-1)
    determinant = jnp.sum(r0 * jnp.cross(r1, r2), axis=-1)[..., None, None]
    tiny = jnp.finfo(matrix.dtype).tiny
    centre = matrix[..., 2:, 2:]
    numerator = jnp.where(centre == 0, 1, centre)
    return adjugate * (numerator / jnp.where(jnp.abs(determinant) > tiny, determinant, 1))


def _cross(a: jnp.ndarray, b: jnp.ndarray) -> jnp.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]

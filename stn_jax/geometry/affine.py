"""Affine transforms of images (Eq. 1) and volumes (Eq. 10): crop, translation, rotation, skew."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.checks import parameters, spatial_shape
from stn_jax.geometry.grids import homogeneous_points
from stn_jax.geometry.linear import linear_grid

IDENTITY = np.eye(2, 3, dtype=np.float32).ravel()
IDENTITY_3D = np.eye(3, 4, dtype=np.float32).ravel()


def affine_grid(
    theta: ArrayLike, shape: Sequence[int], *, align_corners: bool = True
) -> jnp.ndarray:
    """Generate sampling grids of affine transforms (Eq. 1, and Eq. 10 in volumes).

    Args:
      theta: [B, 6] float, the 2x3 matrix row by row; it takes target (x, y, 1) to source (x, y).
        For volumes [B, 12], the 3x4 matrix that takes (x, y, z, 1) to (x, y, z); the third axis
        may be space or time.
      shape: (H, W) or (D, H, W) of the output.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      [B, H, W, 2] source points (x, y), normalised, or [B, D, H, W, 3] in (x, y, z); exactly the
      regular grid at the identity.

    Raises:
      ValueError: if theta and shape are not both of images or both of volumes.
      TypeError: if theta is not floating point.
    """
    shape = spatial_shape(shape)
    dims = len(shape)
    name = f"theta for an output of shape {shape}"
    theta = parameters(name, theta, ("B", dims * (dims + 1)))
    basis = homogeneous_points(shape, align_corners)
    return linear_grid(theta.reshape(-1, dims, dims + 1), basis, shape)


def compose_affine(theta: ArrayLike) -> jnp.ndarray:
    """Multiply out affine transforms that follow each other (Table 2, right b).

    A network that warps its input by theta[0], and the result by theta[1] and so on, reads at each
    point of the last map what lies in the first at the composed transform of that point. Layers
    between that keep the normalised coordinates change nothing; 2x2 pooling shifts those of pixel
    centres by less than a pixel of its input.

    Args:
      theta: [..., N, 6] float, from the input inwards; [..., N, 12] in volumes.

    Returns:
      [..., 6] or [..., 12], the one transform that takes the last target to the first source.

    Raises:
      ValueError: on another number of parameters.
      TypeError: if theta is not floating point.
    """
    theta = jnp.asarray(theta)
    if theta.ndim < 2 or theta.shape[-1] not in (6, 12):
        raise ValueError(f"theta must be [..., N, 6] or [..., N, 12], got {list(theta.shape)}.")
    theta = parameters("theta", theta, theta.shape)
    dims = {6: 2, 12: 3}[theta.shape[-1]]
    matrices = theta.reshape(*theta.shape[:-1], dims, dims + 1)
    last = jnp.broadcast_to(jnp.eye(dims + 1)[dims:], (*matrices.shape[:-2], 1, dims + 1))
    square = jnp.concatenate([matrices, last.astype(theta.dtype)], axis=-2)
    product = square[..., 0, :, :]
    for number in range(1, theta.shape[-2]):
        product = jnp.matmul(
            product, square[..., number, :, :], precision=jax.lax.Precision.HIGHEST
        )
    return product[..., :dims, :].reshape(*theta.shape[:-2], theta.shape[-1])

"""Attention transforms (Eq. 2): translation and one isotropic scale, regressed or fixed."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.affine import affine_grid
from stn_jax.geometry.checks import parameters

IDENTITY = np.array([1, 0, 0], np.float32)


def attention_to_affine(theta: ArrayLike) -> jnp.ndarray:
    """Return the affine parameters [..., 6] of attention parameters theta [..., 3] (Eq. 2).

    Raises:
      ValueError: on another number of parameters.
      TypeError: if they are not floating point.
    """
    theta = parameters("theta of attention", theta, ("...", 3))
    scale, shift_x, shift_y = jnp.moveaxis(theta, -1, 0)
    zero = jnp.zeros_like(scale)
    return jnp.stack([scale, zero, shift_x, zero, scale, shift_y], axis=-1)


def attention_grid(
    theta: ArrayLike, shape: Sequence[int], *, align_corners: bool = True
) -> jnp.ndarray:
    """Generate sampling grids of attention transforms (Eq. 2).

    Args:
      theta: [B, 3] float, (s, tx, ty): source = s * target + (tx, ty).
      shape: (H, W) of the output.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      [B, H, W, 2] source points (x, y), normalised; exactly the regular grid at the identity.

    Raises:
      ValueError: on wrong shapes.
      TypeError: if theta is not floating point.
    """
    return affine_grid(attention_to_affine(theta), shape, align_corners=align_corners)


def fixed_attention_to_affine(theta: ArrayLike, *, scale: float) -> jnp.ndarray:
    """Return the affine parameters [..., 6] of locations theta [..., 2] at one fixed scale.

    Raises:
      ValueError: on another number of parameters.
      TypeError: if they are not floating point.
    """
    theta = parameters("theta of attention with a fixed scale", theta, ("...", 2))
    scales = jnp.full_like(theta[..., :1], scale)
    return attention_to_affine(jnp.concatenate([scales, theta], axis=-1))


def fixed_attention_grid(
    theta: ArrayLike, shape: Sequence[int], *, scale: float, align_corners: bool = True
) -> jnp.ndarray:
    """Generate sampling grids of attention transforms whose scale is fixed (A.6).

    Args:
      theta: [B, 2] float, (tx, ty): source = scale * target + (tx, ty).
      shape: (H, W) of the output.
      scale: s of Eq. 2; 0.5 crops half of the width and of the height.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      [B, H, W, 2] source points (x, y), normalised; exactly the regular grid at theta 0, scale 1.

    Raises:
      ValueError: on wrong shapes.
      TypeError: if theta is not floating point.
    """
    affine = fixed_attention_to_affine(theta, scale=scale)
    return affine_grid(affine, shape, align_corners=align_corners)

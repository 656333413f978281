"""Attention transforms (Eq. 2): translation and one isotropic scale."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.affine import affine_grid

IDENTITY = np.array([1, 0, 0], np.float32)


def attention_to_affine(theta: ArrayLike) -> jnp.ndarray:
    """Return the affine parameters [B, 6] of attention parameters theta [B, 3] (Eq. 2)."""
    scale, shift_x, shift_y = jnp.moveaxis(jnp.asarray(theta), -1, 0)
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
    """
    return affine_grid(attention_to_affine(theta), shape, align_corners=align_corners)

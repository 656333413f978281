"""Rotation, isotropic scale and translation, any of them: affine transforms held to a few motions.

The published traffic sign recipe puts such a restriction between localiser and grid generator.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.affine import affine_grid

# Part -> its parameters at the identity, in theta's order.
PARTS: dict[str, tuple[float, ...]] = {
    "rotation": (0.0,),
    "scale": (1.0,),
    "translation": (0.0, 0.0),
}


def similarity_identity(parts: Sequence[str]) -> np.ndarray:
    """Return the identity's theta, float32 [P], of some of `PARTS`: 1, 1 and 2 parameters.

    Raises:
      ValueError: if the parts are none, or not of `PARTS`, each once, in its order.
    """
    if not parts or [name for name in PARTS if name in parts] != list(parts):
        raise ValueError(f"parts must be some of {', '.join(PARTS)}, in this order, got {parts}.")
    return np.array([value for name in parts for value in PARTS[name]], np.float32)


def similarity_to_affine(theta: ArrayLike, parts: Sequence[str] = tuple(PARTS)) -> jnp.ndarray:
    """Return the affine parameters [B, 6] of a similarity: source = s R target + (tx, ty).

    Args:
      theta: [B, P] float: of (angle, s, tx, ty) those that belong to the parts. The angle is in
        radians, R = [[cos, -sin], [sin, cos]] on normalised coordinates.
      parts: as in `similarity_identity`.

    Raises:
      ValueError: on wrong parts, or another number of parameters.
    """
    theta = jnp.asarray(theta)
    count = similarity_identity(parts).size
    if theta.shape[-1:] != (count,):
        raise ValueError(
            f"theta of {' and '.join(parts)} must be [B, {count}], got {list(theta.shape)}."
        )
    columns, values = list(jnp.moveaxis(theta, -1, 0)), {}
    for name, identity in PARTS.items():
        for number, value in enumerate(identity):
            column = columns.pop(0) if name in parts else jnp.full_like(theta[..., 0], value)
            values[name, number] = column
    cos, sin = (turn(values["rotation", 0]) for turn in (jnp.cos, jnp.sin))
    scale = values["scale", 0]
    rows = [scale * cos, -scale * sin, values["translation", 0]]
    rows += [scale * sin, scale * cos, values["translation", 1]]
    return jnp.stack(rows, axis=-1)


def similarity_grid(
    theta: ArrayLike,
    shape: Sequence[int],
    *,
    parts: Sequence[str] = tuple(PARTS),
    align_corners: bool = True,
) -> jnp.ndarray:
    """Generate sampling grids of similarities, or of some of their parts.

    Args:
      theta: [B, P] float, as in `similarity_to_affine`.
      shape: (H, W) of the output.
      parts: what it may do; the rest stays that of the identity.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      [B, H, W, 2] source points (x, y), normalised; exactly the regular grid at the identity.

    Raises:
      ValueError: on wrong parts, or another number of parameters.
    """
    affine = similarity_to_affine(theta, parts)
    return affine_grid(affine, shape, align_corners=align_corners)

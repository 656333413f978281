"""Rotation, isotropic scale and translation, any of them: affine transforms held to a few motions.

The published traffic sign recipe puts such a restriction between localiser and grid generator. It
multiplies the matrices in another order: its source is s R (target + t), where here it is
s R target + t. The transforms that can be reached are the same, the gradients are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry.affine import affine_grid
from stn_jax.geometry.checks import parameters

# Part -> its parameters at the identity, in theta's order.
PARTS: dict[str, tuple[float, ...]] = {
    "rotation": (0.0,),
    "scale": (1.0,),
    "translation": (0.0, 0.0),
}


@dataclass(frozen=True, kw_only=True)
class SimilarityLimits:
    """How far a similarity goes from the identity, at most; None: as far as theta says.

    They bend theta, they do not cut it off: from the identity on with slope 1, towards the limit
    with less and less.

    Attributes:
      max_angle: either way, in radians; positive.
      min_scale: between 0 and 1.
      max_scale: above 1.
      max_shift: along either axis and either way, in normalised coordinates; positive.
    """

    max_angle: float | None = None
    min_scale: float | None = None
    max_scale: float | None = None
    max_shift: float | None = None

    def __post_init__(self):
        """Check that the identity lies strictly within."""
        for name, (low, high) in {
            "max_angle": (0.0, np.inf),
            "min_scale": (0.0, 1.0),
            "max_scale": (1.0, np.inf),
            "max_shift": (0.0, np.inf),
        }.items():
            value = getattr(self, name)
            if value is not None and not low < value < high:
                raise ValueError(f"{name} must be between {low} and {high}, got {value}.")

    @property
    def of_parts(self) -> dict[str, tuple[float | None, float | None]]:
        """Part -> its least and its largest parameter."""
        angle, shift = (
            (None if most is None else -most, most) for most in (self.max_angle, self.max_shift)
        )
        return {"rotation": angle, "scale": (self.min_scale, self.max_scale), "translation": shift}


def similarity_identity(parts: Sequence[str]) -> np.ndarray:
    """Return the identity's theta, float32 [P], of some of `PARTS`: 1, 1 and 2 parameters.

    Raises:
      ValueError: if the parts are none, or not of `PARTS`, each once, in its order.
    """
    if not parts or [name for name in PARTS if name in parts] != list(parts):
        raise ValueError(f"parts must be some of {', '.join(PARTS)}, in this order, got {parts}.")
    return np.array([value for name in parts for value in PARTS[name]], np.float32)


def similarity_to_affine(
    theta: ArrayLike,
    *,
    parts: Sequence[str] = tuple(PARTS),
    limits: SimilarityLimits | None = None,
) -> jnp.ndarray:
    """Return the affine parameters [..., 6] of a similarity: source = s R target + (tx, ty).

    Args:
      theta: [..., P] float: of (angle, s, tx, ty) those that belong to the parts. The angle is in
        radians, R = [[cos, -sin], [sin, cos]] on normalised coordinates.
      parts: "rotation", "scale", "translation" or some of them, in this order.
      limits: on the motion; by default none.

    Raises:
      ValueError: on wrong parts, another number of parameters, or limits on other parts.
      TypeError: if theta is not floating point.
    """
    count = similarity_identity(parts).size
    theta = parameters(f"theta of {' and '.join(parts)}", theta, ("...", count))
    ranges = (limits or SimilarityLimits()).of_parts
    if others := [name for name, ends in ranges.items() if name not in parts and any(ends)]:
        raise ValueError(f"limits on {', '.join(others)}, but the parts are {', '.join(parts)}.")
    columns, values = list(jnp.moveaxis(theta, -1, 0)), {}
    for name, identity in PARTS.items():
        for number, value in enumerate(identity):
            if name in parts:
                values[name, number] = _bend(columns.pop(0), value, *ranges[name])
            else:
                values[name, number] = jnp.full_like(theta[..., 0], value)
    cos, sin = (turn(values["rotation", 0]) for turn in (jnp.cos, jnp.sin))
    scale = values["scale", 0]
    rows = [scale * cos, -scale * sin, values["translation", 0]]
    rows += [scale * sin, scale * cos, values["translation", 1]]
    return jnp.stack(rows, axis=-1)


def _bend(
    values: jnp.ndarray, identity: float, least: float | None, most: float | None
) -> jnp.ndarray:
    """Bend values into an open interval around the identity's, which stays where it is."""
    if least is None and most is None:
        return values
    offset = values - identity
    for end, beyond in ((least, offset < 0), (most, offset > 0)):
        if end is not None:
            room = abs(end - identity)
            offset = jnp.where(beyond, room * jnp.tanh(offset / room), offset)
    return identity + offset


def similarity_grid(
    theta: ArrayLike,
    shape: Sequence[int],
    *,
    parts: Sequence[str] = tuple(PARTS),
    limits: SimilarityLimits | None = None,
    align_corners: bool = True,
) -> jnp.ndarray:
    """Generate sampling grids of similarities, or of some of their parts.

    Args:
      theta: [B, P] float, as in `similarity_to_affine`.
      shape: (H, W) of the output.
      parts: what it may do; the rest stays that of the identity.
      limits: how far it may go; by default anywhere.
      align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

    Returns:
      [B, H, W, 2] source points (x, y), normalised; exactly the regular grid at the identity.

    Raises:
      ValueError: on wrong parts, another number of parameters, or limits on other parts.
      TypeError: if theta is not floating point.
    """
    affine = similarity_to_affine(theta, parts=parts, limits=limits)
    return affine_grid(affine, shape, align_corners=align_corners)

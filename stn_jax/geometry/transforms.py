"""The table of transform families: name -> parameters, identity, theta -> sampling grid."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from stn_jax.geometry import affine, attention, piecewise, projective, similarity, tps
from stn_jax.geometry.checks import parameters, spatial_shape
from stn_jax.geometry.controls import control_identity


@dataclass(frozen=True, eq=False)
class Transform:
    """A family of warps T_theta, differentiable in theta (Sect. 3.2).

    Attributes:
      name: how messages call it.
      identity: the theta [P] of the identity, read-only float32.
      generate: function of (theta [B, P], shape, *, align_corners) giving grids [B, H, W, 2], or
        [B, D, H, W, 3].
      dims: 2 for warps of images, 3 for warps of volumes.
    """

    name: str
    identity: np.ndarray
    generate: Callable[..., jnp.ndarray]
    dims: int = 2

    def __post_init__(self):
        """Check and protect what all users of the family share."""
        if self.dims not in (2, 3):
            raise ValueError(f"a transform warps 2 or 3 dimensions, got dims={self.dims}.")
        identity = np.array(self.identity, np.float32)
        if identity.ndim != 1:
            raise ValueError(f"the identity's theta must be [P], got {list(identity.shape)}.")
        identity.flags.writeable = False
        object.__setattr__(self, "identity", identity)

    @property
    def num_params(self) -> int:
        """The number of parameters P that a localisation network has to regress."""
        return self.identity.size

    def grid(
        self, theta: ArrayLike, shape: Sequence[int], *, align_corners: bool = True
    ) -> jnp.ndarray:
        """Generate one sampling grid a sample.

        Args:
          theta: [B, P] float; half precision is raised to float32, which coordinates need.
          shape: (H, W) of the output, or (D, H, W) if the family warps volumes.
          align_corners: whether -1 and +1 are centres or outer edges of the border pixels.

        Returns:
          [B, H, W, 2] source points (x, y), or [B, D, H, W, 3] source points (x, y, z), in
          normalised coordinates, float32 (or float64).

        Raises:
          ValueError: if theta is not [B, P], or the shape not of as many axes as the family's.
          TypeError: if theta is not floating point.
        """
        theta = parameters(f"theta of transform '{self.name}'", theta, ("B", self.num_params))
        shape = spatial_shape(
            shape, dims=(self.dims,), name=f"output shape of transform '{self.name}'"
        )
        return self.generate(theta, shape, align_corners=align_corners)


# One object for equal arguments: what is compiled for one model serves the next.
@functools.cache
def thin_plate_spline(n: int = 4) -> Transform:
    """Return the thin plate spline family with n x n control points (n = 4: the paper's 16)."""
    return Transform("tps", control_identity(n), functools.partial(tps.tps_grid, n=n))


@functools.cache
def piecewise_affine(n: int = 4) -> Transform:
    """Return the family that is affine on the triangles between n x n control points."""
    generate = functools.partial(piecewise.piecewise_affine_grid, n=n)
    return Transform("piecewise_affine", control_identity(n), generate)


@functools.cache
def fixed_attention(scale: float) -> Transform:
    """Return the attention family of one fixed scale: only the location is regressed (A.6).

    Its "identity" is the crop from the middle, the identity itself only with scale 1.

    Raises:
      ValueError: if the scale is not a positive number.
    """
    if not 0 < scale < np.inf:
        raise ValueError(f"the scale of a crop is a positive number, got {scale}.")
    generate = functools.partial(attention.fixed_attention_grid, scale=scale)
    return Transform("fixed_attention", np.zeros(2, np.float32), generate)


@functools.cache
def restricted(
    *parts: str,
    max_angle: float | None = None,
    min_scale: float | None = None,
    max_scale: float | None = None,
    max_shift: float | None = None,
) -> Transform:
    """Return the affine family held to "rotation", "scale" or "translation", or some of them.

    Args:
      *parts: which.
      max_angle: limit on the rotation either way, in radians; by default none, as of the others.
      min_scale: limit on the scale, between 0 and 1.
      max_scale: likewise, above 1.
      max_shift: limit on the translation along either axis and either way, normalised.

    Raises:
      ValueError: if the parts are none, others, or in another order than this one; if a limit does
        not leave room around the identity, or is on another part.
    """
    limits = similarity.SimilarityLimits(
        max_angle=max_angle, min_scale=min_scale, max_scale=max_scale, max_shift=max_shift
    )
    identity = similarity.similarity_identity(parts)
    # Raises on wrong limits, and computes nothing: several processes have to meet before JAX does.
    to_affine = functools.partial(similarity.similarity_to_affine, parts=parts, limits=limits)
    jax.eval_shape(to_affine, identity[None])
    generate = functools.partial(similarity.similarity_grid, parts=parts, limits=limits)
    return Transform("_".join(parts), identity, generate)


TRANSFORMS: dict[str, Transform] = {
    "attention": Transform("attention", attention.IDENTITY, attention.attention_grid),
    "affine": Transform("affine", affine.IDENTITY, affine.affine_grid),
    "projective": Transform("projective", projective.IDENTITY, projective.projective_grid),
    "tps": thin_plate_spline(),
    "piecewise_affine": piecewise_affine(),
    "rotation_scale_translation": restricted("rotation", "scale", "translation"),
    "affine_3d": Transform("affine_3d", affine.IDENTITY_3D, affine.affine_grid, dims=3),
}


def get_transform(transform: str | Transform) -> Transform:
    """Return a transform given by name, or as it is.

    Raises:
      ValueError: if no transform has that name; the message lists those there are.
    """
    if isinstance(transform, Transform):
        return transform
    if transform not in TRANSFORMS:
        raise ValueError(f"unknown transform {transform!r}; there are {', '.join(TRANSFORMS)}.")
    return TRANSFORMS[transform]

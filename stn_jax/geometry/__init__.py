"""Spatial transforms and differentiable sampling as pure functions: no Flax, no configuration.

Example::

    theta = jnp.asarray([[0.7, -0.7, 0.0, 0.7, 0.7, 0.0]])
    grid = geometry.TRANSFORMS["affine"].grid(theta, (28, 28))
    warped = geometry.sample(images, grid)
"""

from stn_jax.geometry.affine import affine_grid, compose_affine
from stn_jax.geometry.attention import (
    attention_grid,
    attention_to_affine,
    fixed_attention_grid,
    fixed_attention_to_affine,
)
from stn_jax.geometry.boxes import (
    attention_to_box,
    bounding_box,
    box_to_attention,
    intersection_over_union,
)
from stn_jax.geometry.controls import control_identity, control_points
from stn_jax.geometry.coords import to_normalised, to_pixels
from stn_jax.geometry.grids import regular_grid
from stn_jax.geometry.linear import linear_grid
from stn_jax.geometry.piecewise import piecewise_affine_grid
from stn_jax.geometry.projective import (
    homography_grid,
    invert_homography,
    projective_grid,
    square_to_quad,
)
from stn_jax.geometry.sampling import sample
from stn_jax.geometry.similarity import SimilarityLimits, similarity_grid, similarity_to_affine
from stn_jax.geometry.tps import tps_grid
from stn_jax.geometry.transforms import (
    TRANSFORMS,
    Transform,
    fixed_attention,
    get_transform,
    piecewise_affine,
    restricted,
    thin_plate_spline,
)

__all__ = [
    "TRANSFORMS",
    "SimilarityLimits",
    "Transform",
    "affine_grid",
    "attention_grid",
    "attention_to_affine",
    "attention_to_box",
    "bounding_box",
    "box_to_attention",
    "compose_affine",
    "control_identity",
    "control_points",
    "fixed_attention",
    "fixed_attention_grid",
    "fixed_attention_to_affine",
    "get_transform",
    "homography_grid",
    "intersection_over_union",
    "invert_homography",
    "linear_grid",
    "piecewise_affine",
    "piecewise_affine_grid",
    "projective_grid",
    "regular_grid",
    "restricted",
    "sample",
    "similarity_grid",
    "similarity_to_affine",
    "square_to_quad",
    "thin_plate_spline",
    "to_normalised",
    "to_pixels",
    "tps_grid",
]

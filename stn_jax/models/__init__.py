"""Networks in Flax NNX, used as pure functions through `functional`."""

from stn_jax.models.localisation import (
    ConvLocalisation,
    DenseLocalisation,
    StridedLocalisation,
)
from stn_jax.models.pure import Model, functional
from stn_jax.models.spatial_transformer import ParallelTransformers, SpatialTransformer

__all__ = [
    "ConvLocalisation",
    "DenseLocalisation",
    "Model",
    "ParallelTransformers",
    "SpatialTransformer",
    "StridedLocalisation",
    "functional",
]

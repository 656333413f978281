"""The networks of 3-D MNIST (A.3): volume, spatial transformer, projection, 2-D classifier.

The paper gives no layers. Here the localisation network sees the volume's three projections, and
is then A.4's convolutional one; the classifier is A.4's CNN.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from stn_jax.geometry import Transform
from stn_jax.models.layers import avg_pool
from stn_jax.models.localisation import ConvLocalisation
from stn_jax.models.mnist import CNN, NUM_PARAMS, fit_width
from stn_jax.models.spatial_transformer import SpatialTransformer


def project(volume: jax.Array) -> jax.Array:
    """Flatten volumes [B, D, H, W, C] to images [B, H, W, C]: the sum over depth (A.3)."""
    return jnp.sum(volume, axis=1)


class ProjectionLocalisation(nnx.Module):
    """A.4's convolutional localisation network on what a volume looks like along each axis.

    The means over depth, height and width are the channels of one image.
    """

    def __init__(self, input_shape: Sequence[int], *, rngs: nnx.Rngs):
        """Build the layers for cubes [N, N, N, C].

        Raises:
          ValueError: if depth, height and width differ, or are less than 26.
        """
        *sizes, channels = input_shape
        if len(sizes) != 3 or len(set(sizes)) != 1:
            raise ValueError(
                f"ProjectionLocalisation needs cubes (N, N, N, C), got {tuple(input_shape)}."
            )
        self.image_network = ConvLocalisation((*sizes[1:], 3 * channels), rngs=rngs)
        self.num_features = self.image_network.num_features

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the features [B, num_features] of x [B, N, N, N, C]."""
        views = [jnp.mean(x, axis=axis) for axis in (1, 2, 3)]
        return self.image_network(jnp.concatenate(views, axis=-1))


class TransformedProjection(nnx.Module):
    """A 3-D spatial transformer on the input, its output projected, a 2-D classifier (A.3)."""

    def __init__(self, transformer: SpatialTransformer, classifier: nnx.Module):
        """Put the classifier behind the transformer."""
        self.transformer = transformer
        self.classifier = classifier

    def __call__(
        self, x: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the logits of x [B, D, H, W, C], with theta and the warped volume."""
        warped, theta = self.transformer(x)
        return self.classifier(project(warped), rngs=rngs), {"theta": theta, "warped": warped}


class PlainProjection(nnx.Module):
    """The input projected along its depth axis, average pooling by 2 if wanted, a classifier."""

    def __init__(self, classifier: nnx.Module, *, downsample: bool):
        """Put the classifier behind the projection; `downsample` pools between."""
        self.classifier = classifier
        self.downsample = downsample

    def __call__(
        self, x: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the logits of x [B, D, H, W, C], and nothing else to report."""
        image = project(x)
        return self.classifier(avg_pool(image) if self.downsample else image, rngs=rngs), {}


def mnist_3d_model(
    name: str,
    input_shape: Sequence[int],
    *,
    transform: str | Transform | None = None,
    output_shape: Sequence[int] | None = None,
    downsample: bool = False,
    num_classes: int = 10,
    num_params: int = NUM_PARAMS,
    dropout: float = 0.0,
) -> Callable[[nnx.Rngs], nnx.Module]:
    """Return a function of the random streams that builds a network for volumes.

    Args:
      name: "st_cnn", or "cnn" for the one without a transformer.
      input_shape: (N, N, N, C) of the volumes.
      transform: the transformer's family, for "st_cnn" only.
      output_shape: (D', H', W') of the transformer's output, for "st_cnn" only.
      downsample: whether the input's projection is average-pooled by 2, for "cnn" only.
      num_classes: the classifier's outputs.
      num_params: the classifier's width is chosen such that the whole network comes as near to
        this count as it can.
      dropout: of the classifier's hidden layers, in training.

    Raises:
      ValueError: if the name is unknown, if transform and output shape are not given to a network
        with a transformer or given to one without, or if `downsample` is given to one with.
    """
    if name not in ("st_cnn", "cnn"):
        raise ValueError(f"unknown model {name!r}; there are st_cnn, cnn.")
    has_transformer = name == "st_cnn"
    if {has_transformer} != {transform is not None, output_shape is not None}:
        raise ValueError(
            f"model {name!r} {'needs' if has_transformer else 'takes no'} transform and "
            f"output_shape, got transform={transform!r}, output_shape={output_shape!r}."
        )
    if downsample and has_transformer:
        raise ValueError(f"downsample pools the input's projection; {name!r} has a transformer.")
    _, height, cols, channels = input_shape
    if downsample:
        height, cols = height // 2, cols // 2
    options = {"num_classes": num_classes, "dropout": dropout}

    def build(rngs: nnx.Rngs, width: int) -> nnx.Module:
        if not has_transformer:
            classifier = CNN((height, cols, channels), width=width, rngs=rngs, **options)
            return PlainProjection(classifier, downsample=downsample)
        localisation = ProjectionLocalisation(input_shape, rngs=rngs)
        transformer = SpatialTransformer(localisation, transform, output_shape, rngs=rngs)
        shape = (*output_shape[1:], channels)
        return TransformedProjection(transformer, CNN(shape, width=width, rngs=rngs, **options))

    width = fit_width(build, num_params)
    return lambda rngs: build(rngs, width)

"""The networks of Street View House Numbers: CNN, ST-CNN Single, ST-CNN Multi (Sect. 4.2, A.5)."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from stn_jax.geometry import Transform
from stn_jax.models.layers import Conv, Dense, flatten, max_pool
from stn_jax.models.localisation import DenseLocalisation, check_input
from stn_jax.models.spatial_transformer import SpatialTransformer

NUM_POSITIONS = 5  # numbers have one to five digits
NUM_CLASSES = 11  # ten digits, and the null class of positions behind the number's end
NUM_DENSE = 3

# The convolutions, as (filters, whether 2x2 max-pooling follows). A.5 prints the seven of
# "appendix", where Sect. 4.2 counts eleven hidden layers and the authors' slides draw eight
# convolutions and three dense layers: one more of 192 filters before the last pooling fits both.
LAYERS: dict[str, tuple[tuple[int, bool], ...]] = {
    "slides": (
        *((48, True), (64, False), (128, True), (160, False), (192, True)),
        *((192, False), (192, True), (192, False)),
    ),
    "appendix": (
        *((48, True), (64, False), (128, True), (160, False), (192, True)),
        *((192, True), (192, False)),
    ),
}


class ImageLocalisation(nnx.Module):
    """conv[32,5,1,2]-max[2]-conv[32,5,1,2]-fc[32]-fc[32]: what ST-CNN Single looks with (A.5)."""

    def __init__(self, input_shape: Sequence[int], *, units: int = 32, rngs: nnx.Rngs):
        """Build the layers for inputs [H, W, C], each with as many filters or units."""
        self.input_shape = height, width, channels = tuple(input_shape)
        self.conv1 = Conv(channels, units, 5, pad=2, rngs=rngs)
        self.conv2 = Conv(units, units, 5, pad=2, rngs=rngs)
        pooled = math.ceil(height / 2) * math.ceil(width / 2)
        self.hidden1 = Dense(pooled * units, units, rngs=rngs)
        self.hidden2 = Dense(units, units, rngs=rngs)
        self.num_features = units

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the features [B, num_features] of x [B, H, W, C]."""
        check_input(self, x)
        x = jax.nn.relu(max_pool(self.conv1(x)))
        x = flatten(jax.nn.relu(self.conv2(x)))
        return jax.nn.relu(self.hidden2(jax.nn.relu(self.hidden1(x))))


def _two_dense(input_shape: Sequence[int], *, units: int = 32, rngs: nnx.Rngs) -> DenseLocalisation:
    """fc[32]-fc[32]: what each transformer of ST-CNN Multi looks with (A.5)."""
    return DenseLocalisation(input_shape, units=(units, units), rngs=rngs)


# Model -> the localisation networks of the transformers that stand before its first convolutions.
MODELS: dict[str, tuple[Callable[..., nnx.Module], ...]] = {
    "cnn": (),
    "st_cnn_single": (ImageLocalisation,),
    "st_cnn_multi": (_two_dense,) * 4,
}


class SequenceCNN(nnx.Module):
    """Convolutions 5x5 with ReLU, three dense layers, and five softmaxes of eleven classes (A.5).

    Before the first convolutions there may be spatial transformers, the first of them on the image
    and the others on feature maps; each puts out maps of its input's size, which the sources leave
    open. Dropout follows every hidden layer (after its pooling, where it has one) except the first
    convolution, and never enters a localisation network.

    Attributes:
      convs: the convolutions.
      pooled: whether 2x2 max-pooling follows each.
      transformers: those before the first convolutions.
      hidden: the dense layers.
      classifier: the five softmax layers of A.5, side by side in one.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        layers: Sequence[tuple[int, bool]] = LAYERS["slides"],
        units: int = 3072,
        localisations: Sequence[Callable[..., nnx.Module]] = (),
        transform: str | Transform = "affine",
        dropout: float = 0.5,
        rngs: nnx.Rngs,
    ):
        """Build the layers for inputs [H, W, C].

        Args:
          input_shape: (H, W, C) of the images.
          layers: (filters, whether pooling follows) of each convolution.
          units: of each dense layer.
          localisations: for each transformer, a function of its input's shape and `rngs` that
            builds its localisation network.
          transform: the family of the transformers' warps.
          dropout: share of the activations dropped in training.
          rngs: for the initial weights.
        """
        height, width, channels = input_shape
        self.convs, self.transformers = nnx.List([]), nnx.List([])
        for number, (filters, pooled) in enumerate(layers):
            if number < len(localisations):
                localisation = localisations[number]((height, width, channels), rngs=rngs)
                self.transformers.append(SpatialTransformer(localisation, transform, rngs=rngs))
            self.convs.append(Conv(channels, filters, 5, pad=2, rngs=rngs))
            channels = filters
            if pooled:
                height, width = math.ceil(height / 2), math.ceil(width / 2)
        self.pooled = tuple(pooled for _, pooled in layers)
        widths = [height * width * channels, *[units] * NUM_DENSE]
        self.hidden = nnx.List(
            [Dense(widths[i], widths[i + 1], rngs=rngs) for i in range(NUM_DENSE)]
        )
        self.classifier = Dense(units, NUM_POSITIONS * NUM_CLASSES, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self, x: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Read the numbers in x [B, H, W, C].

        Returns:
          Logits [B, 5, 11], a position each; and of a network with N transformers theta [B, N, P],
          from the image inwards, and the warped images [B, H, W, C].
        """
        thetas, images = [], []
        for number, (conv, pooled) in enumerate(zip(self.convs, self.pooled, strict=True)):
            if number < len(self.transformers):
                x, theta = self.transformers[number](x)
                thetas.append(theta)
                images = images or [x]
            x = conv(x)
            x = jax.nn.relu(max_pool(x) if pooled else x)
            if number > 0:
                x = self.dropout(x, rngs=rngs)
        x = flatten(x)
        for layer in self.hidden:
            x = self.dropout(jax.nn.relu(layer(x)), rngs=rngs)
        logits = self.classifier(x).reshape(-1, NUM_POSITIONS, NUM_CLASSES)
        extra = {"theta": jnp.stack(thetas, axis=1), "warped": images[0]} if thetas else {}
        return logits, extra


def svhn_model(
    name: str,
    input_shape: Sequence[int],
    *,
    layers: str = "slides",
    width: float = 1.0,
    transform: str | Transform = "affine",
    dropout: float = 0.5,
) -> Callable[[nnx.Rngs], nnx.Module]:
    """Return a function of the random streams that builds a network of Table 2.

    Args:
      name: "cnn", "st_cnn_single" or "st_cnn_multi".
      input_shape: (H, W, C) of the images.
      layers: "slides" (eight convolutions) or "appendix" (seven), see `LAYERS`.
      width: factor on the numbers of filters and of units; A.5 has 1. The localisation networks,
        small as they are, keep theirs.
      transform: the family of the transformers' warps.
      dropout: share of the activations dropped in training.

    Raises:
      ValueError: if there is no such network or list of layers, or the width leaves no filter.
    """
    for kind, wanted, table in (("model", name, MODELS), ("layers", layers, LAYERS)):
        if wanted not in table:
            raise ValueError(f"unknown {kind} {wanted!r}; there are {', '.join(table)}.")
    if width <= 0:
        raise ValueError(f"width is a factor on the numbers of filters, above 0; got {width}.")

    def scaled(count: int) -> int:
        return max(1, round(width * count))

    return lambda rngs: SequenceCNN(
        input_shape,
        layers=[(scaled(filters), pooled) for filters, pooled in LAYERS[layers]],
        units=scaled(3072),
        localisations=MODELS[name],
        transform=transform,
        dropout=dropout,
        rngs=rngs,
    )

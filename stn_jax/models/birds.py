"""The networks of fine-grained birds: the Inception baseline and N x ST-CNN (Sect. 4.3, A.6)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike, DTypeLike

from stn_jax.geometry import (
    TRANSFORMS,
    Transform,
    attention_to_affine,
    fixed_attention,
    fixed_attention_to_affine,
    sample,
)
from stn_jax.models.inception import Inception, as_input
from stn_jax.models.layers import Dense, avg_pool, flatten

SCALE = 0.5  # of the crops: "fixed" in the paper, the initial one of the freer families

# Number of transformers -> where their crops are at the start, (x, y). Two half-size crops cannot
# tile an image: they stand side by side.
CENTRES: dict[int, tuple[tuple[float, float], ...]] = {
    2: ((-0.5, 0.0), (0.5, 0.0)),
    4: ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)),
}


class Family(NamedTuple):
    """A family of crops.

    Attributes:
      transform: its geometry.
      start: function of (x, y) giving theta of the crop of `SCALE` around that point.
      as_affine: function of theta [..., P] giving affine parameters [..., 6].
    """

    transform: Transform
    start: Callable[[float, float], tuple[float, ...]]
    as_affine: Callable[[ArrayLike], jax.Array]


FAMILIES: dict[str, Family] = {
    "location": Family(
        fixed_attention(SCALE),
        lambda x, y: (x, y),
        lambda theta: fixed_attention_to_affine(theta, scale=SCALE),
    ),
    "location_scale": Family(
        TRANSFORMS["attention"], lambda x, y: (SCALE, x, y), attention_to_affine
    ),
    "affine": Family(
        TRANSFORMS["affine"], lambda x, y: (SCALE, 0.0, x, 0.0, SCALE, y), jnp.asarray
    ),
}


class BirdLocalisation(nnx.Module):
    """Inception without its last pooling, a 1x1 convolution, two dense layers (A.6).

    ReLU between the added layers is assumed, and theta is not bounded.

    Attributes:
      trunk: the Inception network.
      reduce: the 1x1 convolution, a dense layer on each pixel.
      hidden: the dense layer.
      regression: the last one, with zero weights and the initial theta as bias.
    """

    def __init__(
        self,
        trunk: Inception,
        size: int,
        start: Sequence[Sequence[float]],
        *,
        units: int = 128,
        rngs: nnx.Rngs,
    ):
        """Build the layers behind a trunk.

        Args:
          trunk: of which the last block's maps are used.
          size: of a side of the images, which are square.
          start: theta [N, P] of the transformers before training.
          units: filters of the convolution and units of the dense layer.
          rngs: for the initial weights.

        Raises:
          ValueError: if the images are too small for the trunk.
        """
        bias = np.array(start, np.float32)
        height, width = trunk.map_size((size, size))
        self.trunk = trunk
        self.reduce = Dense(trunk.num_features, units, rngs=rngs)
        self.hidden = Dense(height * width * units, units, rngs=rngs)
        self.regression = nnx.Linear(
            units,
            bias.size,
            kernel_init=nnx.initializers.zeros,
            bias_init=lambda key, shape, dtype: jnp.asarray(bias, dtype).reshape(shape),
            rngs=rngs,
        )
        self.size, self.theta_shape = size, bias.shape

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return theta [B, N, P], float32, of x [B, H, W, 3], which may have twice the size."""
        if x.shape[1] == 2 * self.size:
            x = avg_pool(x)
        x = jax.nn.relu(self.reduce(self.trunk.maps(x).astype(jnp.float32)))
        x = jax.nn.relu(self.hidden(flatten(x)))
        return self.regression(x).reshape(-1, *self.theta_shape)


class BirdCNN(nnx.Module):
    """Inception, dropout and one softmax: the baseline (Sect. 4.3).

    Attributes:
      inception: the network without its own classifier.
      classifier: the last layer.
    """

    def __init__(
        self,
        inception: Inception,
        architecture: str,
        *,
        num_classes: int,
        dropout: float,
        rngs: nnx.Rngs,
    ):
        """Put a classifier behind an Inception network; see `bird_model`."""
        self.inception, self.architecture = inception, architecture
        self.dropout = nnx.Dropout(dropout)
        self.classifier = Dense(inception.num_features, num_classes, rngs=rngs)

    def __call__(
        self, images: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the logits [B, num_classes] of images [B, H, W, 3], and nothing else to report.

        The images are RGB, uint8 or floats of 0 to 1.
        """
        features = self.inception(as_input(images, self.architecture))
        return self.classifier(self.dropout(features, rngs=rngs)), {}


class BirdSTCNN(nnx.Module):
    """N transformers side by side on the image, an Inception on each crop, one softmax (A.6).

    -1 and +1 are the outer edges of the border pixels: crops of half the size then tile the image,
    and read one of twice their size pixel by pixel.

    Attributes:
      localisation: the one localisation network of all transformers.
      streams: the networks that describe the crops, each with weights of its own.
      classifier: the last layer, on the descriptors of all crops.
    """

    def __init__(
        self,
        localisation: BirdLocalisation,
        streams: Sequence[Inception],
        transform: Transform,
        architecture: str,
        *,
        crop_size: int,
        num_classes: int,
        dropout: float,
        rngs: nnx.Rngs,
    ):
        """Put the parts together; see `bird_model`."""
        self.localisation, self.streams = localisation, nnx.List(streams)
        self.transform, self.architecture = transform, architecture
        self.crop_shape = (crop_size, crop_size)
        self.dropout = nnx.Dropout(dropout)
        width = sum(stream.num_features for stream in streams)
        self.classifier = Dense(width, num_classes, rngs=rngs)

    def __call__(
        self, images: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Classify images [B, H, W, 3], RGB, uint8 or floats of 0 to 1.

        Returns:
          Logits [B, num_classes]; and theta [B, N, P], float32.
        """
        images = as_input(images, self.architecture)
        theta = self.localisation(images)
        features = []
        for number, stream in enumerate(self.streams):
            grid = self.transform.grid(theta[:, number], self.crop_shape, align_corners=False)
            features.append(stream(sample(images, grid, align_corners=False)))
        features = self.dropout(jnp.concatenate(features, axis=-1), rngs=rngs)
        return self.classifier(features), {"theta": theta}


def bird_model(
    name: str,
    image_size: int,
    *,
    architecture: str = "inception_v2",
    last: str = "",
    num_transformers: int = 2,
    transform: str = "location",
    crop_size: int = 224,
    localiser_size: int = 224,
    num_classes: int = 200,
    dropout: float = 0.7,
    statistics: str = "stored",
    dtype: DTypeLike = jnp.float32,
    remat: bool = False,
) -> Callable[[nnx.Rngs], nnx.Module]:
    """Return a function of the random streams that builds a network of Table 3.

    Args:
      name: "cnn" or "st_cnn".
      image_size: pixels of a side of the images, which are square: 224 or 448 in A.6.
      architecture: of every Inception network, a name in `inception.ARCHITECTURES`.
      last: block that they all stop behind; "" for the last one.
      num_transformers: 2 or 4; of "st_cnn", like the next three.
      transform: "location" (the crops' scale is fixed at 50%), "location_scale" or "affine".
      crop_size: pixels of a side of the crops.
      localiser_size: pixels of a side of what the localisation network sees: the image's, or half.
      num_classes: outputs of the classifier.
      dropout: share of the descriptors dropped in training, before the classifier.
      statistics: of batch normalisation in training, "stored" or those of the "batch".
      dtype: that the Inception networks compute in; everything else is float32.
      remat: whether their backward pass computes the inside of blocks again to save memory.

    Raises:
      ValueError: if there is no such network, transform or number of transformers, the image is of
        neither size, or (when it is built) something is too small for Inception.
    """
    options = {"last": last, "statistics": statistics, "dtype": dtype, "remat": remat}
    head = {"num_classes": num_classes, "dropout": dropout}
    if name == "cnn":

        def baseline(rngs: nnx.Rngs) -> BirdCNN:
            inception = Inception(architecture, **options, rngs=rngs)
            inception.map_size((image_size, image_size))  # raises
            return BirdCNN(inception, architecture, **head, rngs=rngs)

        return baseline
    if name != "st_cnn":
        raise ValueError(f"unknown model {name!r}; there are cnn, st_cnn.")
    for kind, wanted, table in (
        ("transform", transform, FAMILIES),
        ("num_transformers", num_transformers, CENTRES),
    ):
        if wanted not in table:
            names = ", ".join(map(str, table))
            raise ValueError(f"unknown {kind} {wanted!r}; there are {names}.")
    if image_size not in (localiser_size, 2 * localiser_size):
        raise ValueError(
            f"images have the localiser's size, {localiser_size}, or twice that, got {image_size}."
        )
    family = FAMILIES[transform]

    def build(rngs: nnx.Rngs) -> BirdSTCNN:
        trunk, *streams = (
            Inception(architecture, **options, rngs=rngs) for _ in range(1 + num_transformers)
        )
        trunk.map_size((crop_size, crop_size))  # raises
        start = [family.start(x, y) for x, y in CENTRES[num_transformers]]
        localisation = BirdLocalisation(trunk, localiser_size, start, rngs=rngs)
        return BirdSTCNN(
            localisation,
            streams,
            family.transform,
            architecture,
            crop_size=crop_size,
            **head,
            rngs=rngs,
        )

    return build

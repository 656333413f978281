"""Inception networks: the one with batch normalisation that A.6 builds on, and Inception-v3."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from stn_jax.models.inception_layers import (
    STATISTICS,
    Block,
    ConvUnit,
    block_output,
    convs_of,
    run_block,
)
from stn_jax.models.inception_v2 import CAFFE_WIDTHS, WIDTHS, inception_v2_blocks
from stn_jax.models.inception_v3 import inception_v3_blocks
from stn_jax.models.layers import Dense


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network as one set of public weights needs it, in every detail.

    Attributes:
      blocks: the layers, by the name of their block, in order.
      epsilon: of batch normalisation; None where it is folded into kernels and biases.
      order: of the input's channels, "RGB" or "BGR".
      mean: taken off an input's values of 0 to 255, a value for each channel in that order.
      scale: what is divided by then.
      size: pixels of a side that the weights were trained on.
    """

    blocks: dict[str, Block]
    epsilon: float | None
    order: str
    mean: tuple[float, float, float]
    scale: float
    size: int


_UNIT = {"order": "RGB", "mean": (127.5,) * 3, "scale": 127.5}  # -1 to 1

# Name -> network. "inception_v2" is TensorFlow-Slim's, with the publication's numbers of filters;
# "bn_inception" is the Caffe model; "inception_v3" is torchvision's; "inception_v3_2015" the graph
# that Google published first, with batch normalisation folded in.
ARCHITECTURES: dict[str, Architecture] = {
    "inception_v2": Architecture(
        inception_v2_blocks(
            WIDTHS,
            conv_padding="same",
            pool_padding="same",
            average="average_inside",
            normalise_first=False,
        ),
        epsilon=1e-3,
        size=224,
        **_UNIT,
    ),
    "bn_inception": Architecture(
        inception_v2_blocks(
            CAFFE_WIDTHS,
            conv_padding="symmetric",
            pool_padding="partial",
            average="average",
            normalise_first=True,
        ),
        epsilon=1e-5,
        size=224,
        order="BGR",
        mean=(104.0, 117.0, 128.0),
        scale=1.0,
    ),
    "inception_v3": Architecture(
        inception_v3_blocks(average="average", last_pool="average"),
        epsilon=1e-3,
        size=299,
        **_UNIT,
    ),
    "inception_v3_2015": Architecture(
        inception_v3_blocks(average="average_inside", last_pool="max"),
        epsilon=None,
        size=299,
        **_UNIT,
    ),
}


def get_architecture(name: str) -> Architecture:
    """Return an architecture by name.

    Raises:
      ValueError: if none has that name; the message lists those there are.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {name!r}; there are {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[name]


def as_input(images: jax.Array, architecture: str) -> jax.Array:
    """Return images as an architecture's weights want them.

    Args:
      images: [B, H, W, 3] RGB; uint8, or floats of 0 to 1.
      architecture: a name in `ARCHITECTURES`.

    Returns:
      [B, H, W, 3] float32. What lies outside of an image, where a sampler reads 0, is mid-grey.
    """
    wanted = get_architecture(architecture)
    if jnp.issubdtype(images.dtype, jnp.floating):
        images = 255 * images.astype(jnp.float32)
    if wanted.order == "BGR":
        images = images[..., ::-1]
    mean = jnp.asarray(wanted.mean, jnp.float32)[None, None, None]
    return (images.astype(jnp.float32) - mean) / wanted.scale


class Inception(nnx.Module):
    """An Inception network: whole, without its classifier, or only its first blocks.

    Attributes:
      blocks: by name of a block, its convolutions by name.
      classifier: the last layer, in networks with classes.
      num_features: channels of the last block's maps, and of the descriptor.
    """

    def __init__(
        self,
        architecture: str,
        *,
        last: str = "",
        num_classes: int = 0,
        statistics: str = "stored",
        dtype: DTypeLike = jnp.float32,
        remat: bool = False,
        rngs: nnx.Rngs,
    ):
        """Build the layers.

        Args:
          architecture: a name in `ARCHITECTURES`.
          last: name of the block to stop behind; "" for the last one.
          num_classes: outputs of the classifier; 0 for a network without.
          statistics: what batch normalisation uses in training: the "stored" ones, which then
            never change, or those of the "batch". In evaluation always those stored.
          dtype: that is computed in; parameters and statistics are float32 in any case.
          remat: whether the backward pass computes the inside of each block again, instead of
            keeping it in memory.
          rngs: for the initial weights.

        Raises:
          ValueError: if there is no such architecture, block or kind of statistics.
        """
        wanted = get_architecture(architecture)
        names = list(wanted.blocks)
        if last and last not in names:
            raise ValueError(
                f"{architecture} has no block {last!r} to stop behind; there are "
                f"{', '.join(names)}."
            )
        if statistics not in STATISTICS:
            raise ValueError(
                f"statistics are {' or '.join(map(repr, STATISTICS))}, got {statistics!r}."
            )
        names = names[: names.index(last) + 1] if last else names
        self.steps = tuple((name, wanted.blocks[name]) for name in names)
        self.blocks, features = nnx.Dict(), 3
        for name, block in self.steps:
            convs, features = convs_of(block, features)
            units = {
                unit: ConvUnit(
                    width,
                    conv,
                    epsilon=wanted.epsilon,
                    statistics=statistics,
                    dtype=dtype,
                    rngs=rngs,
                )
                for unit, (width, conv) in convs.items()
            }
            if units:  # Pooling alone has nothing to learn.
                self.blocks[name] = nnx.Dict(units)
        self.num_features, self.dtype, self.remat = features, jnp.dtype(dtype), remat
        self.classifier = Dense(features, num_classes, rngs=rngs) if num_classes else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the logits [B, num_classes] of x, or its descriptor without a classifier.

        Args:
          x: [B, H, W, 3] float, as `as_input` gives it.

        Returns:
          float32 [B, num_classes] or, as the mean of the last block's maps, [B, num_features].
        """
        return self.head(self.maps(x))

    def maps(self, x: jax.Array) -> jax.Array:
        """Return the maps [B, h, w, num_features] of the last block, in the network's dtype."""
        x = x.astype(self.dtype)
        for name, block in self.steps:
            x = self._run(name, block, x)
        return x

    def head(self, maps: jax.Array) -> jax.Array:
        """Return what a call does, from the last block's maps [B, h, w, num_features]."""
        features = jnp.mean(maps.astype(jnp.float32), axis=(1, 2))
        return features if self.classifier is None else self.classifier(features)

    def map_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return the size (h, w) of the last block's maps of images of a size (H, W).

        Raises:
          ValueError: if nothing is left of images so small, or the branches of a block make maps of
            different sizes, as some images' sizes have it that are no multiples of 32.
        """
        size = tuple(image_size)
        for name, block in self.steps:
            try:
                size = block_output(block, size)
            except ValueError as error:
                raise ValueError(
                    f"images of {tuple(image_size)} do not fit {name}, {error} Multiples of 32 do."
                ) from error
        if min(size) < 1:
            raise ValueError(
                f"nothing is left of images of {tuple(image_size)} in {self.steps[-1][0]}."
            )
        return size

    def activations(self, x: jax.Array) -> dict[str, jax.Array]:
        """Return the maps of every block by name."""
        found, x = {}, x.astype(self.dtype)
        for name, block in self.steps:
            found[name] = x = self._run(name, block, x)
        return found

    def _run(self, name: str, block: Block, x: jax.Array) -> jax.Array:
        if name not in self.blocks:
            return run_block(block, {}, x)
        if not self.remat:
            return run_block(block, self.blocks[name], x)
        graph, variables = nnx.split(self.blocks[name])

        @jax.checkpoint
        def again(variables: nnx.State, x: jax.Array) -> tuple[jax.Array, nnx.State]:
            convs = nnx.merge(graph, variables, copy=True)
            return run_block(block, convs, x), nnx.state(convs, nnx.BatchStat)

        x, statistics = again(variables, x)
        nnx.update(self.blocks[name], statistics)
        return x

"""The networks of traffic signs: a CNN, with spatial transformers before some of its convolutions.

After the published recipe. Its pooling leaves out a last odd row or column, where the classifiers
of the paper keep partial windows: 48 pixels become 23, 12 and 6.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from stn_jax.geometry import Transform
from stn_jax.models.contrast import WINDOWS, normalise_contrast
from stn_jax.models.layers import Conv, Dense, flatten, max_pool
from stn_jax.models.localisation import check_input
from stn_jax.models.spatial_transformer import SpatialTransformer

NUM_CLASSES = 43
KERNELS = (7, 4, 4)  # sides of the three convolutions
PAD = 2


class SignLocalisation(nnx.Module):
    """max[2]-conv[n1,5,1,2]-max[2]-conv[n2,5,1,2]-max[2]-fc[n3]: what a transformer looks with.

    ReLU follows each weight layer.
    """

    def __init__(self, input_shape: Sequence[int], *, widths: Sequence[int], rngs: nnx.Rngs):
        """Build the layers for inputs [H, W, C] of at least 8x8; widths are (n1, n2, n3)."""
        self.input_shape = height, width, channels = tuple(input_shape)
        if min(height, width) < 8:
            raise ValueError(
                f"SignLocalisation needs inputs of 8x8 at least, got {tuple(input_shape)}."
            )
        n1, n2, n3 = widths
        self.conv1 = Conv(channels, n1, 5, pad=2, rngs=rngs)
        self.conv2 = Conv(n1, n2, 5, pad=2, rngs=rngs)
        self.hidden = Dense((height // 8) * (width // 8) * n2, n3, rngs=rngs)
        self.num_features = n3

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the features [B, num_features] of x [B, H, W, C]."""
        check_input(self, x)
        x = jax.nn.relu(_pool(self.conv1(_pool(x))))
        x = jax.nn.relu(_pool(self.conv2(x)))
        return jax.nn.relu(self.hidden(flatten(x)))


class SignCNN(nnx.Module):
    """Three convolutions, each with ReLU and pooling, and two dense layers, to 43 classes.

    Attributes:
      convs: the convolutions: 7x7, 4x4 and 4x4.
      before: the numbers, from 1, of the convolutions that a transformer stands before.
      transformers: these transformers, in order.
      hidden: the dense layer between.
      classifier: the last one.
      window: name of the local contrast normalisation's behind each pooling, or "".
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        widths: Sequence[int] = (150, 200, 300, 350),
        localisations: dict[int, Sequence[int]] | None = None,
        transform: str | Transform = "affine",
        normalise: str = "",
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):
        """Build the layers for inputs [H, W, C].

        Args:
          input_shape: (H, W, C) of the images.
          widths: filters of the three convolutions and units of the dense layer: a, b, c, d.
          localisations: number of a convolution, from 1 -> (n1, n2, n3) of the localisation network
            of the transformer before it.
          transform: the family of the transformers' warps.
          normalise: local contrast normalisation behind each pooling, of `contrast.WINDOWS`;
            "" for none.
          dropout: share of the dense layer's inputs and outputs that is dropped in training.
          rngs: for the initial weights.

        Raises:
          ValueError: if there is no such convolution or window, or maps become too small.
        """
        localisations = localisations or {}
        if unknown := set(localisations) - {1, 2, 3}:
            raise ValueError(
                f"transformers stand before convolution 1, 2 or 3, got {sorted(unknown)}."
            )
        if normalise and normalise not in WINDOWS:
            raise ValueError(
                f"unknown normalise {normalise!r}; there are {', '.join(WINDOWS)}, or ''."
            )
        if len(widths) != len(KERNELS) + 1:
            raise ValueError(
                f"widths are those of three convolutions and a dense layer, got {widths}."
            )
        height, width, channels = input_shape
        self.convs, self.transformers = nnx.List([]), nnx.List([])
        for number, (filters, side) in enumerate(zip(widths, KERNELS, strict=False), 1):
            if number in localisations:
                localisation = SignLocalisation(
                    (height, width, channels), widths=localisations[number], rngs=rngs
                )
                self.transformers.append(SpatialTransformer(localisation, transform, rngs=rngs))
            self.convs.append(Conv(channels, filters, side, pad=PAD, rngs=rngs))
            height, width = ((n + 2 * PAD - side + 1) // 2 for n in (height, width))
            channels = filters
        self.before = tuple(sorted(localisations))
        self.hidden = Dense(height * width * channels, widths[-1], rngs=rngs)
        self.classifier = Dense(widths[-1], NUM_CLASSES, rngs=rngs)
        self.window = normalise
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self, x: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Classify x [B, H, W, C].

        Returns:
          Logits [B, 43]; and of a network with N transformers theta [B, N, P], from the image
          inwards, and what the first of them puts out: [B, H, W, C] if it is before the first
          convolution.
        """
        thetas, warped = [], []
        for number, conv in enumerate(self.convs, 1):
            if number in self.before:
                x, theta = self.transformers[self.before.index(number)](x)
                thetas.append(theta)
                warped.append(x)
            x = jax.nn.relu(_pool(conv(x)))
            if self.window:
                x = normalise_contrast(x, WINDOWS[self.window])
        x = self.dropout(flatten(x), rngs=rngs)
        x = self.dropout(jax.nn.relu(self.hidden(x)), rngs=rngs)
        extra = {"theta": jnp.stack(thetas, axis=1), "warped": warped[0]} if thetas else {}
        return self.classifier(x), extra


def _pool(x: jax.Array) -> jax.Array:
    """Take the maximum of whole 2x2 windows: a last odd row or column is left out."""
    return max_pool(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])

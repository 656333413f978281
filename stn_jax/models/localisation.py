"""Localisation networks f_loc: what a spatial transformer looks at its input with (Sect. 3.1).

A localisation network maps [B, H, W, C] to features [B, num_features]; the transformer adds the
final regression layer. Anything with that call and a `num_features` attribute will do.
"""

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from stn_jax.models.layers import Conv, Dense, avg_pool, flatten, max_pool


def check_input(network: nnx.Module, x: jax.Array) -> None:
    """Raise ValueError unless x is a batch of what the network was built for: `input_shape`."""
    if x.shape[1:] != network.input_shape:
        layout = ", ".join(map(str, network.input_shape))
        raise ValueError(
            f"{type(network).__name__} was built for inputs [B, {layout}], got {list(x.shape)}."
        )


class DenseLocalisation(nnx.Module):
    """Fully connected hidden layers with ReLU on the full-size input (A.4: three of 32 units)."""

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        units: Sequence[int] = (32, 32, 32),
        rngs: nnx.Rngs,
    ):
        """Build the layers for inputs [H, W, C] with the given numbers of hidden units."""
        self.input_shape = tuple(input_shape)
        widths = [int(np.prod(input_shape)), *units]
        self.hidden = nnx.List(
            [Dense(n_in, n_out, rngs=rngs) for n_in, n_out in zip(widths, units, strict=False)]
        )
        self.num_features = widths[-1]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the features [B, num_features] of x [B, H, W, C]."""
        check_input(self, x)
        x = flatten(x)
        for layer in self.hidden:
            x = jax.nn.relu(layer(x))
        return x


class ConvLocalisation(nnx.Module):
    """Two 5x5 convolutions on the 2x downsampled input, pooling between, then a dense layer (A.4).

    The paper does not say how the input is downsampled; here by 2x2 average pooling.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        filters: int = 20,
        units: int = 20,
        rngs: nnx.Rngs,
    ):
        """Build the layers for inputs [H, W, C]; H and W of at least 26."""
        self.input_shape = height, width, channels = _image_shape(input_shape)
        rows, cols = (-(-(size // 2 - 4) // 2) - 4 for size in (height, width))
        if min(rows, cols) < 1:
            raise ValueError(
                f"ConvLocalisation needs inputs of 26x26 at least, got {tuple(input_shape)}."
            )
        self.conv1 = Conv(channels, filters, 5, rngs=rngs)
        self.conv2 = Conv(filters, filters, 5, rngs=rngs)
        self.hidden = Dense(rows * cols * filters, units, rngs=rngs)
        self.num_features = units

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the features [B, num_features] of x [B, H, W, C]."""
        check_input(self, x)
        x = jax.nn.relu(max_pool(self.conv1(avg_pool(x))))
        x = jax.nn.relu(self.conv2(x))
        return jax.nn.relu(self.hidden(flatten(x)))


class StridedLocalisation(nnx.Module):
    """A convolution with a stride, 2x2 max-pooling, two dense layers (A.2; ReLU is assumed).

    Eight 9x9 filters with stride 4 and 8 units leave 19x19 and then, without partial windows, 9x9
    of an 84x84 image: 5,920 parameters, where A.2 speaks of a network of 100k.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        filters: int = 8,
        size: int = 9,
        stride: int = 4,
        units: int = 8,
        rngs: nnx.Rngs,
    ):
        """Build the layers for inputs [H, W, C]."""
        self.input_shape = height, width, channels = _image_shape(input_shape)
        rows, cols = (((n - size) // stride + 1) // 2 for n in (height, width))
        if min(rows, cols) < 1:
            raise ValueError(
                f"StridedLocalisation needs inputs of {size + stride}x{size + stride} at least, "
                f"got {tuple(input_shape)}."
            )
        self.conv = Conv(channels, filters, size, stride=stride, rngs=rngs)
        self.hidden1 = Dense(rows * cols * filters, units, rngs=rngs)
        self.hidden2 = Dense(units, units, rngs=rngs)
        self.num_features = units

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the features [B, num_features] of x [B, H, W, C]."""
        check_input(self, x)
        x = self.conv(x)
        height, width = (n // 2 * 2 for n in x.shape[1:3])
        x = jax.nn.relu(max_pool(x[:, :height, :width]))
        return jax.nn.relu(self.hidden2(jax.nn.relu(self.hidden1(flatten(x)))))


def _image_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    if len(input_shape) != 3:
        raise ValueError(f"the input's shape must be (H, W, C), got {tuple(input_shape)}.")
    return tuple(input_shape)

"""Layers shared by the networks: He-initialised dense and convolution layers, and pooling."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stn_jax.models.conv import conv2d

he_normal = nnx.initializers.he_normal()


class Dense(nnx.Linear):
    """A dense layer with He normal weights and zero biases."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs):
        super().__init__(in_features, out_features, kernel_init=he_normal, rngs=rngs)


class Conv(nnx.Module):
    """A convolution with He normal weights and zero biases: conv[filters, size, stride, pad].

    Attributes:
      kernel: [size, size, in_features, filters].
      bias: [filters].
      stride: pixels from one output to the next.
      pad: zero pixels added on every side.
    """

    def __init__(
        self,
        in_features: int,
        filters: int,
        size: int,
        *,
        stride: int = 1,
        pad: int = 0,
        rngs: nnx.Rngs,
    ):
        shape = (size, size, in_features, filters)
        self.kernel = nnx.Param(he_normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(filters))
        self.stride, self.pad = stride, pad

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolve x [B, H, W, in_features]; the result is [B, H', W', filters].

        As in Flax's layers, the wider dtype of x and the weights is the result's. Differentiable in
        reverse mode only; see `conv2d`, also for what is raised.
        """
        kernel = self.kernel[...]
        dtype = jnp.promote_types(x.dtype, kernel.dtype)
        margin = (self.pad, self.pad)
        x = jnp.pad(x.astype(dtype), ((0, 0), margin, margin, (0, 0)))
        return conv2d(x, kernel.astype(dtype), stride=self.stride) + self.bias[None, None, None]


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Take the maximum of 2x2 windows with stride 2, keeping partial windows (ceil mode).

    Where several pixels of a window are equal, they share the gradient. Reverse mode, to any
    order: written by hand, since JAX's own gradient of a maximum takes twice the time on CPUs.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, ceil(H / 2), ceil(W / 2), C].
    """
    return _max_and_quarters(x)[0]


def _max_and_quarters(x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    _, height, width, _ = x.shape
    odd = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    a, b, c, d = _quarters(jnp.pad(x, odd, constant_values=-jnp.inf))
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d)), [a, b, c, d]


def _max_pool_backward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    maximum, quarters = _max_and_quarters(x)
    largest = [quarter == maximum for quarter in quarters]
    share = dy / sum(equal.astype(dy.dtype) for equal in largest)
    a, b, c, d = (jnp.where(equal, share, 0) for equal in largest)
    windows = jnp.stack([jnp.stack([a, b], axis=3), jnp.stack([c, d], axis=3)], axis=2)
    batch, rows, _, cols, _, channels = windows.shape
    dx = windows.reshape(batch, 2 * rows, 2 * cols, channels)
    return (dx[:, : x.shape[1], : x.shape[2]],)


max_pool.defvjp(lambda x: (max_pool(x), x), _max_pool_backward)


def avg_pool(x: jax.Array) -> jax.Array:
    """Average 2x2 windows with stride 2; a last odd row or column is left out.

    Args:
      x: [B, H, W, C].

    Returns:
      [B, H // 2, W // 2, C].
    """
    batch, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    # Whole rows first: on CPUs four times as fast as the four pixels of a window at once. Behind a
    # sampler of two channels, whose loop XLA joins with this one, forward and backward of both take
    # a third of the time.
    windows = x[:, : 2 * rows, : 2 * columns].reshape(batch, rows, 2, 2 * columns * channels)
    pairs = (windows[:, :, 0] + windows[:, :, 1]).reshape(batch, rows, columns, 2, channels)
    return (pairs[:, :, :, 0] + pairs[:, :, :, 1]) / 4


def _quarters(x: jax.Array) -> list[jax.Array]:
    """Return the four pixels of each 2x2 window, as arrays of half the size.

    Elementwise arithmetic on these is up to four times faster than XLA's window reductions on
    CPUs, forward and backward.
    """
    batch, height, width, channels = x.shape
    windows = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return [windows[:, :, i, :, j] for i in (0, 1) for j in (0, 1)]


def flatten(x: jax.Array) -> jax.Array:
    """Return [B, H, W, C] as [B, H * W * C]."""
    return x.reshape(x.shape[0], int(np.prod(x.shape[1:])))

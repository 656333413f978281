"""Convolution without padding that is fast on CPUs too, forward and backward.

XLA's CPU convolutions reach a tenth of what its matrix products do, their gradients less. Here a
convolution is one matrix product on CPUs, in which a row is not the window of one output pixel
but that of a block of 2x2:

    row     the block's common window, (k + 1) x (k + 1) pixels of C channels
    column  one of the block's four pixels, one filter: the kernel, put at that pixel's offset

The product computes (k + 1)^2 / k^2 of what is needed (1.3 times for 7x7), but the windows that
have to be copied together for it shrink to a third, and the copying, not the arithmetic, is what
costs. The copies themselves are those of an ordinary convolution with stride 1, once each 2x2
block of pixels is seen as one pixel of 4 C channels. On other backends XLA's convolution is used.
"""

import jax
import jax.numpy as jnp
from jax import lax

# Along an axis with fewer outputs the blocks would compute too much that is thrown away.
_MIN_OUTPUTS = 4


@jax.custom_vjp
def conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve (cross-correlate) with stride 1 and without padding.

    Args:
      x: [B, H, W, C] float.
      kernel: [kh, kw, C, F] of the same dtype.

    Returns:
      [B, H - kh + 1, W - kw + 1, F].

    Gradient:
      Reverse mode, to any order; forward mode is not defined.
    """
    return lax.platform_dependent(x, kernel, cpu=_blocked_conv2d, default=_xla_conv2d)


def _forward(x: jax.Array, kernel: jax.Array):
    return conv2d(x, kernel), (x, kernel)


def _backward(residuals, dy: jax.Array):
    def gradients(conv):
        return lambda x, kernel, dy: jax.vjp(conv, x, kernel)[1](dy)

    return lax.platform_dependent(
        *residuals, dy, cpu=gradients(_blocked_conv2d), default=gradients(_xla_conv2d)
    )


conv2d.defvjp(_forward, _backward)


def _xla_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout)


def _blocked_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    height, width = (n - k + 1 for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True))
    block = tuple(2 if size >= _MIN_OUTPUTS else 1 for size in (height, width))
    kernel = _block_kernel(kernel, block)
    rows, cols, channels, filters = kernel.shape
    blocks_down, blocks_across = -(-height // block[0]), -(-width // block[1])
    x = _space_to_depth(x, block, (blocks_down + rows - 1, blocks_across + cols - 1))
    # Along one axis, then the other: the windows are copied together from far fewer pieces.
    x = jnp.concatenate([x[:, :, j : j + blocks_across] for j in range(cols)], axis=-1)
    x = jnp.concatenate([x[:, i : i + blocks_down] for i in range(rows)], axis=-1)
    y = x.reshape(-1, rows * cols * channels) @ kernel.reshape(-1, filters)
    y = y.reshape(-1, blocks_down, blocks_across, filters)
    return _depth_to_space(y, block)[:, :height, :width]


def _block_kernel(kernel: jax.Array, block: tuple[int, int]) -> jax.Array:
    """Return the kernel between blocks of b pixels: [kh', kw', b C, b F]."""
    offsets = [(i, j) for i in range(block[0]) for j in range(block[1])]
    shifted = [
        jnp.pad(kernel, ((i, block[0] - 1 - i), (j, block[1] - 1 - j), (0, 0), (0, 0)))
        for i, j in offsets
    ]
    shifted = jnp.stack(shifted, axis=3)  # [k + 1, k + 1, C, b, F]
    size = tuple(-(-k // b) for k, b in zip(shifted.shape[:2], block, strict=True))
    blocked = _space_to_depth(shifted.reshape(1, *shifted.shape[:2], -1), block, size)
    return blocked.reshape(*size, -1, len(offsets) * kernel.shape[-1])


def _space_to_depth(x: jax.Array, block: tuple[int, int], size: tuple[int, int]) -> jax.Array:
    """Make each block of pixels one pixel, its channels the block's pixels row by row.

    Args:
      x: [B, H, W, C].
      block: pixels of a block, downwards and across.
      size: blocks of the result; zeros are appended to x as needed.
    """
    batch, height, width, channels = x.shape
    x = jnp.pad(
        x, ((0, 0), (0, size[0] * block[0] - height), (0, size[1] * block[1] - width), (0, 0))
    )
    x = x.reshape(batch, size[0], block[0], size[1], block[1], channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, *size, -1)


def _depth_to_space(x: jax.Array, block: tuple[int, int]) -> jax.Array:
    """Undo `_space_to_depth`, but for its padding."""
    batch, rows, cols, _ = x.shape
    x = x.reshape(batch, rows, cols, *block, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, rows * block[0], cols * block[1], -1)

"""Convolution without padding that is fast on CPUs too, forward and backward.

XLA's CPU convolutions reach a tenth of what its matrix products do, their gradients less. On CPUs a
convolution is made of matrix products here, in one of two ways, whichever takes less work.

Blocked: one product, in which a row is not the window of one output pixel but that of a block of
2x2. For few channels.

    row     the block's common window, (k + 1) x (k + 1) pixels of C channels
    column  one of the block's four pixels, one filter: the kernel, put at that pixel's offset

The product computes (k + 1)^2 / k^2 of what is needed (1.3 times for 7x7), but the windows that
have to be copied together for it shrink to a third, and the copying, not the arithmetic, is what
costs. The copies themselves are those of an ordinary convolution with stride 1, once each 2x2
block of pixels is seen as one pixel of 4 C channels.

Fourier: the convolution theorem. The spectra of image and kernel are multiplied, for each frequency
one product between channels and filters; the transforms are products with constant matrices.
Spectra as large as the image suffice, as only outputs that need padding would wrap around. With
17x17 pixels, a 7x7 kernel and 87 channels it takes a third of the multiplications.

Both are linear in image and in kernel, so that the gradients, which JAX derives, are again such
products. On other backends XLA's convolution is used.

A Fourier transform sees the whole image: there rounding errors go with its largest pixel, and one
that is not finite makes NaN of all outputs, not only of those whose window it is in.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# How many times as much a multiplication costs in a window, which has to be copied together first.
_COPIED = 2
# Elements of a transform's matrix; beyond, rows and columns would have to be transformed in turn.
_LARGEST_TRANSFORM = 2**20
# Along an axis with fewer outputs the blocks would compute too much that is thrown away.
_MIN_OUTPUTS = 4


def conv2d(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """Convolve (cross-correlate) without padding.

    Args:
      x: [B, H, W, C] float.
      kernel: [kh, kw, C, F] of the same dtype.
      stride: pixels from one output to the next, down and across.

    Returns:
      [B, (H - kh) // stride + 1, (W - kw) // stride + 1, F].

    Raises:
      ValueError: if the kernel is of other channels, or larger than the image.

    Gradient:
      Reverse mode, to any order; forward mode is not defined with stride 1.
    """
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[-1] != kernel.shape[2]:
        raise ValueError(
            "x [B, H, W, C] and a kernel [kh, kw, C, F] of as many channels are needed, got "
            f"{list(x.shape)} and {list(kernel.shape)}."
        )
    if any(size < k for size, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)):
        raise ValueError(
            f"a kernel of {kernel.shape[0]}x{kernel.shape[1]} pixels does not fit in an image of "
            f"{x.shape[1]}x{x.shape[2]}."
        )
    # A stride leaves so little to compute that XLA's is used for it on CPUs too.
    use_xla = stride > 1 or 0 in x.shape
    return _xla_conv2d(x, kernel, stride) if use_xla else _conv2d(x, kernel)


@jax.custom_vjp
def _conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.platform_dependent(x, kernel, cpu=_cpu_conv2d, default=_xla_conv2d)


def _forward(x: jax.Array, kernel: jax.Array):
    return _conv2d(x, kernel), (x, kernel)


def _backward(residuals, dy: jax.Array):
    def gradients(conv):
        return lambda x, kernel, dy: jax.vjp(conv, x, kernel)[1](dy)

    return lax.platform_dependent(
        *residuals, dy, cpu=gradients(_cpu_conv2d), default=gradients(_xla_conv2d)
    )


_conv2d.defvjp(_forward, _backward)


def _xla_conv2d(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, "VALID", dimension_numbers=layout)


def _cpu_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    rows, cols, _, filters = kernel.shape
    outputs = (height - rows + 1) * (width - cols + 1)
    products = batch * outputs * kernel.size
    image, frequencies = height * width, height * (width // 2 + 1)
    transforms = batch * (image * channels + outputs * filters) + kernel.size
    spectral = frequencies * (4 * batch * channels * filters + 2 * transforms)
    pays = spectral < _COPIED * products and frequencies * image <= _LARGEST_TRANSFORM
    return (_fourier_conv2d if pays else _blocked_conv2d)(x, kernel)


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


def _fourier_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    dtype = x.dtype
    x, kernel = (a.astype(jnp.promote_types(dtype, jnp.float32)) for a in (x, kernel))
    size = x.shape[1:3]
    height, width = (n - k + 1 for n, k in zip(size, kernel.shape[:2], strict=True))
    waves, twins = _waves(size)

    def spectrum(pixels, wave):  # [h, w, ., .] -> [frequencies, ., .]
        rows, cols, *others = pixels.shape
        wave = jnp.asarray(wave[:, :rows, :cols].reshape(-1, rows * cols), x.dtype)
        return (wave @ pixels.reshape(rows * cols, -1)).reshape(-1, *others)

    def outputs(spectrum, wave):  # [frequencies, B, F] -> [height, width, B, F]
        wave = twins * wave[:, :height, :width] / (size[0] * size[1])
        wave = jnp.asarray(wave.reshape(-1, height * width).T, x.dtype)
        return (wave @ spectrum.reshape(len(spectrum), -1)).reshape(height, width, len(x), -1)

    real, imag = (spectrum(x.transpose(1, 2, 0, 3), wave) for wave in waves)
    kernel_real, kernel_imag = (spectrum(kernel, wave) for wave in waves)
    # A correlation's spectrum is that of the image times the conjugate of the kernel's.
    y_real = real @ kernel_real + imag @ kernel_imag
    y_imag = imag @ kernel_real - real @ kernel_imag
    # The real part of the spectrum times e^{it}, the conjugate wave.
    y = outputs(y_real, waves[0]) + outputs(y_imag, waves[1])
    return y.transpose(2, 0, 1, 3).astype(dtype)


def _waves(size: tuple[int, int]) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return the waves of the Fourier transform of real images, and how many each stands for.

    Returns:
      Real and imaginary part of e^{-it}, each [frequencies, H, W], of which half the frequencies
      are needed; 2 [frequencies, 1, 1], for the conjugate one that is left out, or 1 without one.
    """
    height, width = size
    down, across = np.indices((height, width // 2 + 1)).reshape(2, -1, 1, 1)
    y, x = np.indices(size)
    wave = np.exp(-2j * np.pi * (down * y / height + across * x / width))
    twins = np.where((across == 0) | (2 * across == width), 1, 2)
    return (wave.real, wave.imag), twins


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

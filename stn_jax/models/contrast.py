"""Local contrast normalisation, of images and between layers, as a pure function.

That of Torch's SpatialContrastiveNormalization, which the published traffic sign recipe uses: a
Gaussian for the images, a box between layers.
"""

import jax
import jax.numpy as jnp
import numpy as np


def gaussian(taps: int, sigma: float) -> np.ndarray:
    """Return a Gaussian of odd length, float64 [taps], with its centre in the middle, sum 1."""
    distance = np.arange(taps) - (taps - 1) / 2
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    return weights / weights.sum()


# Name -> weights along either axis: the window is their outer product.
WINDOWS: dict[str, np.ndarray] = {"gaussian": gaussian(7, 1.75), "box": np.full(9, 1 / 9)}


def normalise_contrast(
    x: jax.Array, window: np.ndarray = WINDOWS["gaussian"], *, floor: float = 1e-4
) -> jax.Array:
    """Subtract the local mean from each pixel, and divide by the local standard deviation.

    Both are weighted by a window around the pixel and pooled over the channels, so one number a
    pixel. At the border the mean is over the part of the window inside the image. The deviation is
    Torch's: the root of the sum over that part, divided by the part's weight, which is more than
    the weighted deviation there, where the weight stands below the root.

    Args:
      x: [..., H, W, C] float.
      window: [taps], odd, sum 1: the weights along either axis; a constant, NumPy.
      floor: the least that is divided by; positive.

    Returns:
      [..., H, W, C] in x's dtype.

    Raises:
      ValueError: if the window has no pixel in its middle, x no three axes, or the floor is not
        positive.
      TypeError: if x is not floating point.

    Gradient: none through the deviation where the floor replaces it.
    """
    if window.ndim != 1 or len(window) % 2 == 0:
        raise ValueError(f"window must be [taps] with an odd number, got {list(window.shape)}.")
    if x.ndim < 3:
        raise ValueError(f"x must be [..., H, W, C], got {list(x.shape)}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x must be floating point, got {x.dtype}.")
    if floor <= 0:
        raise ValueError(f"floor must be positive, got {floor}.")
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    down, across = (_band(size, window) for size in x.shape[-3:-1])
    inside = down.sum(axis=1)[:, None] * across.sum(axis=1)[None]  # [H, W], 1 away from borders
    down, across = jnp.asarray(down, dtype), jnp.asarray(across.T, dtype)
    inside = jnp.asarray(inside, dtype).reshape((1,) * (x.ndim - 3) + inside.shape)

    def weigh(values: jax.Array) -> jax.Array:  # [..., H, W, C] -> [..., H, W]
        pooled = jnp.mean(values, axis=-1)
        # Full float32: what is subtracted is much larger than what is left.
        highest = jax.lax.Precision.HIGHEST
        rows = jnp.einsum("ij,...jk->...ik", down, pooled, precision=highest)
        return jnp.einsum("...ik,kl->...il", rows, across, precision=highest)

    centred = x.astype(dtype) - (weigh(x.astype(dtype)) / inside)[..., None]
    # The root's slope at 0 is infinite: it is not taken below the floor.
    least = jnp.square(floor * inside)
    deviation = jnp.sqrt(jnp.maximum(weigh(jnp.square(centred)), least)) / inside
    return (centred / deviation[..., None]).astype(x.dtype)


def _band(size: int, window: np.ndarray) -> np.ndarray:
    """Return the matrix [size, size] that weighs each position's neighbours; 0 outside."""
    offset = np.arange(size) - np.arange(size)[:, None] + len(window) // 2
    kept = (offset >= 0) & (offset < len(window))
    return np.where(kept, window[np.clip(offset, 0, len(window) - 1)], 0.0)

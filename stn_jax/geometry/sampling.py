"""Differentiable image sampling (Sect. 3.3): nearest and bilinear, in two or three dimensions.

How it works: the image is padded by two pixels on every side and flattened, each output point
gathers the 2^N taps around it, and the taps are interpolated axis by axis. Because whatever lies
further out equals the padding, clipping the *tap index* is all that the border needs: no masks,
and clipped points get gradient 0 since their taps are equal.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from stn_jax.geometry.checks import at_least_float32
from stn_jax.geometry.coords import axis_to_pixels

_PAD = 2
_FEW_CHANNELS = 4
_MAX_INDEX = np.iinfo(np.int32).max


def sample(
    image: ArrayLike,
    grid: ArrayLike,
    *,
    kernel: str = "bilinear",
    padding: str = "zeros",
    align_corners: bool = True,
) -> jnp.ndarray:
    """Sample images at the points of a grid (Eq. 3 with the kernel of Eq. 4 or Eq. 5).

    Args:
      image: [B, H, W, C] (or volumes [B, D, H, W, C]); float32, bfloat16, float16 (or float64).
      grid: [B, h, w, 2] in (x, y) (or [B, d, h, w, 3] in (x, y, z)); normalised coordinates,
        where -1 and +1 are the centres of the border pixels, or their outer edges without
        `align_corners`. Any output size; coordinates are computed in float32 at least.
      kernel: "bilinear" (Eq. 5; trilinear in volumes, Eq. 9) or "nearest" (Eq. 4, ties round up).
      padding: what lies outside: "zeros", "border" (the nearest border pixel), or "reflection"
        (the image mirrored about the lines that -1 and +1 name, again and again).
      align_corners: the convention of the grid's coordinates, see `geometry.coords`.

    Returns:
      [B, h, w, C] (or [B, d, h, w, C]) in the image's dtype, accumulated in float32 (or float64).
      With "bilinear" a NaN coordinate gives NaN; an infinite one lies outside, if the axis has
      more than one pixel, and gives NaN with "reflection". With "nearest" they read some pixel.
      A pixel that is not finite makes NaN of all points next to it, even of weight 0.

    Gradient:
      With respect to the image, the kernel's weights (Eq. 6); it is computed only where asked
      for. With respect to the grid, Eq. 7, and exactly on a pixel centre the derivative from the
      right, U(x + 1) - U(x), where Eq. 7 read literally gives U(x): this is what makes a
      transformer trainable from the identity. With zero padding the last column's is therefore
      -U(W - 1); "border" padding makes it 0. In a mirrored copy more than a pixel outside it may be
      the derivative from the left. "nearest" has gradient 0 in the grid. Forward and
      reverse mode, to any order.

    Coordinates within float rounding of a pixel's centre or edge are put there, so that the
    identity returns finite images bit by bit and always has the gradient above.

    Raises:
      ValueError: on ranks, sizes or names that do not fit; the message shows what was given.
      TypeError: if image or grid is not floating point: images of bytes are to be converted first.
    """
    image, grid = jnp.asarray(image), jnp.asarray(grid)
    check_options(kernel, padding)
    _check(image, grid)
    shape = image.shape[1:-1]
    grid = grid.astype(at_least_float32(grid.dtype))
    # One array a coordinate: loops over interleaved (x, y) pairs are twice as slow on CPUs. A
    # split, unlike indexing, has a concatenation as its gradient.
    coordinates = jax.lax.split(grid, (1,) * len(shape), axis=-1)
    points = tuple(
        axis_to_pixels(coordinate[..., 0], shape, axis, align_corners=align_corners)
        for axis, coordinate in enumerate(coordinates)
    )
    extend, fold = PADDINGS[padding]
    if fold:
        sizes = shape[::-1]
        points = tuple(
            fold(point, size, align_corners) for point, size in zip(points, sizes, strict=True)
        )
    padded = extend(image.astype(at_least_float32(image.dtype)), align_corners)
    return KERNELS[kernel](padded, points).astype(image.dtype)


def _extend_zeros(image: jnp.ndarray, _: bool) -> jnp.ndarray:
    # On CPUs merging x and channels halves the time: the loop over few channels costs more.
    *outer, width, channels = image.shape
    around = [(_PAD, _PAD)] * (len(outer) - 1)
    widths = [(0, 0), *around, (_PAD * channels, _PAD * channels)]
    padded = jnp.pad(image.reshape(*outer, width * channels), widths)
    return padded.reshape(*padded.shape[:-1], width + 2 * _PAD, channels)


def _extend(image: jnp.ndarray, mode: str) -> jnp.ndarray:
    return jnp.pad(image, [(0, 0), *[(_PAD, _PAD)] * (image.ndim - 2), (0, 0)], mode=mode)


def _extend_border(image: jnp.ndarray, _: bool) -> jnp.ndarray:
    return _extend(image, "edge")


def _extend_reflection(image: jnp.ndarray, align_corners: bool) -> jnp.ndarray:
    return _extend(image, "reflect" if align_corners else "symmetric")


def _reflect(point: jnp.ndarray, size: int, align_corners: bool) -> jnp.ndarray:
    """Mirror coordinates that lie more than a pixel outside back into the image.

    Those within a pixel stay: the extended image has their taps, and so the slope from the right.
    """
    low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
    if span == 0:
        return jnp.zeros_like(point)
    way = jnp.mod(point - low, 2 * span)
    mirrored = low + jnp.where(way <= span, way, 2 * span - way)
    return jnp.where(jnp.abs(point - (size - 1) / 2) <= (size + 1) / 2, point, mirrored)


# Name -> how the image continues by `_PAD` pixels, and what becomes of points further out, if
# anything. Reading 0 outside is the literal sum of Eq. 3.
PADDINGS: dict[str, tuple[Callable[..., jnp.ndarray], Callable[..., jnp.ndarray] | None]] = {
    "zeros": (_extend_zeros, None),
    "border": (_extend_border, None),
    "reflection": (_extend_reflection, _reflect),
}


@jax.custom_jvp
def _bilinear(padded: jnp.ndarray, points: tuple[jnp.ndarray, ...]) -> jnp.ndarray:
    base, fraction = _split(points, padded.shape)
    return _interpolate(_taps(padded, base), fraction)


def _bilinear_jvp(primals, tangents):
    (padded, points), (padded_dot, points_dot) = primals, tangents
    base, fraction = _split(points, padded.shape)
    taps = _taps(padded, base, at_once=2 if padded.shape[-1] <= _FEW_CHANNELS else 1)
    out = _interpolate(taps, fraction)
    out_dot = jnp.zeros_like(out)
    if not isinstance(padded_dot, SymbolicZero):  # Eq. 6
        out_dot += _interpolate(_taps(padded_dot, base, at_once=2), fraction)
    for axis, point_dot in enumerate(points_dot):
        if not isinstance(point_dot, SymbolicZero):  # Eq. 7, from the right
            slope = _interpolate(taps, fraction, differentiate=axis)
            out_dot += slope * _spread(point_dot.astype(out.dtype), out.shape[-1])
    return out, out_dot


_bilinear.defjvp(_bilinear_jvp, symbolic_zeros=True)


def _nearest(padded: jnp.ndarray, points: tuple[jnp.ndarray, ...]) -> jnp.ndarray:
    halfway = tuple(jax.lax.stop_gradient(point) + 0.5 for point in points)
    base, _ = _split(halfway, padded.shape)
    return _gather(padded, base)[..., 0, :]


KERNELS: dict[str, Callable[..., jnp.ndarray]] = {"bilinear": _bilinear, "nearest": _nearest}


def _split(
    points: tuple[jnp.ndarray, ...], padded_shape: tuple[int, ...]
) -> tuple[list[jnp.ndarray], list[jnp.ndarray]]:
    """Return the index left of each point by coordinate, and how far right of it the point lies.

    Indices lie in the padded image, with room for the right-hand neighbour; fractions in [0, 1).
    A point within rounding error of an index counts as exactly there.
    """
    sizes = padded_shape[-2:0:-1]
    base, fraction = [], []
    for point, size in zip(points, sizes, strict=True):
        rounding = float(4 * jnp.finfo(point.dtype).eps * size)
        # A comparison, unlike a minimum, lets NaN through in one instruction of a CPU.
        inside = point + _PAD
        inside = jnp.where(inside < 0, 0, inside)
        inside = jnp.where(inside > size - 2, size - 2, inside)
        left = jnp.floor(inside + rounding)
        beyond = inside - left
        base.append(left.astype(jnp.int32))
        # Taken away as a constant: the fraction's derivative stays 1, as second derivatives need.
        fraction.append(beyond - jax.lax.stop_gradient(jnp.where(beyond <= rounding, beyond, 0)))
    return base, fraction


def _taps(padded: jnp.ndarray, base: list[jnp.ndarray], *, at_once: int = 1) -> list[jnp.ndarray]:
    """Gather the 2^N neighbours [B, h, w, C] of each point; the first half lies left in x.

    Those left and right of a point are gathered one by one, or both `at_once` (2). On CPUs both at
    once pay for gradients, with respect to the image, as they are summed in half as many tables,
    and to the grid with few channels; forward alone one by one is faster.
    """
    corners = itertools.product((0, 1), repeat=len(base))
    if at_once == 1:
        return [_gather(padded, base, corner)[..., 0, :] for corner in corners]
    pairs = [_gather(padded, base, corner, 2) for corner in corners if corner[0] == 0]
    pairs = [jax.lax.split(pair, (1, 1), axis=pair.ndim - 2) for pair in pairs]
    return [side[..., 0, :] for sides in zip(*pairs, strict=True) for side in sides]


def _gather(
    padded: jnp.ndarray,
    base: list[jnp.ndarray],
    corner: tuple[int, ...] = (0, 0, 0),
    count: int = 1,
) -> jnp.ndarray:
    """Read `count` pixels in x from base + corner on: [B, h, w, count, C]."""
    batch, *sizes, channels = padded.shape
    strides = [int(np.prod(sizes[len(sizes) - axis :])) for axis in range(len(sizes))]
    per_image = int(np.prod(sizes))
    index = sum(left * stride for left, stride in zip(base, strides, strict=True))
    # Towards a neighbour the table moves, not the index: all taps share one. And no index counts
    # from the end. Each saves some ten percent of the time on CPUs.
    first = sum(step * stride for step, stride in zip(corner, strides, strict=False))
    cut_off = sum(strides) - first - (count - 1)
    known = isinstance(batch, int) and 0 < batch * per_image <= _MAX_INDEX
    if jax.device_count() > 1 or not known:
        # A table an image: with the batch divided among devices, each reads its own images only;
        # with images of any number, none, or too many for an index, there is no table of all.
        table = padded.reshape(batch, per_image, channels)[:, first : per_image - cut_off]
        return jax.vmap(lambda table, index: _read(table, index, count))(table, index)
    # One table of all images is faster: by a quarter on CPUs, where images are small.
    starts = np.arange(batch, dtype=np.int32).reshape(batch, *(1,) * len(sizes)) * per_image
    table = padded.reshape(batch * per_image, channels)[first : batch * per_image - cut_off]
    return _read(table, index + starts, count)


def _read(table: jnp.ndarray, index: jnp.ndarray, count: int) -> jnp.ndarray:
    """Read `count` rows of a table [N, C] from each index on: [..., count, C]."""
    numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=(index.ndim, index.ndim + 1), collapsed_slice_dims=(), start_index_map=(0,)
    )
    # NaN coordinates become arbitrary integers: "clip" keeps the read inside the table.
    sizes = (count, table.shape[-1])
    return jax.lax.gather(table, index[..., None], numbers, sizes, mode="clip")


def _interpolate(
    taps: list[jnp.ndarray], fraction: list[jnp.ndarray], *, differentiate: int | None = None
) -> jnp.ndarray:
    """Interpolate taps axis by axis; along axis `differentiate` take the slope instead."""
    for axis, weight in enumerate(fraction):
        half = len(taps) // 2
        weight = weight[..., None].astype(taps[0].dtype)
        taps = [
            right - left if axis == differentiate else left + weight * (right - left)
            for left, right in zip(taps[:half], taps[half:], strict=True)
        ]
    return taps[0]


def _spread(values: jnp.ndarray, channels: int) -> jnp.ndarray:
    """Give values [...] an axis of channels, of size 1 or as many.

    What counts is the gradient, a sum over channels: as a broadcast's it is a reduction over the
    last axis, which CPUs add up number by number. That of copies is a sum of slices, for few
    channels several times as fast; that of a product with ones is a matrix product, for others.
    """
    values = values[..., None]
    if channels <= 1:
        return values
    if channels <= _FEW_CHANNELS:
        return jnp.concatenate([values] * channels, axis=-1)
    return jnp.matmul(values, jnp.ones((1, channels), values.dtype), precision="highest")


def check_options(kernel: str, padding: str) -> None:
    """Raise ValueError unless `sample` has such a kernel and such a padding."""
    if kernel not in KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}; there are {', '.join(KERNELS)}.")
    if padding not in PADDINGS:
        raise ValueError(f"unknown padding {padding!r}; there are {', '.join(PADDINGS)}.")


def _check(image: jnp.ndarray, grid: jnp.ndarray) -> None:
    for name, array in (("image", image), ("grid", grid)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"{name} must be floating point (float32, bfloat16, float16, float64), "
                f"got {array.dtype}; convert it with .astype(jnp.float32)."
            )
    dims = image.ndim - 2
    if dims not in (2, 3):
        raise ValueError(
            f"image must be [B, H, W, C] or [B, D, H, W, C], got shape {list(image.shape)}."
        )
    if grid.ndim != dims + 2 or grid.shape[-1] != dims:
        layout = "[B, h, w, 2]" if dims == 2 else "[B, d, h, w, 3]"
        raise ValueError(
            f"grid for an image of shape {list(image.shape)} must be {layout}, "
            f"got shape {list(grid.shape)}."
        )
    if image.shape[0] != grid.shape[0]:
        raise ValueError(
            f"image and grid must have the same batch size, got {image.shape[0]} and "
            f"{grid.shape[0]}; repeat the one that is shared."
        )
    if 0 in image.shape[1:-1]:
        raise ValueError(f"image must have at least one pixel, got shape {list(image.shape)}.")

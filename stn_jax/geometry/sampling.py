"""Differentiable image sampling (Sect. 3.3): nearest and bilinear, in two or three dimensions.

How it works: the image continues by two pixels on every side, each output point gathers the 2^N
taps around it, and the taps are interpolated axis by axis. Because whatever lies further out equals
the last of these pixels, clipping the *tap index* is all that the border needs, and clipped points
get gradient 0 since their taps are equal. With few channels the image is padded; with many, where
that costs more, the taps that lie outside are read elsewhere, or are 0.
"""

import itertools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from stn_jax.geometry.checks import at_least_float32
from stn_jax.geometry.coords import axis_to_pixels

_PAD = 2
# What is faster depends on the channels; where it turns was measured on CPUs.
_FEW_CHANNELS = 4
_MANY_CHANNELS = 16
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
    if padding == "reflection":
        sizes = shape[::-1]
        points = tuple(
            _reflect(point, size, align_corners) for point, size in zip(points, sizes, strict=True)
        )
    to_centres, to_edges = PADDINGS[padding]
    mode = to_centres if align_corners else to_edges
    wide = image.astype(at_least_float32(image.dtype))
    return KERNELS[kernel](wide, points, mode).astype(image.dtype)


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


# Name -> how the image continues, as a mode of NumPy's `pad`, with and without `align_corners`.
# Reading 0 outside is the literal sum of Eq. 3.
PADDINGS: dict[str, tuple[str, str]] = {
    "zeros": ("constant", "constant"),
    "border": ("edge", "edge"),
    "reflection": ("reflect", "symmetric"),
}


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _bilinear(image: jnp.ndarray, points: tuple[jnp.ndarray, ...], mode: str) -> jnp.ndarray:
    base, fraction = _split(points, image.shape)
    return _interpolate(_taps(image, base, mode), fraction)


def _bilinear_jvp(mode, primals, tangents):
    (image, points), (image_dot, points_dot) = primals, tangents
    base, fraction = _split(points, image.shape)
    taps = _taps(image, base, mode, at_once=2 if image.shape[-1] <= _FEW_CHANNELS else 1)
    out = _interpolate(taps, fraction)
    out_dot = jnp.zeros_like(out)
    if not isinstance(image_dot, SymbolicZero):  # Eq. 6
        out_dot += _interpolate(_taps(image_dot, base, mode, at_once=2), fraction)
    for axis, point_dot in enumerate(points_dot):
        if not isinstance(point_dot, SymbolicZero):  # Eq. 7, from the right
            slope = _interpolate(taps, fraction, differentiate=axis)
            out_dot += slope * _spread(point_dot.astype(out.dtype), out.shape[-1])
    return out, out_dot


_bilinear.defjvp(_bilinear_jvp, symbolic_zeros=True)


def _nearest(image: jnp.ndarray, points: tuple[jnp.ndarray, ...], mode: str) -> jnp.ndarray:
    halfway = tuple(jax.lax.stop_gradient(point) + 0.5 for point in points)
    base, _ = _split(halfway, image.shape)
    return _reader(image, base, mode)((0,) * len(base))[..., 0, :]


# Name -> function of the image, its points in pixels, and how it continues.
KERNELS: dict[str, Callable[..., jnp.ndarray]] = {"bilinear": _bilinear, "nearest": _nearest}


def _split(
    points: tuple[jnp.ndarray, ...], image_shape: tuple[int, ...]
) -> tuple[list[jnp.ndarray], list[jnp.ndarray]]:
    """Return the index left of each point by coordinate, and how far right of it the point lies.

    Indices count from the first pixel of the padding, and leave room for the right-hand neighbour;
    fractions are in [0, 1). A point within rounding error of an index counts as exactly there.
    """
    sizes = (size + 2 * _PAD for size in image_shape[-2:0:-1])
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


def _taps(
    image: jnp.ndarray, base: list[jnp.ndarray], mode: str, *, at_once: int = 1
) -> list[jnp.ndarray]:
    """Gather the 2^N neighbours [B, h, w, C] of each point; the first half lies left in x.

    Those left and right of a point are gathered one by one, or both `at_once` (2). On CPUs both at
    once pay for gradients, with respect to the image, as they are summed in half as many tables,
    and to the grid with few channels; forward alone one by one is faster, as are many channels.
    """
    read = _reader(image, base, mode)
    corners = itertools.product((0, 1), repeat=len(base))
    if at_once == 1 or image.shape[-1] >= _MANY_CHANNELS:
        return [read(corner)[..., 0, :] for corner in corners]
    pairs = [read(corner, 2) for corner in corners if corner[0] == 0]
    pairs = [jax.lax.split(pair, (1, 1), axis=pair.ndim - 2) for pair in pairs]
    return [side[..., 0, :] for sides in zip(*pairs, strict=True) for side in sides]


def _reader(image: jnp.ndarray, base: list[jnp.ndarray], mode: str) -> Callable[..., jnp.ndarray]:
    """Return a function that reads the pixels [B, h, w, count, C] from base + corner on."""
    if image.shape[-1] >= _MANY_CHANNELS:
        return partial(_gather_inside, image, base, mode)
    return partial(_gather, extend(image, mode), base)


def extend(image: jnp.ndarray, mode: str) -> jnp.ndarray:
    """Pad an image by two pixels on every side."""
    if mode != "constant":
        return jnp.pad(image, [(0, 0), *[(_PAD, _PAD)] * (image.ndim - 2), (0, 0)], mode=mode)
    # On CPUs merging x and channels halves the time: the loop over few channels costs more.
    *outer, width, channels = image.shape
    around = [(_PAD, _PAD)] * (len(outer) - 1)
    widths = [(0, 0), *around, (_PAD * channels, _PAD * channels)]
    padded = jnp.pad(image.reshape(*outer, width * channels), widths)
    return padded.reshape(*padded.shape[:-1], width + 2 * _PAD, channels)


def _gather_inside(
    image: jnp.ndarray, base: list[jnp.ndarray], mode: str, corner: tuple[int, ...]
) -> jnp.ndarray:
    """Read a pixel of an image that is not padded: of its padding what `mode` puts there."""
    sizes = image.shape[-2:0:-1]
    index, inside = 0, True
    for left, step, size, stride in zip(base, corner, sizes, _strides(image), strict=True):
        place = left + (step - _PAD)
        inside &= (place >= 0) & (place < size)
        index += stride * _origin(place, size, mode)
    pixels = _look_up(image, index)
    return jnp.where(inside[..., None, None], pixels, 0) if mode == "constant" else pixels


def _origin(place: jnp.ndarray, size: int, mode: str) -> jnp.ndarray:
    """Return which of an axis's pixels stands at each place, in its padding too."""
    if mode in ("constant", "edge"):
        return jnp.clip(place, 0, size - 1)
    origins = np.pad(np.arange(size, dtype=np.int32), _PAD, mode=mode)
    return jnp.take(origins, place + _PAD, mode="clip")


def _gather(
    padded: jnp.ndarray, base: list[jnp.ndarray], corner: tuple[int, ...], count: int = 1
) -> jnp.ndarray:
    """Read `count` pixels in x of a padded image."""
    strides = _strides(padded)
    index = sum(left * stride for left, stride in zip(base, strides, strict=True))
    # Towards a neighbour the table moves, not the index: that all taps share one saves a tenth of
    # the time on CPUs.
    first = sum(step * stride for step, stride in zip(corner, strides, strict=True))
    beyond = sum(strides) - first - (count - 1)
    return _look_up(padded, index, count, first=first, beyond=beyond)


def _strides(image: jnp.ndarray) -> list[int]:
    """Return by how many pixels a step in x, y (and z) moves."""
    sizes = image.shape[1:-1]
    return [int(np.prod(sizes[len(sizes) - axis :])) for axis in range(len(sizes))]


def _look_up(
    image: jnp.ndarray, index: jnp.ndarray, count: int = 1, *, first: int = 0, beyond: int = 0
) -> jnp.ndarray:
    """Read `count` pixels in a row: [B, h, w, count, C].

    Args:
      image: [B, H, W, C].
      index: [B, h, w], which pixel of the flattened image after its `first` is the first in a row.
      count: how many.
      first: the pixel that index 0 stands for.
      beyond: how many pixels at the end no index reaches.
    """
    batch, *sizes, channels = image.shape
    per_image = int(np.prod(sizes))
    known = isinstance(batch, int) and 0 < batch * per_image <= _MAX_INDEX
    if jax.device_count() > 1 or not known:
        # A table an image: with the batch divided among devices, each reads its own images only;
        # with images of any number, none, or too many for an index, there is no table of all.
        table = image.reshape(batch, per_image, channels)[:, first : per_image - beyond]
        return jax.vmap(lambda table, index: _read(table, index, count))(table, index)
    # One table of all images is faster: by a quarter on CPUs, where images are small.
    starts = np.arange(batch, dtype=np.int32).reshape(batch, *(1,) * len(sizes)) * per_image
    table = image.reshape(batch * per_image, channels)[first : batch * per_image - beyond]
    return _read(table, index + starts, count)


def _read(table: jnp.ndarray, index: jnp.ndarray, count: int) -> jnp.ndarray:
    """Read `count` rows of a table [N, C] from each index on: [..., count, C]."""
    numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=(index.ndim, index.ndim + 1), collapsed_slice_dims=(), start_index_map=(0,)
    )
    # NaN coordinates become arbitrary integers: "clip" keeps the read inside the table. No index
    # counts from the end here, which saves another tenth.
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

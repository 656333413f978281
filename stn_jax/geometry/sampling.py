"""Differentiable image sampling (Sect. 3.3): nearest and bilinear, in two or three dimensions.

How it works: of each axis two neighbouring pixels of the image are read, the first of them `base`,
and weighted by the kernel of Eq. 5 at their distance from the point. Within the image they are the
point's neighbours. A point outside has the nearest two, whose weights are 0 or the kernel's: that
is all there is to zeros around an image, and nothing is padded or masked. The other paddings move
the point into the image first.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.experimental.xla_metadata import set_xla_metadata
from jax.lax import optimization_barrier
from jax.typing import ArrayLike

from stn_jax.geometry.checks import are_known, at_least_float32
from stn_jax.geometry.chunks import in_chunks
from stn_jax.geometry.coords import axis_to_pixels

_SUMMED_ONE_BY_ONE = 4  # Up to so many channels; that is faster on CPUs.
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
      A pixel that is not finite makes NaN of all points that it is read for, even with weight 0:
      those next to it and, at the border, those outside.

    Gradient:
      With respect to the image, the kernel's weights (Eq. 6); it is computed only where asked
      for. With respect to the grid, Eq. 7, and exactly on a pixel centre the derivative from the
      right, U(x + 1) - U(x), where Eq. 7 read literally gives U(x): this is what makes a
      transformer trainable from the identity. With zero padding the last column's is therefore
      -U(W - 1); "border" padding makes it 0. "nearest" has gradient 0 in the grid. Forward and
      reverse mode, to any order.

    Coordinates within float rounding of a pixel's centre or edge are put there, so that the
    identity returns finite images bit by bit and always has the gradient above.

    Raises:
      ValueError: on ranks, sizes or names that do not fit, or a single image of more than 2^31 - 1
        numbers; the message shows what was given.
      TypeError: if image or grid is not floating point: images of bytes are to be converted first.
    """
    image, grid = jnp.asarray(image), jnp.asarray(grid)
    check_options(kernel, padding)
    _check(image, grid)
    mode = PADDINGS[padding][0 if align_corners else 1]
    return _sample_jitted(image, grid, KERNELS[kernel], mode, bool(align_corners))


@partial(jax.jit, static_argnums=(2, 3, 4), inline=True)
def _sample_jitted(
    image: jnp.ndarray, grid: jnp.ndarray, kernel: Callable, mode: str, align_corners: bool
) -> jnp.ndarray:
    call = partial(_sample, kernel=kernel, mode=mode, align_corners=align_corners)
    return in_chunks(call, image, grid)


def _sample(
    image: jnp.ndarray, grid: jnp.ndarray, *, kernel: Callable, mode: str, align_corners: bool
) -> jnp.ndarray:
    batch, *shape, channels = image.shape
    outer = grid.shape[1:-1]
    # One axis of points, and one array a coordinate: CPUs take longer for short rows, and twice as
    # long for (x, y) pairs. A split, unlike indexing, has a concatenation as its gradient.
    points = grid.astype(at_least_float32(grid.dtype)).reshape(batch, math.prod(outer), len(shape))
    coordinates = jax.lax.split(points, (1,) * len(shape), axis=-1)
    pixels = tuple(
        axis_to_pixels(coordinate[..., 0], shape, axis, align_corners=align_corners)
        for axis, coordinate in enumerate(coordinates)
    )
    out = kernel(image.astype(at_least_float32(image.dtype)), pixels, mode)
    # Reshaped outside, or XLA would loop over the output's short rows.
    return _computed(out.astype(image.dtype)).reshape(batch, *outer, channels)


# Name -> how the image continues, as a mode of NumPy's `pad`, with and without `align_corners`.
# Reading 0 outside is the literal sum of Eq. 3.
PADDINGS: dict[str, tuple[str, str]] = {
    "zeros": ("constant", "constant"),
    "border": ("edge", "edge"),
    "reflection": ("reflect", "symmetric"),
}


def _bilinear(image: jnp.ndarray, points: tuple[jnp.ndarray, ...], mode: str) -> jnp.ndarray:
    sizes = image.shape[-2:0:-1]
    if 1 in sizes:  # There are no two pixels to read.
        image = jnp.pad(image, [(0, 0), *[(0, int(n == 1)) for n in sizes[::-1]], (0, 0)], mode)
    return _weigh(image, points, sizes, mode)


def _place(point: jnp.ndarray, size: int, mode: str) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Return which pixel is the first of the two, and how far right of it a point lies."""
    rounding = _rounding(point, size)
    left = jnp.floor(point + rounding)
    beyond = point - left
    # Taken away as a constant: the derivative stays 1, as second derivatives need.
    point -= jax.lax.stop_gradient(jnp.where(beyond <= rounding, beyond, 0))
    if mode != "constant":
        point, falling = _into_image(point, size, mode)
        # Right of the point lies what is left of its mirror image.
        left = jnp.where(falling, jnp.ceil(point) - 1, jnp.floor(point))
    left = jax.lax.stop_gradient(_clip(left, max(0, size - 2)))
    return left, point - left


def _places(
    image: jnp.ndarray, points: tuple[jnp.ndarray, ...], sizes: tuple[int, ...], mode: str
) -> tuple[jnp.ndarray, tuple[jnp.ndarray, ...]]:
    """Return the number of each point's first pixel, and how far from it the point lies by axis."""
    places = [_place(point, size, mode) for point, size in zip(points, sizes, strict=True)]
    base, distance = zip(*places, strict=True)
    return _number(base, image), distance


def _rounding(point: jnp.ndarray, size: int) -> float:
    """Return how near to a pixel's centre counts as there."""
    return float(4 * jnp.finfo(point.dtype).eps * (size + 4))


def _clip(value: jnp.ndarray, largest: int) -> jnp.ndarray:
    # Comparisons, unlike minimum and maximum, let NaN through in one instruction of a CPU.
    value = jnp.where(value < 0, 0, value)
    return jnp.where(value > largest, largest, value)


def _into_image(point: jnp.ndarray, size: int, mode: str) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Return which point of the image each point stands for, and whether they move apart.

    The image goes on as its border pixel, or is mirrored about that pixel's centre ("reflect") or
    edge ("symmetric"), again and again. Derivatives are those from the right.
    """
    last = size - 1
    falling = jnp.zeros_like(point, bool)
    if mode != "edge":
        low, span = (0.0, float(last)) if mode == "reflect" else (-0.5, float(size))
        if span == 0:
            return jnp.zeros_like(point), falling
        way = jnp.mod(point - low, 2 * span)
        falling = way >= span
        point = low + jnp.where(falling, 2 * span - way, way)
    moves = jnp.where(falling, (point > 0) & (point <= last), (point >= 0) & (point < last))
    return jnp.where(moves, point, jax.lax.stop_gradient(_clip(point, last))), falling


@jax.custom_jvp
def _tent(distance: jnp.ndarray) -> jnp.ndarray:
    """Return the kernel of Eq. 5, max(0, 1 - |distance|)."""
    height = 1 - jnp.abs(distance)
    return jnp.where(height < 0, 0, height)


@_tent.defjvp
def _tent_jvp(primals, tangents):
    return _tent(*primals), _slope(*primals) * tangents[0]


def _slope(distance: jnp.ndarray) -> jnp.ndarray:
    """Return the derivative of the kernel, from the right (Eq. 7)."""
    rising, falling = jnp.where(distance < -1, 0.0, 1.0), jnp.where(distance < 1, -1.0, 0.0)
    return jnp.where(distance < 0, rising, falling).astype(distance.dtype)


def _pair(
    distance: jnp.ndarray, mode: str, *, differentiate: bool = False
) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Return the weights of an axis's two pixels, or their derivatives."""
    if mode == "constant":
        weight = _slope if differentiate else _tent
        return weight(distance), weight(distance - 1)
    if differentiate:  # No point lies outside, so that none has a kink of the kernel to its right.
        return jnp.full_like(distance, -1), jnp.full_like(distance, 1)
    return 1 - distance, distance


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _weigh(
    image: jnp.ndarray, points: tuple[jnp.ndarray, ...], sizes: tuple[int, ...], mode: str
) -> jnp.ndarray:
    """Add up the weighted neighbours of points [B, n] in pixels: [B, n, C]."""
    image = _computed(image).reshape(image.shape)
    base, distance = _places(image, points, sizes, mode)
    return _add_up(_taps(image, base), [_pair(d, mode) for d in distance])


def _weigh_jvp(sizes, mode, primals, tangents):
    (image, points), (image_dot, points_dot) = primals, tangents
    image = _computed(image).reshape(image.shape)
    # If XLA computed a point again with another rounding, its weights would be of other pixels than
    # those that are read.
    points = tuple(optimization_barrier(_computed(p).reshape(p.shape)) for p in points)
    base, distance = _places(image, points, sizes, mode)
    weights = [_pair(d, mode) for d in distance]
    moves = [not isinstance(dot, SymbolicZero) for dot in points_dot]
    channels = image.shape[-1]
    taps = _taps(image, base, at_once=2 if any(moves) and channels == 1 else 1)
    out = _add_up(taps, weights)
    out_dot = jnp.zeros_like(out)
    if not isinstance(image_dot, SymbolicZero):  # Eq. 6
        out_dot += _weigh_image(image_dot, base, distance, mode)
    for axis, moved in enumerate(moves):
        if moved:  # Eq. 7
            place = partial(_place, size=sizes[axis], mode=mode)
            _, (_, distance_dot) = jax.jvp(place, (points[axis],), (points_dot[axis],))
            slopes = _pair(distance[axis], mode, differentiate=True)
            slope = _add_up(taps, [*weights[:axis], slopes, *weights[axis + 1 :]])
            out_dot += slope * _spread(distance_dot.astype(out.dtype), channels)
    return out, out_dot


_weigh.defjvp(_weigh_jvp, symbolic_zeros=True)


def _weigh_image(
    image: jnp.ndarray, base: jnp.ndarray, distance: tuple[jnp.ndarray, ...], mode: str
) -> jnp.ndarray:
    """Do as `_weigh` does, in a form whose gradient with respect to the image is fast.

    The gradient is a sum into tables, on CPUs an entry at a time, each table by one core. Both
    neighbours in x, with all their channels, are an entry.
    """
    read = _reader(image, base)
    step = np.arange(2, dtype=distance[0].dtype).reshape(1, 1, 2)
    right = distance[0][..., None]
    across = _tent(right - step) if mode == "constant" else (1 - step) + (2 * step - 1) * right
    corners = [corner for corner in _corners(image) if corner[0] == 0]
    across = across[..., None].astype(image.dtype)
    rows = [(read(corner, 2) * across).sum(-2) for corner in corners]
    return _add_up(rows, [_pair(d, mode) for d in distance[1:]])


def _nearest(image: jnp.ndarray, points: tuple[jnp.ndarray, ...], mode: str) -> jnp.ndarray:
    index, inside = [], True
    for point, size in zip(points, image.shape[-2:0:-1], strict=True):
        point = jax.lax.stop_gradient(point)
        if mode != "constant":
            point, _ = _into_image(point, size, mode)
        pixel = jnp.floor(point + (0.5 + _rounding(point, size)))
        inside &= (pixel >= 0) & (pixel <= size - 1)
        index.append(_clip(pixel, size - 1))
    image = _computed(image).reshape(image.shape)
    read = _reader(image, _number(index, image), neighbours=False)
    pixels = read((0,) * len(index))[..., 0, :]
    return jnp.where(inside[..., None], pixels, 0) if mode == "constant" else pixels


# Name -> function of the image, the points [B, n] in pixels by coordinate, and how the image
# continues; it returns [B, n, C].
KERNELS: dict[str, Callable[..., jnp.ndarray]] = {"bilinear": _bilinear, "nearest": _nearest}


def _computed(array: jnp.ndarray) -> jnp.ndarray:
    """Return an array as a vector, and keep XLA from fusing what is before and behind on CPUs.

    It would fuse what makes an image, such as another transformer, into the reads, and compute each
    pixel four times. A call that is not to be inlined stays out of fusions, and copies nothing. The
    vector, which the caller reshapes, has one memory layout, so that none is changed on the way.
    """

    def called(array):
        with set_xla_metadata(inlineable="false"):
            return _as_vector(array)

    return jax.lax.platform_dependent(array, cpu=called, default=_as_vector)


@jax.jit
def _as_vector(array: jnp.ndarray) -> jnp.ndarray:
    return array.reshape(-1)


def _corners(image: jnp.ndarray) -> list[tuple[int, ...]]:
    """Return the steps in (x, y) or (x, y, z) to a point's neighbours, the left ones first."""
    return list(itertools.product((0, 1), repeat=image.ndim - 2))


def _strides(image: jnp.ndarray) -> list[int]:
    """Return how many pixels apart neighbours in x, y (and z) are."""
    sizes = image.shape[1:-1]
    return [math.prod(sizes[len(sizes) - axis :]) for axis in range(len(sizes))]


def _number(pixel: Sequence[jnp.ndarray], image: jnp.ndarray) -> jnp.ndarray:
    """Return the numbers of pixels (x, y) or (x, y, z) in their image, int32."""
    # Where floats count them exactly, one conversion to integers does.
    if math.prod(image.shape[1:-1]) > 2 ** (jnp.finfo(pixel[0].dtype).nmant + 1):
        pixel = [axis.astype(jnp.int32) for axis in pixel]
    number = sum(axis * stride for axis, stride in zip(pixel, _strides(image), strict=True))
    return number.astype(jnp.int32)


def _taps(image: jnp.ndarray, base: jnp.ndarray, *, at_once: int = 1) -> list[jnp.ndarray]:
    """Gather the 2^N neighbours [B, n, C] of each point; the first half lies left in x.

    Those left and right of a point are gathered one by one, or both `at_once` (2), which on CPUs
    is faster with one channel if gradients with respect to the points follow.
    """
    read = _reader(image, base)
    if at_once == 1:
        return [read(corner)[..., 0, :] for corner in _corners(image)]
    pairs = [read(corner, 2) for corner in _corners(image) if corner[0] == 0]
    pairs = [jax.lax.split(pair, (1, 1), axis=pair.ndim - 2) for pair in pairs]
    return [side[..., 0, :] for sides in zip(*pairs, strict=True) for side in sides]


def _is_one_table(image: jnp.ndarray) -> bool:
    """Return whether images are read as one table, which is faster: on CPUs by a quarter, if small.

    Not with several devices, where each reads its own images only, nor where the batch is of any
    size, empty, or has too many numbers for an index.
    """
    alone = jax.device_count() == 1
    return alone and are_known(image.shape) and 0 < image.size <= _MAX_INDEX


def _reader(
    image: jnp.ndarray, base: jnp.ndarray, *, neighbours: bool = True
) -> Callable[..., jnp.ndarray]:
    """Return a function that reads `count` pixels in x, [B, n, count, C], from base + corner on.

    With `neighbours`, no base is an axis's last pixel, and corners are as of `_corners`.
    """
    strides, channels = _strides(image), image.shape[-1]
    reach = sum(strides) if neighbours else 0
    per_image = math.prod(image.shape[1:-1])
    if _is_one_table(image):
        read, table = _read, image.reshape(-1)
        base += np.arange(image.shape[0], dtype=np.int32)[:, None] * per_image
    else:
        read = jax.vmap(_read, in_axes=(0, 0, None))
        table = image.reshape(image.shape[0], per_image * channels)
    base *= channels

    def read_from(corner: tuple[int, ...], count: int = 1) -> jnp.ndarray:
        # Towards a neighbour the table moves, not the index, and all tables are of one length: so
        # all taps share an index, which saves CPUs a quarter of the time.
        first = channels * sum(step * stride for step, stride in zip(corner, strides, strict=True))
        last = first + table.shape[-1] - channels * (reach + 1 - count)
        values = read(table[..., first:last], base, count * channels)
        return values.reshape(*base.shape, count, channels)

    return read_from


def _read(table: jnp.ndarray, index: jnp.ndarray, count: int) -> jnp.ndarray:
    """Read `count` numbers of a table [N] from each index on: [..., count]."""
    numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=(index.ndim,), collapsed_slice_dims=(), start_index_map=(0,)
    )
    # NaN coordinates become arbitrary integers: "clip" keeps the read inside the table. No index
    # counts from the end here, which saves another tenth.
    return jax.lax.gather(table, index[..., None], numbers, (count,), mode="clip")


def _add_up(taps: list[jnp.ndarray], weights: list[tuple[jnp.ndarray, jnp.ndarray]]) -> jnp.ndarray:
    """Add up weighted taps axis by axis."""
    for pair in weights:
        half = len(taps) // 2
        left, right = (weight[..., None].astype(taps[0].dtype) for weight in pair)
        taps = [left * a + right * b for a, b in zip(taps[:half], taps[half:], strict=True)]
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
    if channels <= _SUMMED_ONE_BY_ONE:
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
    if are_known(image.shape[1:]) and math.prod(image.shape[1:]) > _MAX_INDEX:
        raise ValueError(
            f"an image may have at most {_MAX_INDEX} numbers, got shape {list(image.shape)}."
        )
    if 0 in image.shape[1:-1]:
        raise ValueError(f"image must have at least one pixel, got shape {list(image.shape)}.")

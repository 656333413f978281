"""What the functions of this package ask of their arguments, and say where it is not met."""

from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

LAYOUTS = {2: "(H, W)", 3: "(D, H, W)"}


def at_least_float32(dtype: np.dtype) -> np.dtype:
    """Return float64 for itself and float32 for all else: what coordinates are computed in."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def are_known(sizes: Iterable[int]) -> bool:
    """Return whether all sizes are numbers, none a symbol as in functions that are exported."""
    return all(isinstance(size, int) for size in sizes)


def parameters(name: str, values: ArrayLike, layout: Sequence[int | str]) -> jnp.ndarray:
    """Return parameters as float32, or float64 if they are, after a check of type and shape.

    Args:
      name: how messages call them.
      values: floating point of any precision.
      layout: of the shape; a number is needed as it is, a letter stands for any, "..." in front
        for any others.

    Raises:
      TypeError: if they are not floating point.
      ValueError: on another shape.
    """
    values = jnp.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating point, got {values.dtype}.")
    return coordinates(name, values, layout)


def coordinates(name: str, values: ArrayLike, layout: Sequence[int | str]) -> jnp.ndarray:
    """Return coordinates, which may be whole numbers, as float32 or float64; see `parameters`."""
    values = jnp.asarray(values)
    wanted = tuple(layout)[1:] if layout[0] == "..." else tuple(layout)
    given = values.shape[-len(wanted) :] if layout[0] == "..." else values.shape
    if len(given) != len(wanted) or any(
        size != want for size, want in zip(given, wanted, strict=True) if not isinstance(want, str)
    ):
        raise ValueError(
            f"{name} must be [{', '.join(map(str, layout))}], got {list(values.shape)}."
        )
    return values.astype(at_least_float32(values.dtype))


def spatial_shape(
    shape: Sequence[int], *, dims: Sequence[int] = (2, 3), name: str = "shape"
) -> tuple[int, ...]:
    """Return a spatial shape as a tuple of integers; `name` is how messages call it.

    Raises:
      ValueError: if it is not one positive integer an axis, or has another number of axes.
    """
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    if len(sizes) not in dims or any(int(size) != size or size < 1 for size in sizes):
        layouts = " or ".join(LAYOUTS[count] for count in dims)
        given = sizes if isinstance(shape, Iterable) else shape
        raise ValueError(f"{name} must be {layouts} of positive integers, got {given}.")
    return tuple(int(size) for size in sizes)

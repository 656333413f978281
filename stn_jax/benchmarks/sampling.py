"""Rows on samplers and grids: ours, PyTorch's, and what else there is for JAX."""

import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import torch

from stn_jax import geometry
from stn_jax.benchmarks import pytorch
from stn_jax.benchmarks.timing import Contender, Row

# Image [B, H, W, C] -> the output's side.
SHAPES = {(256, 28, 28, 1): 28, (256, 42, 42, 1): 42, (64, 32, 32, 48): 32, (16, 448, 448, 3): 224}
# What is asked for -> the arguments (0: image, 1: grid) that a gradient is taken in.
WORK = {
    "forward": (),
    "forward + grid gradient": (1,),
    "forward + image gradient": (0,),
    "forward + both gradients": (0, 1),
}
# From [64, 28, 28, 8] with 28x28 points, one size is varied at a time.
SCALING = {
    "batch": [(b, 28, 28, 8, 28) for b in (1, 4, 16, 64, 256)],
    "pixels in and out": [(64, s, s, 8, s) for s in (7, 14, 28, 56, 112)],
    "pixels in": [(64, s, s, 8, 28) for s in (14, 28, 56, 112)],
    "channels": [(64, 28, 28, c, 28) for c in (1, 4, 16, 64)],
}


# On a GPU a call at these sizes takes hardly longer than to be launched, and its arrays fit the
# cache. So there they are also sampled in batches that large, where the kernel's time remains.
FILLING_BYTES = 2**30
TORCH_LAYOUTS = {
    "PyTorch": torch.contiguous_format,
    "PyTorch, channels last": torch.channels_last,
}


def sampler_rows() -> Iterator[Row]:
    """Yield the samplers at four sizes, and on a GPU in batches that fill it, too."""
    for (batch, *size), side in SHAPES.items():
        batches = [batch]
        if jax.default_backend() == "gpu":
            batches.append(batch * math.ceil(FILLING_BYTES / (4 * batch * math.prod(size))))
        for batch in batches:
            shape = (batch, *size)
            # With one channel both layouts are the same.
            layouts = list(TORCH_LAYOUTS)[: 1 if shape[-1] == 1 else None]
            for work in WORK:
                yield sampler_row(shape, side, work, [*JAX_SAMPLERS, *layouts])


def scaling_rows() -> Iterator[Row]:
    """Yield how time grows with batch, pixels and channels; the full sum reads every pixel."""
    for varied, sizes in SCALING.items():
        for *shape, side in sizes:
            names = ["stn_jax", "PyTorch"]
            for work in ("forward", "forward + both gradients"):
                full_sum = ["full sum"] if varied == "pixels in" and work == "forward" else []
                row = sampler_row(tuple(shape), side, work, names + full_sum)
                size = {"batch": shape[0], "channels": shape[-1]}.get(varied, shape[1] ** 2)
                facts = {**row.facts, "size": size}
                yield replace(row, case=f"{varied}: {row.case}", facts=facts)


def sampler_row(shape: tuple[int, ...], side: int, work: str, names: list[str]) -> Row:
    """Return a row on sampling an image of a shape at side x side points of rotated grids."""
    wanted = WORK[work]
    contenders = {}
    for name in names:
        if name in TORCH_LAYOUTS:
            build = partial(torch_sampler, TORCH_LAYOUTS[name])
        else:
            build = partial(jax_sampler, SAMPLERS[name])
        contenders[name] = partial(build, shape, side, wanted)
    # What cannot be avoided: inputs read, outputs written, once each.
    points = shape[0] * side * side
    image, grid, output = (4 * n for n in (math.prod(shape), 2 * points, shape[-1] * points))
    traffic = image + grid + output
    if wanted:
        traffic += output + sum((image, grid)[i] for i in wanted)
    size = "" if side == shape[1] else f" -> {side}x{side}"
    return Row(f"{list(shape)}{size}", work, contenders, {"bytes": traffic})


@lru_cache(maxsize=1)
def _draw(shape: tuple[int, ...], side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image, grid and cotangent of the output."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(-np.pi / 4, np.pi / 4, shape[0])
    theta = np.stack([np.cos(angle), -np.sin(angle), 0 * angle] * 2, axis=-1)
    theta[:, 3], theta[:, 4] = np.sin(angle), np.cos(angle)
    grid = np.asarray(geometry.affine_grid(theta.astype(np.float32), (side, side)))
    image = rng.standard_normal(shape, np.float32)
    return image, grid, rng.standard_normal((shape[0], side, side, shape[-1]), np.float32)


def jax_sampler(
    sampler: Callable[[jax.Array, jax.Array], jax.Array],
    shape: tuple[int, ...],
    side: int,
    wanted: tuple[int, ...],
) -> Contender:
    """Return a sampler with gradients in some of (image, grid) as a compiled contender."""

    def run(image, grid, cotangent):
        inputs = [image, grid]

        def of_wanted(*arrays):
            for place, array in zip(wanted, arrays, strict=True):
                inputs[place] = array
            return sampler(*inputs)

        output, pullback = jax.vjp(of_wanted, *(inputs[i] for i in wanted))
        return output, pullback(cotangent) if wanted else ()

    arrays = [jnp.asarray(array) for array in _draw(shape, side)]
    return Contender(partial(jax.jit(run), *arrays), jax.block_until_ready)


def torch_sampler(
    layout: torch.memory_format, shape: tuple[int, ...], side: int, wanted: tuple[int, ...]
) -> Contender:
    """Return PyTorch's grid_sample, on images in one of its layouts."""
    image, grid, cotangent = (
        torch.tensor(array, device=pytorch.DEVICE) for array in _draw(shape, side)
    )
    image, cotangent = (
        a.permute(0, 3, 1, 2).contiguous(memory_format=layout) for a in (image, cotangent)
    )
    inputs = [image, grid]
    for i in wanted:
        inputs[i].requires_grad_()

    def call():
        output = torch.nn.functional.grid_sample(*inputs, **pytorch.OPTIONS)
        gradients = torch.autograd.grad(output, [inputs[i] for i in wanted], cotangent)
        return output, gradients

    def forward():
        with torch.no_grad():
            return torch.nn.functional.grid_sample(*inputs, **pytorch.OPTIONS)

    return Contender(call if wanted else forward, pytorch.wait)


def _each_channel(sampler: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Turn a function of one channel [H, W] and pixel coordinates [2, h, w] into a sampler."""

    def sample(image, grid):
        pixels = geometry.to_pixels(grid, image.shape[1:3])
        yx = jnp.moveaxis(pixels[..., ::-1], -1, 1)
        return jax.vmap(jax.vmap(sampler, in_axes=(-1, None), out_axes=-1))(image, yx)

    return sample


def _full_sum(image: jax.Array, grid: jax.Array) -> jax.Array:
    """Sum over all pixels, as Eq. 5 is written."""
    pixels = geometry.to_pixels(grid, image.shape[1:3])
    columns, rows = np.arange(image.shape[2]), np.arange(image.shape[1])
    x = jnp.maximum(0, 1 - jnp.abs(pixels[..., :1] - columns[None, None, None]))
    y = jnp.maximum(0, 1 - jnp.abs(pixels[..., 1:] - rows[None, None, None]))
    return jnp.einsum("bhwj,bhwi,bjic->bhwc", y, x, image)


JAX_SAMPLERS = {
    "stn_jax": geometry.sample,
    "map_coordinates": _each_channel(
        lambda image, yx: jax.scipy.ndimage.map_coordinates(image, list(yx), order=1)
    ),
}
if importlib.util.find_spec("dm_pix"):  # Rarely on a machine with a GPU: the table says so.
    import dm_pix

    # It reads 0 for every point beyond the border pixels' centres, instead of fading out.
    JAX_SAMPLERS["dm_pix"] = _each_channel(dm_pix.flat_nd_linear_interpolate_constant)
SAMPLERS = {**JAX_SAMPLERS, "full sum": _full_sum}


def grid_rows() -> Iterator[Row]:
    """Yield the generation of 256 grids of 28x28 points."""
    for name, transform in geometry.TRANSFORMS.items():
        if transform.dims != 2:
            continue
        theta = np.tile(transform.identity, (256, 1)).astype(np.float32)
        cotangent = np.random.default_rng(0).normal(size=(256, 28, 28, 2)).astype(np.float32)
        for work in ("forward", "forward + theta gradient"):
            contenders = {"stn_jax": partial(_jax_grid, transform, theta, cotangent, work)}
            if name in pytorch.GRIDS:
                contenders["PyTorch"] = partial(_torch_grid, name, theta, cotangent, work)
            yield Row(name, work, contenders)


def _jax_grid(transform, theta: np.ndarray, cotangent: np.ndarray, work: str) -> Contender:
    def run(theta, cotangent):
        if work == "forward":
            return transform.grid(theta, (28, 28))
        grid, pullback = jax.vjp(lambda t: transform.grid(t, (28, 28)), theta)
        return grid, pullback(cotangent)

    arrays = jnp.asarray(theta), jnp.asarray(cotangent)
    return Contender(partial(jax.jit(run), *arrays), jax.block_until_ready)


def _torch_grid(name: str, theta: np.ndarray, cotangent: np.ndarray, work: str) -> Contender:
    generate = pytorch.GRIDS[name](28).to(pytorch.DEVICE)
    theta = torch.tensor(theta, device=pytorch.DEVICE, requires_grad=work != "forward")
    cotangent = torch.tensor(cotangent, device=pytorch.DEVICE)

    def call():
        grid = generate(theta)
        return torch.autograd.grad(grid, [theta], cotangent) if theta.requires_grad else grid

    return Contender(call, pytorch.wait)


def copy_rows() -> Iterator[Row]:
    """Yield reading and writing an array much larger than any cache: what memory can give."""
    count = 2**28 if jax.default_backend() == "gpu" else 2**26
    case, facts = f"{count // 2**18} MiB", {"bytes": 2 * 4 * count}
    yield Row(case, "add 1 in place", {"stn_jax": partial(_add_one, count)}, facts)


def _add_one(count: int) -> Contender:
    array = jnp.ones(count)
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def call():
        nonlocal array
        array = add(array)
        return array

    return Contender(call, jax.block_until_ready)

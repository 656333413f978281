"""Sampling in chunks of the batch against sampling all at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import geometry
from stn_jax.geometry import chunks

SHAPE = (8, 600, 450, 2)  # 17 MB.


def draw(shape, side, *, reach=1.2):
    rng = np.random.default_rng(0)
    grid = rng.uniform(-reach, reach, (shape[0], side, side, 2)).astype(np.float32)
    return rng.normal(size=shape).astype(np.float32), grid


def has_loop(function, *arguments):
    return "scan[" in str(jax.make_jaxpr(function)(*arguments))


@pytest.mark.parametrize("kernel", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "reflection"])
def test_as_all_at_once(kernel, padding):
    image, grid = draw(SHAPE, 300)

    def sample(image, grid):
        return geometry.sample(image, grid, kernel=kernel, padding=padding)

    assert has_loop(sample, image, grid)
    apart = [sample(image[i : i + 1], grid[i : i + 1]) for i in range(len(image))]
    assert not has_loop(sample, image[:1], grid[:1])
    np.testing.assert_array_equal(sample(image, grid), jnp.concatenate(apart))


@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 1)])
def test_gradients_are_taken_of_all_at_once(wanted):
    image, grid = draw(SHAPE, 300)
    cotangent = np.random.default_rng(1).normal(size=(8, 300, 300, 2)).astype(np.float32)

    def gradients(*arrays):
        image, grid, dot = arrays
        return jax.grad(lambda u, g: (geometry.sample(u, g) * dot).sum(), wanted)(image, grid)

    arrays = (image, grid, cotangent)
    assert not has_loop(gradients, *arrays)
    apart = [gradients(*(array[i : i + 1] for array in arrays)) for i in range(len(image))]
    for gradient, parts in zip(gradients(*arrays), zip(*apart, strict=True), strict=True):
        np.testing.assert_allclose(gradient, jnp.concatenate(parts), rtol=1e-5, atol=1e-5)


def test_what_is_not_wanted_is_not_computed():
    image, grid = draw(SHAPE, 300)
    gradient = jax.jit(jax.grad(lambda g: geometry.sample(image, g).sum()))
    assert "scatter" not in gradient.lower(grid).as_text()


def test_derivatives_forward_and_mapped():
    image, grid = draw(SHAPE, 300)
    tangent = np.ones_like(grid)
    out, dot = jax.jvp(lambda g: geometry.sample(image, g), (grid,), (tangent,))
    np.testing.assert_allclose(out, geometry.sample(image, grid), atol=2e-3)
    one = jax.jvp(lambda g: geometry.sample(image[:1], g), (grid[:1],), (tangent[:1],))[1]
    np.testing.assert_allclose(dot[:1], one, rtol=1e-5, atol=1e-5)
    mapped = jax.vmap(geometry.sample, in_axes=(None, 0))(image, jnp.stack([grid, grid[::-1]]))
    np.testing.assert_array_equal(mapped[1], geometry.sample(image, grid[::-1]))


@pytest.mark.parametrize(
    ("shape", "side", "count"),
    [
        ((16, 448, 448, 3), 224, 2),
        ((64, 224, 224, 3), 224, 8),
        ((4, 448, 448, 3), 224, 4),  # Not much at all.
        ((16, 448, 448, 3), 100, 16),  # Most pixels are not read.
        ((64, 224, 224, 16), 224, 64),  # Many channels.
        ((17, 448, 448, 3), 224, 1),
        ((1021, 80, 80, 1), 80, 1021),  # A prime number of small images.
        ((2, 1500, 1500, 3), 1500, 2),  # None fits.
    ],
)
def test_size_of_chunks(shape, side, count):
    image = jax.ShapeDtypeStruct(shape, np.float32)
    grid = jax.ShapeDtypeStruct((shape[0], side, side, 2), np.float32)
    assert chunks._chunk(image, grid) == count

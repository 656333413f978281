"""Local contrast normalisation (G2, G3) against loops over pixels, windows and channels."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.signal import windows

from stn_jax.models.contrast import WINDOWS, normalise_contrast


def literal(image, window, floor=1e-4):
    """Torch's module for one image [H, W, C], in loops."""
    height, width, channels = image.shape
    reach = len(window) // 2

    def sums(values):
        """Weighted sum over window and channels, and the same of ones."""
        total, weight = np.zeros((height, width)), np.zeros((height, width))
        for y, x, c in itertools.product(range(height), range(width), range(channels)):
            for i, j in itertools.product(range(-reach, reach + 1), repeat=2):
                if 0 <= y + i < height and 0 <= x + j < width:
                    w = window[i + reach] * window[j + reach] / channels
                    total[y, x] += w * values[y + i, x + j, c]
                    weight[y, x] += w
        return total, weight

    total, weight = sums(image)
    centred = image - (total / weight)[..., None]
    total, weight = sums(centred**2)
    deviation = np.sqrt(total) / weight
    return centred / np.where(deviation > floor, deviation, floor)[..., None]


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("shape", [(12, 10, 3), (5, 6, 2)])
def test_equals_the_literal_loops(name, shape):
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    images[1, 1:4, 1:4] = 0.25  # without contrast at a place
    expected = [literal(image.astype(np.float64), WINDOWS[name]) for image in images]
    found = jax.jit(lambda x: normalise_contrast(x, WINDOWS[name]))(images)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_windows_are_those_of_the_recipe():
    assert len(WINDOWS["gaussian"]) == 7 and len(WINDOWS["box"]) == 9
    expected = windows.gaussian(7, 1.75)
    np.testing.assert_allclose(WINDOWS["gaussian"], expected / expected.sum())
    np.testing.assert_allclose(WINDOWS["box"], windows.boxcar(9) / 9)


def test_brightness_and_contrast_have_no_part_in_the_result():
    image = np.random.default_rng(0).normal(size=(1, 9, 9, 3)).astype(np.float32)
    plain = normalise_contrast(image)
    np.testing.assert_allclose(normalise_contrast(5 * image + 3), plain, rtol=1e-3, atol=1e-4)


def test_without_contrast_the_floor_is_divided_by():
    step = np.zeros((1, 9, 9, 1), np.float32)
    step[0, 4, 4] = 1e-5
    found = normalise_contrast(step, WINDOWS["gaussian"])
    centre = 1e-5 * (1 - WINDOWS["gaussian"][3] ** 2) / 1e-4
    assert found[0, 4, 4, 0] == pytest.approx(centre, rel=1e-4)
    assert np.all(np.asarray(normalise_contrast(np.zeros((1, 9, 9, 1), np.float32))) == 0)


def test_numeric_gradient_and_none_that_is_infinite():
    with jax.enable_x64(True):
        image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 5, 2)))
        check_grads(jax.jit(normalise_contrast), (image,), order=1, modes=["rev"])
    flat = jnp.zeros((1, 6, 6, 2))
    slope = jax.grad(lambda x: jnp.sum(normalise_contrast(x)[0, 2]))(flat)
    assert np.all(np.isfinite(slope))


def test_half_precision_is_kept():
    image = jnp.ones((1, 4, 4, 1), jnp.bfloat16)
    assert normalise_contrast(image).dtype == jnp.bfloat16


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"with an odd number, got \[8\]"):
        normalise_contrast(np.zeros((1, 4, 4, 1), np.float32), np.ones(8))
    with pytest.raises(ValueError, match=r"must be \[..., H, W, C\], got \[4, 4\]"):
        normalise_contrast(np.zeros((4, 4), np.float32))


def test_integers_and_floors_that_are_none_are_refused():
    with pytest.raises(TypeError, match="x must be floating point, got uint8"):
        normalise_contrast(np.zeros((1, 4, 4, 3), np.uint8))
    for floor in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"floor must be positive, got {floor}"):
            normalise_contrast(np.zeros((1, 4, 4, 3), np.float32), floor=floor)

"""The pixel convention, against the formulas printed in its docstring."""

import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax.geometry import coords, to_normalised, to_pixels
from tests import oracles

CONVENTIONS = (True, False)
SHAPES = [(5, 8), (2, 1), (3, 4, 6)]


@pytest.mark.parametrize(("align_corners", "first", "last"), [(True, 0, 6), (False, -0.5, 6.5)])
def test_ends_of_an_axis(align_corners, first, last):
    ends = np.array([[-1.0, 0], [0, 0], [1, 0]], np.float32)
    pixels = to_pixels(ends, (3, 7), align_corners=align_corners)
    np.testing.assert_array_equal(pixels, [[first, 1], [3, 1], [last, 1]])


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_both_directions_against_the_formula(shape, align_corners):
    pixels = np.random.default_rng(0).uniform(-3, 9, (4, 6, len(shape)))
    if align_corners:  # An axis of one pixel has only its centre.
        pixels[..., np.array(shape[::-1]) == 1] = 0
    points = oracles.normalised(pixels, shape, align_corners)
    options = {"align_corners": align_corners}
    np.testing.assert_allclose(to_pixels(points, shape, **options), pixels, atol=1e-5)
    np.testing.assert_allclose(to_normalised(pixels, shape, **options), points, atol=1e-6)


def test_one_pixel_has_one_position():
    pixels = np.array([[-3.0, 1], [0, 1], [0.4, 1]], np.float32)
    np.testing.assert_array_equal(to_normalised(pixels, (3, 1)), 0)
    np.testing.assert_array_equal(to_pixels(pixels, (1, 1)), 0)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("size", [1, 2, 5, 28])
def test_centres_of_an_axis(size, align_corners):
    centres = coords.axis_centres(size, align_corners=align_corners)
    expected = oracles.regular_points((size,), align_corners)[:, 0]
    np.testing.assert_allclose(centres, expected, atol=1e-15)


@pytest.mark.parametrize("convert", [to_pixels, to_normalised])
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float16, jnp.bfloat16, jnp.float32])
def test_coordinates_are_float32(dtype, convert):
    assert convert(jnp.zeros((1, 2, 2, 2), dtype), (4, 5)).dtype == jnp.float32


def test_whole_pixels_have_fractions_as_coordinates():
    np.testing.assert_array_equal(to_normalised(np.array([[1, 3]]), (5, 5)), [[-0.5, 0.5]])


@pytest.mark.parametrize("convert", [to_pixels, to_normalised])
@pytest.mark.parametrize(
    ("points", "shape"), [((3, 1), (4, 5)), ((2, 3), (4, 5)), ((2,), (2, 3, 4))]
)
def test_points_have_a_coordinate_an_axis(convert, points, shape):
    with pytest.raises(ValueError, match=rf"must be \[..., {len(shape)}\], got \[{points[0]}"):
        convert(np.zeros(points, np.float32), shape)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
def test_one_unit_is_the_distance_between_centre_and_end(align_corners):
    unit = coords.pixels_per_unit((3, 5), align_corners=align_corners)
    np.testing.assert_array_equal(unit, [2, 1] if align_corners else [2.5, 1.5])

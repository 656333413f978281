"""Homographies against scikit-image and a literal loop, up to the horizon and behind it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.transform import ProjectiveTransform, warp

from stn_jax import geometry
from stn_jax.geometry import projective
from tests import oracles

CONVENTIONS = (True, False)
SQUARE = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], np.float32)


square_to_quad = jax.jit(geometry.square_to_quad)
invert_homography = jax.jit(geometry.invert_homography)


def draw_theta(batch, scale=0.2, seed=0):
    noise = np.random.default_rng(seed).normal(size=(batch, 8))
    return (projective.IDENTITY + scale * noise).astype(np.float32)


def matrix_of(theta):
    return np.append(theta, 1).reshape(3, 3).astype(np.float64)


def draw_quads(batch, seed=0):
    """Convex quadrilaterals: every corner of the square moves by less than half a side."""
    return SQUARE + np.random.default_rng(seed).uniform(-0.4, 0.4, (batch, 4, 2)).astype(np.float32)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
def test_grid_equals_scikit_image(align_corners):
    theta, shape = draw_theta(4), (5, 6)
    grid = geometry.projective_grid(theta, shape, align_corners=align_corners)
    points = oracles.regular_points(shape, align_corners).reshape(-1, 2)
    for ours, parameters in zip(grid, theta, strict=True):
        expected = ProjectiveTransform(matrix=matrix_of(parameters))(points)
        np.testing.assert_allclose(ours.reshape(-1, 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
def test_warp_equals_scikit_image(align_corners):
    image = np.random.default_rng(1).normal(size=(7, 9))
    theta, shape = draw_theta(1), (6, 8)
    grid = geometry.projective_grid(theta, shape, align_corners=align_corners)
    ours = geometry.sample(
        image[None, ..., None].astype(np.float32), grid, align_corners=align_corners
    )

    def normalise(size):  # The homography from the pixels of an image to normalised coordinates.
        origin = oracles.normalised(np.zeros(2), size, align_corners)
        unit = oracles.normalised(np.ones(2), size, align_corners) - origin
        return np.array([[unit[0], 0, origin[0]], [0, unit[1], origin[1]], [0, 0, 1]])

    matrix = np.linalg.inv(normalise(image.shape)) @ matrix_of(theta[0]) @ normalise(shape)
    theirs = warp(image, ProjectiveTransform(matrix=matrix), output_shape=shape, order=1)
    np.testing.assert_allclose(ours[0, ..., 0], theirs, atol=2e-5)


# The horizon. Each theta sends some of the 5 x 5 points to or behind it.
HORIZONS = {
    "through a column": [1, 0, 0, 0, 1, 0, -1, 0],
    "just short of a column": [1, 0, 0, 0, 1, 0, -1 + 1e-4, 0],
    "across": [1, 0.5, 0, 0, 1, 0, 1.5, -2.5],
    "nearly everything": [1, 0, 0, 0, 1, 0, 40, 40],
}


@functools.partial(jax.jit, static_argnames="align_corners")
def warp_ones(theta, *, align_corners):
    grid = geometry.projective_grid(theta, (5, 5), align_corners=align_corners)
    image = np.ones((1, 6, 7, 1), np.float32)
    return grid, geometry.sample(image, grid, align_corners=align_corners)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("theta", HORIZONS.values(), ids=HORIZONS)
def test_points_on_or_behind_the_horizon_lie_outside(theta, align_corners):
    theta = np.array([theta], np.float32)
    points = oracles.regular_points((5, 5), align_corners).reshape(-1, 2)
    matrix, smallest = matrix_of(theta[0]), projective.MIN_DENOMINATOR
    expected = oracles.apply_homography(matrix, points, smallest).reshape(5, 5, 2)
    behind = np.isnan(expected[..., 0])
    if align_corners:
        assert 0 < behind.sum() < behind.size

    warped, pull = jax.vjp(functools.partial(warp_ones, align_corners=align_corners), theta)
    grid, out = (np.asarray(array)[0] for array in warped)
    np.testing.assert_array_equal(grid[behind], projective.OUTSIDE)
    np.testing.assert_array_equal(out[behind], 0)
    np.testing.assert_allclose(grid[~behind], expected[~behind], rtol=1e-5)

    from_behind = behind[None, ..., None].astype(np.float32)
    from_front = 1 - from_behind
    np.testing.assert_array_equal(pull((from_behind.repeat(2, -1), from_behind))[0], 0)
    assert np.all(np.isfinite(pull((from_front.repeat(2, -1), from_front))[0]))


@pytest.mark.parametrize("align_corners", CONVENTIONS)
def test_any_theta_gives_finite_values_and_gradients(align_corners):
    image = np.random.default_rng(0).normal(size=(64, 6, 7, 1)).astype(np.float32)
    options = {"align_corners": align_corners}

    @jax.jit
    @jax.value_and_grad
    def read(theta):
        grid = geometry.projective_grid(theta, (5, 6), **options)
        return jnp.sum(geometry.sample(image, grid, **options) ** 2)

    for scale in (1e-6, 1, 1e3, 1e6):
        value, gradient = read(draw_theta(64, scale))
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))


# Quadrilaterals and inverses.


def test_square_to_quad_equals_scikit_image():
    quads = draw_quads(20)
    points = np.random.default_rng(1).uniform(-1, 1, (10, 2))
    for quad, matrix in zip(quads, np.asarray(square_to_quad(quads)), strict=True):
        ours = oracles.apply_homography(matrix, points, 0)
        theirs = ProjectiveTransform.from_estimate(SQUARE, quad)(points)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("flip", [1, -1])
def test_square_to_quad_sends_corners_to_corners(flip):
    quads = draw_quads(20) * np.array([flip, 1], np.float32)  # A mirrored square is fine too.
    for quad, matrix in zip(quads, np.asarray(square_to_quad(quads)), strict=True):
        np.testing.assert_allclose(oracles.apply_homography(matrix, SQUARE, 0), quad, atol=1e-5)


def test_square_to_quad_takes_whole_numbers_and_any_leading_axes():
    corners = [[-2, -1], [2, -1], [-1, 1], [1, 1]]
    matrix = geometry.square_to_quad(corners)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(oracles.apply_homography(matrix, SQUARE, 0), corners, atol=1e-6)
    batches = square_to_quad(np.array([[corners] * 3] * 2, np.float32))
    np.testing.assert_array_equal(batches, np.broadcast_to(matrix, (2, 3, 3, 3)))


@pytest.mark.parametrize("quad", [[[0, 0]] * 4, [[0, 0], [1, 1], [2, 2], [0, 1]]])
def test_collapsed_quads_stay_finite(quad):
    matrix, pull = jax.vjp(square_to_quad, jnp.array(quad, jnp.float32))
    inverse = invert_homography(matrix)
    for array in (matrix, inverse, pull(matrix)[0]):
        assert np.all(np.isfinite(array))
    np.testing.assert_allclose(np.linalg.det(matrix), 0, atol=1e-6)


@pytest.mark.parametrize("factor", [1, -1, 1e-3])
def test_invert_homography_undoes_it(factor):
    quads = np.concatenate([draw_quads(10), draw_quads(10)[:, [1, 0, 3, 2]]])  # half are mirrored
    for matrix in np.float32(factor) * np.asarray(square_to_quad(quads)):
        inverse = np.asarray(invert_homography(matrix))
        product = inverse @ matrix
        np.testing.assert_allclose(product / product[2, 2], np.eye(3), atol=1e-4)
        u, v, w = matrix[:, 2]
        np.testing.assert_allclose(inverse[2] @ [u / w, v / w, 1], 1, rtol=1e-4)


def test_homography_grid_of_the_inverse_leads_back():
    matrix = square_to_quad(draw_quads(3))
    grid = geometry.homography_grid(invert_homography(matrix), (4, 4))
    points = geometry.regular_grid((4, 4)).reshape(-1, 2)
    for back, there in zip(np.asarray(grid), np.asarray(matrix), strict=True):
        mapped = oracles.apply_homography(there, back.reshape(-1, 2), 0)
        np.testing.assert_allclose(mapped, points, atol=1e-5)


@pytest.mark.parametrize("size", [(0.5, 0.5), (0.015, 0.015), (1e-4, 1e-4), (0.2, 0.001)])
def test_quads_of_any_size_are_read(size):
    """Their matrices differ by orders of magnitude."""
    corners = SQUARE * np.float32(size) + np.float32([0.3, -0.2])
    grid = geometry.homography_grid(geometry.square_to_quad(corners)[None], (2, 2))
    np.testing.assert_allclose(grid.reshape(4, 2), corners, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-6, 0.3, 1e6])
def test_a_positive_factor_changes_nothing(factor):
    matrix = np.stack([matrix_of(theta) for theta in draw_theta(4, scale=0.6)]).astype(np.float32)
    grid, scaled = (
        geometry.homography_grid(m, (9, 9)) for m in (matrix, np.float32(factor) * matrix)
    )
    assert np.any(grid == projective.OUTSIDE)
    np.testing.assert_allclose(scaled, grid, rtol=1e-4, atol=1e-6)


def test_nan_is_not_hidden():
    theta = jnp.full((1, 8), jnp.nan)
    assert np.isnan(geometry.projective_grid(theta, (3, 3))).all()


@pytest.mark.parametrize(
    "matrix",
    [
        [[0, -1, 2], [1, 0, 3], [0.5, 0.2, 0]],  # the centre's image is at infinity
        np.eye(3) * 1e13,
        np.eye(3) * 1e-13,
        [[1e9, 0, 0], [0, 1, 0], [0, 0, 1]],
    ],
)
def test_inverses_of_any_scale_equal_numpys_up_to_a_factor(matrix):
    matrix = np.array(matrix, np.float32)
    ours, theirs = np.asarray(invert_homography(matrix)), np.linalg.inv(np.float64(matrix))
    ours, theirs = (m / m.flat[np.abs(theirs).argmax()] for m in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometry.square_to_quad(np.zeros((3, 2))), r"corners must be \[..., 4, 2\]"),
        (lambda: geometry.invert_homography(np.zeros((3, 2))), r"matrix must be \[..., 3, 3\]"),
        (lambda: geometry.homography_grid(np.zeros((3, 3)), (2, 2)), r"must be \[B, 3, 3\]"),
        (lambda: geometry.projective_grid(np.zeros((1, 9)), (2, 2)), r"must be \[B, 8\]"),
        (lambda: geometry.projective_grid(np.zeros((1, 8)), (2, 2, 2)), r"must be \(H, W\)"),
    ],
)
def test_wrong_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

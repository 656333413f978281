"""Piecewise affine transforms against SciPy, and what defines them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import LinearNDInterpolator

from stn_jax import geometry
from stn_jax.geometry import piecewise
from tests import oracles

CONVENTIONS = (True, False)
SIDES = (2, 3, 4, 5)


def draw_theta(batch, n, seed=0):
    noise = np.random.default_rng(seed).normal(scale=0.2, size=(batch, 2 * n * n))
    return (geometry.control_identity(n) + noise).astype(np.float32)


def positions(theta):
    """The source positions [K, 2] of the control points: all x come first, then all y."""
    return theta.reshape(2, -1).T.astype(np.float64)


def triangles(n):
    """Indices of the corners, two triangles a cell, cut from (-x, -y) to (+x, +y)."""
    for row, column in itertools.product(range(n - 1), repeat=2):
        first = row * n + column
        yield first, first + 1, first + n + 1
        yield first, first + n, first + n + 1


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("n", SIDES)
def test_equals_scipy(n, align_corners):
    # SciPy triangulates by Delaunay, which is free to cut squares either way, but cuts sheared
    # ones along the shorter diagonal. Linear interpolation does not feel the shear.
    shear = np.array([[1, -0.3], [-0.3, 1]])
    theta, shape = draw_theta(2, n), (8, 7)
    # A hair inside: SciPy gives nan beyond the border, be it by rounding.
    points = oracles.regular_points(shape, align_corners).reshape(-1, 2) * (1 - 1e-9)
    controls = oracles.regular_points((n, n), True).reshape(-1, 2)
    grid = geometry.piecewise_affine_grid(theta, shape, n=n, align_corners=align_corners)
    for ours, parameters in zip(grid, theta, strict=True):
        interpolator = LinearNDInterpolator(controls @ shear, positions(parameters))
        expected = interpolator(points @ shear)
        np.testing.assert_allclose(ours.reshape(-1, 2), expected, atol=1e-6)


@pytest.mark.parametrize("n", SIDES)
def test_control_points_go_where_theta_says(n):
    theta = draw_theta(1, n)
    # The pixel centres of an n x n output are the control points.
    grid = geometry.piecewise_affine_grid(theta, (n, n), n=n)
    np.testing.assert_allclose(grid.reshape(-1, 2), positions(theta), atol=1e-6)


@pytest.mark.parametrize("n", SIDES)
def test_is_one_affine_map_on_each_closed_triangle(n):
    """Triangles share the points of their edges, so the map is also continuous across them."""
    theta, fine = draw_theta(1, n), 4
    side = (n - 1) * fine + 1
    grid = np.asarray(geometry.piecewise_affine_grid(theta, (side, side), n=n)).reshape(-1, 2)
    points = oracles.regular_points((side, side), True).reshape(-1, 2)
    controls = oracles.regular_points((n, n), True).reshape(-1, 2)
    covered = np.zeros(len(points), int)
    for corners in map(list, triangles(n)):
        to_weights = np.linalg.inv(np.vstack([controls[corners].T, np.ones(3)]))
        weights = to_weights @ np.vstack([points.T, np.ones(len(points))])
        inside = np.all(weights > -1e-9, axis=0)
        expected = weights[:, inside].T @ positions(theta)[corners]
        np.testing.assert_allclose(grid[inside], expected, atol=1e-6)
        covered += inside
    assert np.all(covered > 0) and np.sum(covered > 1) > fine


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("n", SIDES)
def test_affine_motions_are_reproduced(n, align_corners):
    affine = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    moved = geometry.affine_grid(affine, (n, n)).reshape(2, -1, 2)
    theta = jnp.swapaxes(moved, 1, 2).reshape(2, -1)
    grid = geometry.piecewise_affine_grid(theta, (6, 5), n=n, align_corners=align_corners)
    expected = geometry.affine_grid(affine, (6, 5), align_corners=align_corners)
    np.testing.assert_allclose(grid, expected, atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (28, 28)])
@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("n", SIDES)
def test_a_point_follows_the_corners_of_its_triangle_only(n, align_corners, shape):
    theta = geometry.control_identity(n)[None]
    jacobian = jax.jacobian(
        lambda t: geometry.piecewise_affine_grid(t, shape, n=n, align_corners=align_corners)
    )(theta)
    jacobian = np.asarray(jacobian).reshape(-1, 2, 2, n * n)
    weights = jacobian[:, 0, 0]
    np.testing.assert_array_equal(jacobian[:, 1, 1], weights)
    np.testing.assert_array_equal(jacobian[:, [0, 1], [1, 0]], 0)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    allowed = [set(corners) for corners in triangles(n)]
    for row in weights:
        follows = set(np.flatnonzero(row > 1e-6))
        assert row.min() >= 0 and any(follows <= corners for corners in allowed)


def test_the_basis_is_a_constant():
    theta = draw_theta(2, 4)

    def grid(theta):
        return geometry.piecewise_affine_grid(theta, (9, 11))

    grid(theta)
    before = piecewise._hat_basis.cache_info()
    jaxpr = str(jax.make_jaxpr(grid)(theta))
    after = piecewise._hat_basis.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)
    assert "dot_general" in jaxpr
    assert not any(word in jaxpr for word in ("max", "gather", "solve", "while"))


@pytest.mark.parametrize("n", [1, 0, -2])
def test_too_few_control_points_are_named(n):
    with pytest.raises(ValueError, match=f"n >= 2 control points a side, got n={n}"):
        geometry.piecewise_affine(n)

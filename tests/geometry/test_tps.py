"""Thin plate splines against SciPy, a literal solve, and what defines them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from stn_jax import geometry
from stn_jax.geometry import tps
from tests import oracles

CONVENTIONS = (True, False)
SIDES = (2, 3, 4, 5, 6)


def draw_theta(batch, n, seed=0):
    noise = np.random.default_rng(seed).normal(scale=0.2, size=(batch, 2 * n * n))
    return (geometry.control_identity(n) + noise).astype(np.float32)


def positions(theta):
    """The source positions [K, 2] of the control points: all x come first, then all y."""
    return theta.reshape(2, -1).T.astype(np.float64)


def scipy_spline(controls, values, points):
    return RBFInterpolator(controls, values, kernel="thin_plate_spline", degree=1)(points)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("n", SIDES)
@pytest.mark.parametrize("spline", [scipy_spline, oracles.thin_plate_spline])
def test_equals(spline, n, align_corners):
    theta, shape = draw_theta(2, n), (5, 7)
    controls = oracles.regular_points((n, n), True).reshape(-1, 2)
    points = oracles.regular_points(shape, align_corners).reshape(-1, 2)
    grid = geometry.tps_grid(theta, shape, n=n, align_corners=align_corners)
    for ours, parameters in zip(grid, theta, strict=True):
        expected = spline(controls, positions(parameters), points)
        np.testing.assert_allclose(ours.reshape(-1, 2), expected, atol=1e-5)


@pytest.mark.parametrize("n", SIDES)
def test_control_points_go_where_theta_says(n):
    theta = draw_theta(1, n)
    # The pixel centres of an n x n output are the control points.
    grid = geometry.tps_grid(theta, (n, n), n=n)
    np.testing.assert_allclose(grid.reshape(-1, 2), positions(theta), atol=2e-6)


@pytest.mark.parametrize("n", SIDES)
def test_affine_motions_are_reproduced(n):
    affine = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    moved = geometry.affine_grid(affine, (n, n)).reshape(2, -1, 2)
    theta = jnp.swapaxes(moved, 1, 2).reshape(2, -1)
    grid = geometry.tps_grid(theta, (6, 5), n=n)
    np.testing.assert_allclose(grid, geometry.affine_grid(affine, (6, 5)), atol=1e-5)


def test_bends_least_among_the_interpolants():
    """A spline's own values at finer control points change nothing: the minimum is unique."""
    theta = draw_theta(1, 3)
    fine = geometry.tps_grid(theta, (5, 5), n=3).reshape(1, -1, 2)
    finer = geometry.tps_grid(jnp.swapaxes(fine, 1, 2).reshape(1, -1), (5, 5), n=5)
    np.testing.assert_allclose(finer.reshape(1, -1, 2), fine, atol=1e-5)


def test_the_basis_is_a_constant():
    theta = draw_theta(2, 4)

    def grid(theta):
        return geometry.tps_grid(theta, (9, 11))

    grid(theta)
    before = tps._spline_basis.cache_info()
    jaxpr = str(jax.make_jaxpr(grid)(theta))
    after = tps._spline_basis.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)
    assert "dot_general" in jaxpr
    assert not any(word in jaxpr for word in ("log", "solve", "lu", "cholesky", "while"))


def test_the_grid_is_linear_in_theta():
    """M_theta B with the control points' positions as M_theta (Sect. 3.2)."""
    theta = draw_theta(2, 4)
    basis = tps._spline_basis(4, (5, 6), True)
    linear = geometry.linear_grid(theta.reshape(2, 2, 16), basis, (5, 6))
    np.testing.assert_allclose(geometry.tps_grid(theta, (5, 6)), linear, atol=1e-5)


@pytest.mark.parametrize("n", SIDES)
def test_gradient_is_finite_where_targets_meet_control_points(n):
    theta = geometry.control_identity(n)[None]
    jacobian = jax.jit(jax.jacobian(lambda t: geometry.tps_grid(t, (n, n), n=n)))(theta)
    # Each point follows its own control point only.
    expected = np.einsum("pk,ij->pijk", np.eye(n * n), np.eye(2))
    np.testing.assert_allclose(jacobian.reshape(n * n, 2, 2, n * n), expected, atol=1e-5)


@pytest.mark.parametrize("n", [1, 0, -2])
def test_too_few_control_points_are_named(n):
    with pytest.raises(ValueError, match=f"n >= 2 control points a side, got n={n}"):
        geometry.thin_plate_spline(n)

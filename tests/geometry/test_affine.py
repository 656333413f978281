"""Affine, attention and generic linear grids, against PyTorch and NumPy's own image operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from stn_jax import geometry
from tests import oracles

CONVENTIONS = (True, False)
SIZE = 5
IMAGE = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("shape", [(4, 7), (28, 28), (3, 4, 7)])
def test_equals_torch(shape, align_corners):
    torch = oracles.import_torch()
    dims = len(shape)
    theta, cotangent = draw(3, dims * (dims + 1)), draw(3, *shape, dims, seed=1)
    theirs_theta = torch.tensor(theta.reshape(3, dims, dims + 1), requires_grad=True)
    theirs = torch.nn.functional.affine_grid(
        theirs_theta, (3, 1, *shape), align_corners=align_corners
    )
    theirs.backward(torch.tensor(cotangent))
    ours, pull = jax.vjp(
        lambda t: geometry.affine_grid(t, shape, align_corners=align_corners), theta
    )
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=2e-6)
    gradient = theirs_theta.grad.numpy().reshape(theta.shape)
    np.testing.assert_allclose(pull(cotangent)[0], gradient, rtol=1e-4, atol=1e-4)


def skewed(image):
    """Row y reads y - 2 pixels further right."""
    wide = np.pad(image, ((0, 0), (2, 2)))
    return np.stack([wide[y, y : y + SIZE] for y in range(SIZE)])


# Name -> (theta for the size of a pixel in normalised units and the output's size relative to
# the input's, what NumPy makes of the 5 x 5 image). Grids say where to read, not where to put.
CLOSED_FORMS = {
    "crop": (lambda p, r: [r, 0, p, 0, r, -p], lambda u: u[0:3, 2:5]),
    "translation": (lambda p, r: [1, 0, 2 * p, 0, 1, p], lambda u: np.pad(u, 2)[3:8, 4:9]),
    "rotation": (lambda p, r: [0, 1, 0, -1, 0, 0], lambda u: np.rot90(u, -1)),
    "half turn": (lambda p, r: [-1, 0, 0, 0, -1, 0], lambda u: u[::-1, ::-1]),
    "scale": (lambda p, r: [2, 0, 0, 0, 2, 0], lambda u: np.pad(u, 2)[::2, ::2]),
    "mirror": (lambda p, r: [-1, 0, 0, 0, 1, 0], lambda u: u[:, ::-1]),
    "skew": (lambda p, r: [1, 1, 0, 0, 1, 0], skewed),
}


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name, align_corners):
    make_theta, make_expected = CLOSED_FORMS[name]
    expected = make_expected(IMAGE)
    extent = [size - 1 if align_corners else size for size in (SIZE, len(expected))]
    theta = jnp.array([make_theta(2 / extent[0], extent[1] / extent[0])], jnp.float32)
    grid = geometry.affine_grid(theta, expected.shape, align_corners=align_corners)
    out = geometry.sample(IMAGE[None, ..., None], grid, align_corners=align_corners)
    np.testing.assert_allclose(out[0, ..., 0], expected, atol=1e-6)


# In volumes (V2).

VOLUME = np.random.default_rng(1).normal(size=(SIZE, SIZE, SIZE)).astype(np.float32)


def warp(volume, matrix, align_corners=True):
    theta = np.asarray(matrix, np.float32).reshape(1, 12)
    grid = geometry.affine_grid(theta, volume.shape, align_corners=align_corners)
    out = geometry.sample(volume[None, ..., None], grid, align_corners=align_corners)
    return out[0, ..., 0]


# Rows are x, y, z; a quarter turn about an axis takes one of the others to the next.
QUARTER_TURNS = {
    "x": ([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]], (0, 1)),
    "y": ([[0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0]], (2, 0)),
    "z": ([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0]], (1, 2)),
}


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("name", QUARTER_TURNS)
def test_rotations_about_each_axis(name, align_corners):
    matrix, plane = QUARTER_TURNS[name]
    turned = warp(VOLUME, matrix, align_corners)
    np.testing.assert_allclose(turned, np.rot90(VOLUME, -1, plane), atol=1e-6)


def test_the_third_axis_can_be_time():
    """A film [time, y, x] played backwards, from its second half, and with a panning camera."""
    film, step = VOLUME, 2 / (SIZE - 1)
    x, y = [1, 0, 0, 0], [0, 1, 0, 0]
    np.testing.assert_allclose(warp(film, [x, y, [0, 0, -1, 0]]), film[::-1], atol=1e-6)
    slowly = warp(film, [x, y, [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(slowly[::2], film[2:], atol=1e-6)
    np.testing.assert_allclose(slowly[1], (film[2] + film[3]) / 2, atol=1e-6)
    # One pixel a frame, none in the middle one.
    panned = warp(film, [[1, 0, 1, 0], y, [0, 0, 1, 0]])
    wide = np.pad(film, ((0, 0), (0, 0), (2, 2)))
    for time in range(SIZE):
        np.testing.assert_allclose(panned[time], wide[time, :, time : time + SIZE], atol=1e-6)
    shifted = warp(film, [x, y, [0, 0, 1, step]])
    np.testing.assert_allclose(shifted, [*film[1:], np.zeros((SIZE, SIZE))], atol=1e-6)


@pytest.mark.parametrize("start", ["on voxel centres", "off them"])
def test_warped_volumes_and_their_gradients_equal_torchs(start):
    torch = oracles.import_torch()
    # Halves of 2 and 4 are exact, so that both libraries find points on voxel centres there.
    shape, identity = (3, 5, 3), np.eye(3, 4, dtype=np.float32)
    volume, cotangent = draw(2, *shape, 2), draw(2, *shape, 2, seed=1)
    theta = np.tile(identity.ravel(), (2, 1))
    if start == "off them":
        theta = theta + 0.2 * draw(2, 12, seed=2)

    @jax.jit
    def ours(volume, theta):
        return geometry.sample(volume, geometry.affine_grid(theta, shape))

    out, pull = jax.vjp(ours, volume, theta)
    u, t = (torch.tensor(a, requires_grad=True) for a in (np.moveaxis(volume, -1, 1), theta))
    grid = torch.nn.functional.affine_grid(t.reshape(2, 3, 4), (2, 1, *shape), align_corners=True)
    v = torch.nn.functional.grid_sample(u, grid, align_corners=True)
    v.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    np.testing.assert_allclose(out, np.moveaxis(v.detach().numpy(), 1, -1), atol=1e-5)
    volume_gradient, theta_gradient = pull(cotangent)
    np.testing.assert_allclose(volume_gradient, np.moveaxis(u.grad.numpy(), 1, -1), atol=1e-5)
    np.testing.assert_allclose(theta_gradient, t.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_area_shrinks_by_the_determinant(seed):
    theta = draw(1, 6, seed=seed)
    corners = np.asarray(geometry.affine_grid(theta, (2, 2)))[0].reshape(4, 2)[[0, 1, 3, 2]]
    x, y = corners.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2  # shoelace formula
    determinant = np.linalg.det(theta.reshape(2, 3)[:, :2])
    np.testing.assert_allclose(area, 4 * abs(determinant), rtol=1e-5)


def test_attention_is_the_affine_transform_of_eq_2():
    theta, cotangent = draw(4, 3), draw(4, 5, 6, 2, seed=1)
    s, tx, ty = theta.T
    zero = np.zeros_like(s)
    matrix = np.stack([s, zero, tx, zero, s, ty], -1)
    grid, pull = jax.vjp(lambda t: geometry.attention_grid(t, (5, 6)), theta)
    expected, pull_affine = jax.vjp(lambda t: geometry.affine_grid(t, (5, 6)), matrix)
    np.testing.assert_array_equal(grid, expected)
    da, _, dtx, _, de, dty = pull_affine(cotangent)[0].T
    np.testing.assert_allclose(pull(cotangent)[0], np.stack([da + de, dtx, dty], -1), rtol=1e-5)


def test_attention_closed_form():
    grid = geometry.attention_grid(jnp.array([[0.5, 0.25, -0.5]]), (3, 3))
    np.testing.assert_array_equal(grid[0, 0], [[-0.25, -1], [0.25, -1], [0.75, -1]])
    np.testing.assert_array_equal(grid[0, :, 0], [[-0.25, -1], [-0.25, -0.5], [-0.25, 0]])


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_linear_grid_is_a_matrix_product(shape):
    matrix, basis = draw(2, 3, 5), draw(5, int(np.prod(shape)), seed=1)
    grid = geometry.linear_grid(matrix, basis, shape)
    assert grid.shape == (2, *shape, 3)
    for b, i in np.ndindex(2, 3):
        expected = (matrix[b, i].astype(np.float64) @ basis).reshape(shape)
        np.testing.assert_allclose(grid[b, ..., i], expected, atol=1e-5)


def test_the_basis_can_be_learnt():
    matrix, basis, cotangent = draw(2, 2, 3), draw(3, 12, seed=1), draw(2, 3, 4, 2, seed=2)
    _, pull = jax.vjp(lambda b: geometry.linear_grid(matrix, b, (3, 4)), basis)
    expected = np.einsum("bnk,bpn->kp", matrix, cotangent.reshape(2, 12, 2))
    np.testing.assert_allclose(pull(cotangent)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("matrix", "basis", "message"),
    [
        ((2, 3), (3, 12), r"matrix must be \[B, N, K\], got \[2, 3\]"),
        ((1, 2, 3), (4, 12), r"basis \[K, 12\] for shape \(3, 4\) .* got matrix \("),
        ((1, 2, 3), (3, 11), r"basis \[K, 12\] for shape \(3, 4\) .* got matrix \("),
    ],
)
def test_linear_grid_names_what_does_not_fit(matrix, basis, message):
    with pytest.raises(ValueError, match=message):
        geometry.linear_grid(np.zeros(matrix), np.zeros(basis), (3, 4))


@pytest.mark.parametrize(
    ("theta", "shape"), [((2, 6), (3, 4, 5)), ((2, 12), (3, 4)), ((5,), (3, 4))]
)
def test_affine_grid_names_what_does_not_fit(theta, shape):
    with pytest.raises(ValueError, match=r"must be \[B, \d+\], got \["):
        geometry.affine_grid(np.zeros(theta), shape)


def test_transforms_that_follow_each_other_multiply_in_order():
    """H22: what the last map reads is found by going through them from the last to the first."""
    theta = np.random.default_rng(0).normal(size=(4, 3, 6)).astype(np.float32)
    points = np.random.default_rng(1).normal(size=(4, 2, 10))
    expected = points
    for number in (2, 1, 0):
        matrix = theta[:, number].reshape(4, 2, 3).astype(np.float64)
        expected = matrix[:, :, :2] @ expected + matrix[:, :, 2:]
    whole = np.asarray(geometry.compose_affine(theta)).reshape(4, 2, 3)
    found = whole[:, :, :2] @ points + whole[:, :, 2:]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_shift_then_zoom_is_not_zoom_then_shift():
    """The first transform shifts the image by half a unit, the second looks at its middle half."""
    shift, zoom = [1, 0, 0.5, 0, 1, 0], [0.5, 0, 0, 0, 0.5, 0]
    np.testing.assert_array_equal(
        geometry.compose_affine(np.float32([shift, zoom])), [0.5, 0, 0.5, 0, 0.5, 0]
    )
    np.testing.assert_array_equal(
        geometry.compose_affine(np.float32([zoom, shift])), [0.5, 0, 0.25, 0, 0.5, 0]
    )


def test_composed_warp_is_one_warp_after_the_other():
    image = np.random.default_rng(0).normal(size=(1, 31, 31, 2))
    image = ndimage.gaussian_filter(image, (0, 4, 4, 0)).astype(np.float32)
    theta = np.float32([[[0.8, 0.1, 0.05, -0.1, 0.7, 0.1], [0.7, -0.2, 0.0, 0.2, 0.7, -0.1]]])
    twice = image
    for number in range(2):
        twice = geometry.sample(twice, geometry.affine_grid(theta[:, number], (31, 31)))
    once = geometry.sample(image, geometry.affine_grid(geometry.compose_affine(theta), (31, 31)))
    np.testing.assert_allclose(once, twice, atol=0.02 * np.ptp(image))


def test_volumes_compose_too():
    theta = np.random.default_rng(0).normal(size=(2, 12)).astype(np.float32)
    square = [np.vstack([t.reshape(3, 4), [0, 0, 0, 1]]) for t in theta]
    expected = (square[0] @ square[1])[:3].ravel()
    np.testing.assert_allclose(geometry.compose_affine(theta), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6,), (3, 8)])
def test_composing_other_transforms_is_an_error(shape):
    with pytest.raises(ValueError, match=r"theta must be \[..., N, 6\] or \[..., N, 12\]"):
        geometry.compose_affine(np.zeros(shape, np.float32))

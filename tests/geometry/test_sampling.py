"""The sampler against PyTorch, SciPy, JAX and literal sums; its gradients, dtypes and messages."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.test_util import check_grads

from stn_jax import geometry
from stn_jax.geometry import sampling
from tests import oracles

KERNELS = {
    "bilinear": (oracles.bilinear, oracles.bilinear_slope),
    "nearest": (oracles.integer, oracles.integer_slope),
}
PADDINGS = ("zeros", "border", "reflection")
CONVENTIONS = (True, False)

sample = geometry.sample


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def draw_grid(*shape, seed=1):
    """Points that are almost surely off the lattice, a third of them outside."""
    return np.random.default_rng(seed).uniform(-1.5, 1.5, shape).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("kernel", "padding", "align_corners"))
def sample_and_gradients(image, grid, cotangent, **options):
    out, pull = jax.vjp(lambda u, g: geometry.sample(u, g, **options), image, grid)
    return out, *pull(cotangent)


def row_points(xs, shape, align_corners=True):
    """A grid of points (x, 1) in pixels of an image with at least two rows."""
    points = np.array([[[(x, 1.0) for x in xs]]])
    return oracles.normalised(points, shape, align_corners).astype(np.float32)


# Values and gradients against independent samplers.


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("image_shape", "grid_shape"),
    [
        ((2, 5, 7, 3), (2, 4, 6, 2)),
        ((2, 3, 4, 5, 2), (2, 4, 2, 6, 3)),
        ((2, 5, 7, 17), (2, 4, 6, 2)),  # many channels
    ],
)
def test_equals_torch(image_shape, grid_shape, kernel, padding, align_corners):
    image, grid = draw(*image_shape), draw_grid(*grid_shape)
    cotangent = draw(*grid_shape[:-1], image_shape[-1], seed=2)
    options = {"kernel": kernel, "padding": padding, "align_corners": align_corners}
    ours = sample_and_gradients(image, grid, cotangent, **options)
    theirs = oracles.torch_sample(image, grid, cotangent, **options)
    for ours_, theirs_ in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(ours_, theirs_, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("image_shape", "grid_shape", "align_corners"),
    [
        ((1, 4, 5, 1), (1, 9, 11, 2), True),  # oversampled
        ((1, 9, 6, 2), (1, 3, 2, 2), False),  # downsampled
        ((1, 1, 5, 3), (1, 2, 3, 2), True),  # one row
        ((1, 5, 1, 3), (1, 2, 3, 2), False),  # one column
        ((1, 3, 1, 4, 2), (1, 2, 2, 5, 3), True),
        ((2, 6, 5, 4), (2, 3, 4, 2), True),
        ((2, 6, 5, 9), (2, 3, 4, 2), False),  # many channels
    ],
)
def test_any_sizes(image_shape, grid_shape, align_corners):
    image, grid = draw(*image_shape), draw_grid(*grid_shape)
    cotangent = draw(*grid_shape[:-1], image_shape[-1], seed=2)
    options = {"kernel": "bilinear", "padding": "zeros", "align_corners": align_corners}
    ours = sample_and_gradients(image, grid, cotangent, **options)
    theirs = oracles.torch_sample(image, grid, cotangent, **options)
    for ours_, theirs_ in zip(ours, theirs, strict=True):
        assert ours_.shape == theirs_.shape
        np.testing.assert_allclose(ours_, theirs_, atol=2e-5)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_scipy_and_jax(kernel, padding):
    image, points = draw(6, 5), np.random.default_rng(3).uniform(-2, 7, (40, 2))
    grid = oracles.normalised(points, image.shape, True).astype(np.float32)
    ours = sample(image[None, ..., None], grid[None, None], kernel=kernel, padding=padding)
    order = {"nearest": 0, "bilinear": 1}[kernel]
    mode = {"zeros": "grid-constant", "border": "nearest", "reflection": "mirror"}[padding]
    rows_columns = points.T[::-1]
    scipys = scipy.ndimage.map_coordinates(image, rows_columns, order=order, mode=mode)
    np.testing.assert_allclose(ours.ravel(), scipys, atol=1e-5)
    mode = {"zeros": "constant", "border": "nearest", "reflection": "mirror"}[padding]
    jaxs = jax.scipy.ndimage.map_coordinates(image, list(rows_columns), order=order, mode=mode)
    np.testing.assert_allclose(ours.ravel(), jaxs, atol=1e-5)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_volume_of_one_layer_is_an_image(kernel, padding, align_corners):
    """V1: values, and gradients in the layer and along x and y."""
    image, grid, cotangent = draw(2, 5, 7, 3), draw_grid(2, 4, 6, 2), draw(2, 4, 6, 3, seed=2)
    in_layer = np.concatenate([grid, np.zeros_like(grid[..., :1])], axis=-1)
    options = {"kernel": kernel, "padding": padding, "align_corners": align_corners}
    expected = sample_and_gradients(image, grid, cotangent, **options)
    layers = (array[:, None] for array in (image, in_layer, cotangent))
    out, image_gradient, grid_gradient = sample_and_gradients(*layers, **options)
    found = (out[:, 0], image_gradient[:, 0], grid_gradient[:, 0, ..., :2])
    for found_, expected_ in zip(found, expected, strict=True):
        np.testing.assert_allclose(found_, expected_, atol=1e-5)


# The literal sums of Eq. 3 to 7 and 9, where it matters: on pixel centres, halves and the border.


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("kernel", sampling.KERNELS)
@pytest.mark.parametrize(
    ("shape", "padding"), [((3, 4), "zeros"), ((3, 4), "border"), ((2, 3, 2), "zeros")]
)
def test_equals_literal_sums_on_every_half_step(shape, kernel, padding, align_corners):
    value, slope = KERNELS[kernel]
    dims = len(shape)
    image = draw(1, *shape, 2)
    # Half steps from two pixels before the image to two behind it, in every combination.
    steps = [np.arange(-2, size + 1.5, 0.5) for size in shape[::-1]]
    points = np.array(list(itertools.product(*steps))).reshape(1, -1, *[1] * (dims - 1), dims)
    grid = oracles.normalised(points, shape, align_corners).astype(np.float32)
    cotangent = draw(*points.shape[:-1], 2, seed=2)

    last = np.array(shape[::-1]) - 1
    moves = np.ones_like(points)
    if padding == "border":  # V(x) = V(the nearest point of the image)
        moves = (points >= 0) & (points < last)
        points = np.clip(points, 0, last)
    unit = last / 2 if align_corners else (last + 1) / 2
    slopes = [
        np.sum(cotangent * oracles.kernel_sum(image, points, kernels), axis=-1)
        for kernels in (
            [slope if axis == other else value for other in range(dims)] for axis in range(dims)
        )
    ]

    options = {"kernel": kernel, "padding": padding, "align_corners": align_corners}
    out, image_gradient, grid_gradient = sample_and_gradients(image, grid, cotangent, **options)
    values = [value] * dims
    np.testing.assert_allclose(out, oracles.kernel_sum(image, points, values), atol=1e-5)
    np.testing.assert_allclose(
        image_gradient, oracles.image_gradient(shape, points, cotangent, values), atol=1e-4
    )
    np.testing.assert_allclose(grid_gradient, np.stack(slopes, -1) * moves * unit, atol=1e-5)


def test_nearest_rounds_halves_up():
    image = np.arange(1, 6, dtype=np.float32).reshape(1, 1, 5, 1).repeat(2, axis=1)
    grid = row_points([-1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5], (2, 5))
    out = sample(image, grid, kernel="nearest")
    np.testing.assert_array_equal(out.ravel(), [0, 1, 2, 3, 4, 5, 0])


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", [(5, 28), (224, 97)])
def test_regular_grid_gives_the_image_and_differences_to_the_right(shape, padding, align_corners):
    image = draw(1, *shape, 1)
    grid = geometry.regular_grid(shape, align_corners=align_corners)[None]
    options = {"padding": padding, "align_corners": align_corners}
    np.testing.assert_array_equal(sample(image, grid, kernel="nearest", **options), image)
    out, pull = jax.vjp(lambda g: sample(image, g, **options), grid)
    np.testing.assert_array_equal(out, image)

    (gradient,) = pull(np.ones_like(image))
    mirror = "reflect" if align_corners else "symmetric"
    beyond = {"zeros": "constant", "border": "edge", "reflection": mirror}[padding]
    u = np.pad(image[0, ..., 0], (0, 1), beyond)
    differences = [u[:-1, 1:] - u[:-1, :-1], u[1:, :-1] - u[:-1, :-1]]
    unit = [(size - align_corners) / 2 for size in shape[::-1]]
    np.testing.assert_allclose(gradient[0], np.stack(differences, -1) * unit, rtol=1e-5)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("zeros", lambda u: [0, u[0], u[1] - u[0], -u[3], 0, 0]),
        ("border", lambda u: [0, 0, u[1] - u[0], 0, 0, 0]),
        ("reflection", lambda u: [u[0] - u[1], 0, u[1] - u[0], 0, u[2] - u[3], u[1] - u[2]]),
    ],
)
def test_gradient_at_the_border(padding, expected):
    image = draw(1, 3, 4, 1)
    grid = row_points([-2, -1, 0, 3, 4, 5], (3, 4), align_corners=False)
    gradient = jax.grad(lambda g: sample(image, g, padding=padding, align_corners=False).sum())(
        grid
    )
    # Half the width is one normalised unit without align_corners.
    np.testing.assert_allclose(gradient[0, 0, :, 0], 2 * np.array(expected(image[0, 1, :, 0])))


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", [(4, 3), (1, 2), (2, 1), (2, 3, 2)])
@pytest.mark.parametrize("channels", [1, 2])
def test_derivatives_are_those_from_the_right_everywhere(shape, padding, align_corners, channels):
    image, step = draw(1, *shape, channels), 0.25
    # From beyond one border to beyond the other, and further than a mirrored copy. Between half
    # pixels samples are linear in each coordinate, so a difference is the derivative.
    axes = [np.arange(-size - 2.0, 2 * size + 2, 0.5) for size in shape[::-1]]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)[None]
    places = points.reshape(1, -1, *[1] * (len(shape) - 1), len(shape))

    def at(points):
        grid = oracles.normalised(points, shape, align_corners).astype(np.float32)
        return jnp.where(jnp.isfinite(grid), grid, 0)  # an axis of one pixel

    options = {"padding": padding, "align_corners": align_corners}
    weights = draw(channels, seed=3)
    here = sample(image, at(places), **options)
    gradient = jax.grad(lambda grid: (sample(image, grid, **options) @ weights).sum())(at(places))
    for axis, size in enumerate(shape[::-1]):
        moved = places + step * np.eye(len(shape))[axis]
        difference = (sample(image, at(moved), **options) - here) @ weights / step
        unit = (size - 1 if align_corners else size) / 2  # pixels
        np.testing.assert_allclose(gradient[..., axis], difference * unit, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_far_and_infinite_points_lie_outside(kernel, sign):
    image = draw(1, 3, 4, 2)
    far = sign * np.array([1.9, 1e4, 1e9, 1e30, np.finfo(np.float32).max, np.inf], np.float32)
    grid = np.stack([far, np.zeros_like(far)], -1)[None, None]
    ones = np.ones((1, 1, far.size, 2), np.float32)
    options = {"kernel": kernel, "align_corners": True}
    outs = {
        p: sample_and_gradients(image, grid, ones, padding=p, **options)
        for p in ("zeros", "border")
    }
    for _, _, grid_gradient in outs.values():
        np.testing.assert_array_equal(grid_gradient[..., 0], 0)
    np.testing.assert_array_equal(outs["zeros"][0], 0)
    np.testing.assert_array_equal(outs["zeros"][1], 0)
    edge = image[:, None, 1, 0 if sign < 0 else -1]
    np.testing.assert_array_equal(outs["border"][0], np.broadcast_to(edge, ones.shape))


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("shape", [(3, 4), (2, 2), (1, 3)])
def test_reflection_repeats_the_mirrored_image(shape, align_corners):
    image, far = draw(1, *shape, 1), 12
    mode = "reflect" if align_corners else "symmetric"
    tiled = np.pad(image, [(0, 0), (far, far), (far, far), (0, 0)], mode=mode)
    points = np.random.default_rng(4).uniform(-far + 1, far - 1, (1, 1, 50, 2))
    grids = [
        oracles.normalised(p, s, align_corners).astype(np.float32)
        for p, s in ((points, shape), (points + far, tiled.shape[1:3]))
    ]
    options = {"align_corners": align_corners}
    out = sample(image, grids[0], padding="reflection", **options)
    np.testing.assert_allclose(out, sample(tiled, grids[1], **options), atol=1e-4)


def test_nan_is_not_hidden():
    grid = np.array([[[[np.nan, 0], [0, 0]]]], np.float32)
    out = sample(draw(1, 3, 3, 1), grid)
    np.testing.assert_array_equal(np.isnan(out).ravel(), [True, False])


def test_any_kernel_can_join_the_table(monkeypatch):
    def gaussian(x, m):
        return np.exp(-((x - m) ** 2))

    def sum_over_all_pixels(image, points, mode):
        padded = jnp.pad(image, [(0, 0), (2, 2), (2, 2), (0, 0)], mode=mode)
        axes = [np.arange(-2.0, size - 2).reshape(1, 1, -1) for size in padded.shape[2:0:-1]]
        x, y = (
            jnp.exp(-((point[..., None] - m) ** 2)) for point, m in zip(points, axes, strict=True)
        )
        return jnp.einsum("bnmc,bpm,bpn->bpc", padded, x, y)

    monkeypatch.setitem(sampling.KERNELS, "gaussian", sum_over_all_pixels)
    image, points = draw(2, 4, 5, 3), np.random.default_rng(0).uniform(-1, 5, (2, 3, 6, 2))
    grid = oracles.normalised(points, (4, 5), True).astype(np.float32)
    expected = oracles.kernel_sum(image, points, [gaussian] * 2)
    np.testing.assert_allclose(geometry.sample(image, grid, kernel="gaussian"), expected, atol=1e-5)


# Gradients.


@pytest.mark.parametrize(
    ("shape", "channels", "padding", "order"),
    [((4, 5), 2, "border", 2), ((4, 5), 16, "zeros", 2), ((3, 2, 3), 2, "zeros", 1)],
)
def test_numeric_gradients(shape, channels, padding, order):
    with jax.enable_x64(True):
        dims = len(shape)
        # Off the kinks, but on halves too: these are snapped, and must stay differentiable.
        random = np.random.default_rng(0)
        steps = random.choice([-0.6, 0.2, 0.5, 0.8, 1.5, 1.7], (2, *[2] * dims, dims))
        grid = jnp.asarray(oracles.normalised(steps, shape, True))
        image = jnp.asarray(random.normal(size=(2, *shape, channels)))
        check_grads(functools.partial(sample, padding=padding), (image, grid), order=order)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("channels", [1, 2])
def test_derivatives_in_the_grid_of_those_in_the_image(padding, channels):
    image, direction = draw(1, 3, 4, channels), draw(1, 3, 4, channels, seed=1)
    grid = row_points([-1, 0, 0.25, 1, 2, 3, 4], (3, 4))

    def along(grid):  # Samples are linear in the image: this is `direction`, sampled.
        sampled = functools.partial(geometry.sample, grid=grid, padding=padding)
        return jax.jvp(sampled, (image,), (direction,))[1].sum()

    expected = jax.grad(lambda g: geometry.sample(direction, g, padding=padding).sum())(grid)
    np.testing.assert_allclose(jax.grad(along)(grid), expected, atol=1e-5)


def test_mixed_second_derivative_on_a_pixel_centre():
    image = draw(1, 4, 4, 1)
    grid = row_points([2.0], (4, 4))
    hessian = jax.jit(jax.hessian(lambda g: sample(image, g).sum()))(grid).reshape(2, 2)
    u = image[0, 1:3, 2:4, 0]
    mixed = (u[0, 0] - u[0, 1] - u[1, 0] + u[1, 1]) * 1.5**2
    np.testing.assert_allclose(hessian, [[0, mixed], [mixed, 0]], rtol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradient_in_the_image_is_transposed_sampling(kernel):
    image, grid, cotangent = draw(2, 5, 6, 3), draw_grid(2, 4, 4, 2), draw(2, 4, 4, 3, seed=2)
    options = {"kernel": kernel, "padding": "zeros", "align_corners": True}
    out, pulled, _ = sample_and_gradients(image, grid, cotangent, **options)
    np.testing.assert_allclose(np.vdot(out, cotangent), np.vdot(image, pulled), rtol=1e-5)


def _grid_gradient_of_closure(image, grid):
    return jax.grad(lambda g: geometry.sample(image, g).sum())(grid)


def _grid_gradient_of_jitted_sampler(image, grid):
    return jax.grad(lambda g: sample(image, g).sum())(grid)


def _grid_gradient_inside_jit(image, grid):
    return jax.jit(_grid_gradient_of_closure)(image, grid)


def _grid_gradient_of_rematerialised_sampler(image, grid):
    return jax.grad(lambda g: jax.checkpoint(geometry.sample)(image, g).sum())(grid)


def _image_gradient(image, grid):
    return jax.grad(lambda u: geometry.sample(u, grid).sum())(image)


@pytest.mark.parametrize(
    ("gradient", "scatters"),
    [
        (_grid_gradient_of_closure, False),
        (_grid_gradient_of_jitted_sampler, False),
        (_grid_gradient_inside_jit, False),
        (_grid_gradient_of_rematerialised_sampler, False),
        (_image_gradient, True),
    ],
)
def test_gradient_in_the_image_costs_nothing_unless_asked_for(gradient, scatters):
    arguments = draw(1, 4, 4, 1), draw_grid(1, 3, 3, 2)
    jaxpr = str(jax.make_jaxpr(gradient)(*arguments))
    compiled = jax.jit(gradient).lower(*arguments).compile().as_text()
    assert ("scatter" in jaxpr, "scatter" in compiled) == (scatters, scatters)


@pytest.mark.parametrize("wanted", [("image",), ("grid",), ("image", "grid")])
@pytest.mark.parametrize("channels", [1, 5])
def test_pixels_are_read_and_weighted_alike(wanted, channels):
    # Compilers round x * 28 + 28 once or twice. Where that decides what a point's neighbours are,
    # here about as far left of a pixel as counts as on it, all must go by the same.
    size = 57
    beside = sampling._rounding(jnp.zeros(1), size) * np.linspace(0.8, 1.2, 400)
    x, away = np.meshgrid(np.arange(1, size), beside, indexing="ij")
    points = np.stack([x - away, np.full_like(x, 7.4, float)], -1)[None]
    grid = oracles.normalised(points, (33, size), True).astype(np.float32)
    image = draw(1, 33, size, channels)

    @jax.jit
    def with_gradients(arrays, cotangent):
        differentiated = {name: arrays[name] for name in wanted}
        out, pull = jax.vjp(lambda some: geometry.sample(**{**arrays, **some}), differentiated)
        return out, pull(cotangent)

    out, _ = with_gradients({"image": image, "grid": grid}, draw(1, *grid.shape[1:3], channels))
    np.testing.assert_allclose(out, sample(image, grid), atol=1e-3)


# Types, layouts and transformations.


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_makes_the_image_is_not_computed_anew_for_each_read(kernel, channels):
    def sampled(image, grid):
        return geometry.sample(jnp.sin(image), grid, kernel=kernel)

    def with_gradient(image, grid):
        out, pull = jax.vjp(sampled, image, grid)
        return out, pull(out)

    for function in (sampled, with_gradient):
        compiled = jax.jit(function).lower(draw(2, 6, 7, channels), draw(2, 5, 4, 2)).compile()
        fusions = [part for part in compiled.as_text().split("\n}\n") if "ENTRY" not in part]
        assert any(" gather(" in part for part in fusions)
        assert not any(" gather(" in part and " sine(" in part for part in fusions)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_images_are_computed_in_float32(dtype, kernel):
    image, grid = jnp.asarray(draw(2, 6, 5, 3), dtype), draw_grid(2, 7, 7, 2)
    out = sample(image, grid, kernel=kernel)
    exact = sample(image.astype(jnp.float32), grid, kernel=kernel)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, exact.astype(dtype))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_gradients_are_accumulated_in_float32(dtype):
    count = 8192  # Added one by one, ones stall at 256 in bfloat16 and at 2048 in float16.
    image, grid = jnp.ones((1, 3, 3, 1), dtype), jnp.zeros((1, count, 1, 2))
    gradient = jax.grad(lambda u: sample(u, grid).astype(jnp.float32).sum())(image)
    assert gradient.dtype == dtype
    assert gradient[0, 1, 1, 0] == count


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_grids_are_raised_to_float32(dtype):
    image, grid = draw(1, 40, 40, 1), jnp.asarray(draw_grid(1, 5, 5, 2), dtype)
    np.testing.assert_array_equal(sample(image, grid), sample(image, grid.astype(jnp.float32)))
    assert jax.grad(lambda g: sample(image, g).sum())(grid).dtype == dtype


def test_float64():
    with jax.enable_x64(True):
        image, points = np.float64(draw(1, 4, 5, 2)), np.float64(draw_grid(1, 3, 3, 2)) * 3
        out = geometry.sample(image, oracles.normalised(points, (4, 5), True))
        assert out.dtype == np.float64
        expected = oracles.kernel_sum(image, points, [oracles.bilinear] * 2)
        np.testing.assert_allclose(out, expected, atol=1e-13)


@pytest.mark.parametrize("kernel", KERNELS)
def test_jit_eager_and_vmap_agree(kernel):
    images, grids = draw(3, 2, 5, 4, 2), draw_grid(3, 2, 4, 6, 2)
    function = functools.partial(geometry.sample, kernel=kernel)
    expected = np.stack([function(*pair) for pair in zip(images, grids, strict=True)])
    np.testing.assert_allclose(sample(images[0], grids[0], kernel=kernel), expected[0], atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(images, grids), expected, atol=1e-6)
    shared = jax.jit(jax.vmap(function, in_axes=(None, 0)))(images[0], grids)
    np.testing.assert_allclose(shared[0], expected[0], atol=1e-6)


def test_vmapped_gradients_are_those_of_the_single_calls():
    images, grids = draw(3, 2, 5, 4, 2), draw_grid(3, 2, 4, 6, 2)
    gradient = jax.jit(jax.grad(lambda u, g: jnp.sum(sample(u, g) ** 2), argnums=(0, 1)))
    together = jax.jit(jax.vmap(gradient))(images, grids)
    for i in range(3):
        for joint, alone in zip(together, gradient(images[i], grids[i]), strict=True):
            np.testing.assert_allclose(joint[i], alone, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_samples_and_channels_do_not_mix(kernel):
    image, grid = draw(3, 5, 4, 2), draw_grid(3, 4, 6, 2)
    joint = sample(image, grid, kernel=kernel)
    for b, c in np.ndindex(3, 2):
        alone = sample(image[b : b + 1, ..., c : c + 1], grid[b : b + 1], kernel=kernel)
        np.testing.assert_allclose(joint[b, ..., c], alone[0, ..., 0], atol=1e-6)


# Behaviour that the paper states in words.


def test_a_fixed_kernel_aliases_when_the_output_is_smaller():
    """Sect. 3.4: two taps a direction see a grating that averaging over the shrunk pixel would not.

    Stripes of period 6 are harmless at half size (the two taps are the average there), but come
    out stronger than their average at a quarter, and with full contrast and the wrong sign at an
    eighth of the size. Blur the image first, or shrink it in steps.
    """
    size = 192
    stripes = np.cos(2 * np.pi * np.arange(size) / 6, dtype=np.float32)
    image = np.broadcast_to(stripes, (8, size))[None, ..., None]
    errors = []
    for factor in (2, 4, 8):
        shape = (8 // factor, size // factor)
        grid = geometry.regular_grid(shape, align_corners=False)[None]
        averaged = image.reshape(1, shape[0], factor, shape[1], factor, 1).mean(axis=(2, 4))
        difference = sample(image, grid, align_corners=False) - averaged
        errors.append(float(np.sqrt(np.mean(difference**2) / np.mean(image**2))))
    np.testing.assert_allclose(errors, [0, 0.433, 1.083], atol=2e-3)


# Messages.


@pytest.mark.parametrize(
    ("image", "grid", "options", "error", "message"),
    [
        ((2, 4, 4), (2, 3, 3, 2), {}, ValueError, r"image must be \[B, H, W, C\].*\[2, 4, 4\]"),
        ((1,) * 6, (1,) * 5, {}, ValueError, r"\[B, D, H, W, C\].*\[1, 1, 1, 1, 1, 1\]"),
        ((2, 4, 4, 1), (2, 9, 2), {}, ValueError, r"must be \[B, h, w, 2\], got shape \[2, 9, 2\]"),
        ((2, 4, 4, 1), (2, 3, 3, 3), {}, ValueError, r"must be \[B, h, w, 2\].*\[2, 3, 3, 3\]"),
        ((2, 4, 4, 4, 1), (2, 3, 3, 2), {}, ValueError, r"\[B, d, h, w, 3\].*\[2, 3, 3, 2\]"),
        ((2, 4, 4, 1), (3, 3, 3, 2), {}, ValueError, r"same batch size, got 2 and 3"),
        ((1, 4, 4, 1), (3, 3, 3, 2), {}, ValueError, r"same batch size, got 1 and 3; repeat"),
        ((2, 0, 4, 1), (2, 3, 3, 2), {}, ValueError, r"at least one pixel.*\[2, 0, 4, 1\]"),
        ((2, 4, 4, 1), (2, 3, 3, 2), {"kernel": "cubic"}, ValueError, r"'cubic'.*bilinear, near"),
        ((2, 4, 4, 1), (2, 3, 3, 2), {"padding": "wrap"}, ValueError, r"'wrap'.*zeros, border"),
    ],
)
def test_bad_input_is_named(image, grid, options, error, message):
    with pytest.raises(error, match=message):
        geometry.sample(np.zeros(image, np.float32), np.zeros(grid, np.float32), **options)


@pytest.mark.parametrize(
    ("image_dtype", "grid_dtype", "message"),
    [
        (np.uint8, np.float32, "image must be floating point .*uint8"),
        (np.float32, np.int32, "grid must be floating point .*int32"),
        (np.complex64, np.float32, "image must be floating point .*complex64"),
    ],
)
def test_bad_dtypes_are_named(image_dtype, grid_dtype, message):
    with pytest.raises(TypeError, match=message):
        geometry.sample(np.zeros((1, 4, 4, 1), image_dtype), np.zeros((1, 3, 3, 2), grid_dtype))


@pytest.mark.parametrize(
    ("image", "grid"),
    [
        ("16, 448, 448, 3", "16, h, w, 2"),  # otherwise sampled in chunks
        ("2, 5, 6, c", "2, 3, 4, 2"),
        ("b, 5, 6, c", "b, h, w, 2"),
    ],
)
def test_exported_for_any_sizes(image, grid):
    scope = jax.export.SymbolicScope()
    shapes = [jax.export.symbolic_shape(shape, scope=scope) for shape in (image, grid)]
    like = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    exported = jax.export.export(jax.jit(sample))(*like)
    assert len(exported.out_avals[0].shape) == 4


def test_images_may_be_what_numpy_takes(monkeypatch):
    torch = pytest.importorskip("torch")
    image, grid = draw(2, 5, 4, 3), draw_grid(2, 3, 3, 2)
    expected = sample(image, grid)
    np.testing.assert_array_equal(sample(torch.from_numpy(image), grid), expected)
    np.testing.assert_array_equal(sample(image.tolist(), grid.tolist()), expected)
    with pytest.raises(TypeError, match="unexpected keyword argument 'kernl'"):
        sample(image, grid, kernl="nearest")
    monkeypatch.setitem(sampling.KERNELS, "bilinear", sampling.KERNELS["nearest"])
    np.testing.assert_array_equal(sample(image, grid), sample(image, grid, kernel="nearest"))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_where_the_grid_is_of_higher_precision(dtype, channels):
    with jax.enable_x64(True):
        image = jnp.asarray(draw(2, 5, 4, channels), dtype)
        grid = draw_grid(2, 3, 3, 2).astype(np.float64)
        total = lambda u, g: sample(u, g).astype(jnp.float32).sum()  # noqa: E731
        gradients = jax.grad(total, (0, 1))(image, grid)
        assert [g.dtype for g in gradients] == [dtype, jnp.float64]
        exact = jax.grad(total, (0, 1))(image.astype(jnp.float64), grid)
        for gradient, other in zip(gradients, exact, strict=True):
            np.testing.assert_allclose(gradient.astype(jnp.float64), other, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("channels", [3, 16])
def test_exported_for_batches_of_any_size(channels):
    image, grid = draw(5, 6, 7, channels), draw(5, 4, 3, 2)
    batch = jax.export.symbolic_shape("b")
    like = [jax.ShapeDtypeStruct((*batch, *x.shape[1:]), x.dtype) for x in (image, grid)]
    exported = jax.export.export(jax.jit(geometry.sample))(*like)
    for count in (1, 5):
        out = exported.call(image[:count], grid[:count])
        np.testing.assert_allclose(out, geometry.sample(image[:count], grid[:count]), atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_images_too_many_for_one_index_are_read_each_by_itself(monkeypatch, kernel):
    image, grid = draw(3, 6, 7, 2), draw(3, 4, 3, 2)
    expected = sample(image, grid, kernel=kernel)
    monkeypatch.setattr(sampling, "_MAX_INDEX", image.size - 1)
    reads = []
    read = sampling._read
    monkeypatch.setattr(sampling, "_read", lambda *a: reads.append(a[0].shape) or read(*a))
    jax.clear_caches()  # What was compiled above has one table.
    np.testing.assert_allclose(sample(image, grid, kernel=kernel), expected, atol=1e-6)
    jax.clear_caches()
    assert {len(shape) for shape in reads} == {1} and max(reads)[0] <= image[0].size


@pytest.mark.parametrize("kernel", KERNELS)
def test_pixels_that_floats_cannot_count(kernel):
    side = 4099  # More than 2^24 pixels: the last ones have no odd numbers as float32.
    image = np.zeros((1, side, side, 1), np.float32)
    image[0, -40:] = draw(40, side, 1)
    points = np.array([[(x, y) for x in range(2, 9) for y in range(side - 9, side - 1)]])
    grid = oracles.normalised(points[:, None], (side, side), True).astype(np.float32)
    out = sample(image, grid, kernel=kernel)
    np.testing.assert_array_equal(out[0, 0, :, 0], image[0, points[0, :, 1], points[0, :, 0], 0])


def test_an_image_too_large_for_an_index_is_refused():
    shape = (2, 2**15, 2**15, 3)
    like = [jax.ShapeDtypeStruct(s, np.float32) for s in (shape, (2, 4, 4, 2))]
    with pytest.raises(ValueError, match=r"2147483647 numbers, got shape \[2, 32768, 32768, 3\]"):
        jax.eval_shape(sample, *like)


@pytest.mark.parametrize("shape", [(0, 4, 5, 2), (0, 4, 5, 9), (0, 4, 5, 16), (2, 4, 5, 0)])
def test_nothing_is_sampled_to_nothing(shape):
    grid = jnp.zeros((shape[0], 3, 3, 2))
    assert geometry.sample(jnp.zeros(shape), grid).shape == (shape[0], 3, 3, shape[-1])
    gradients = jax.grad(lambda u, g: geometry.sample(u, g).sum(), (0, 1))(jnp.zeros(shape), grid)
    assert [gradient.shape for gradient in gradients] == [shape, grid.shape]

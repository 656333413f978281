"""What every family of transforms promises: a new row of the table is tested by being there."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from stn_jax import geometry
from stn_jax.geometry import TRANSFORMS, Transform

CONVENTIONS = (True, False)


def rotation_grid(theta, shape, *, align_corners):
    cos, sin, zero = jnp.cos(theta[:, 0]), jnp.sin(theta[:, 0]), jnp.zeros(len(theta))
    affine = jnp.stack([cos, sin, zero, -sin, cos, zero], axis=-1)
    return geometry.affine_grid(affine, shape, align_corners=align_corners)


# Beside the table: other sizes of the spline, and a transform of the user's own.
ROTATION = Transform("rotation", np.zeros(1, np.float32), rotation_grid)
ALL = {
    **TRANSFORMS,
    "tps of 9 points": geometry.thin_plate_spline(3),
    "triangles of 25 points": geometry.piecewise_affine(5),
    "attention of scale 1": geometry.fixed_attention(1),
    "user's rotation": ROTATION,
}
every_transform = pytest.mark.parametrize("transform", ALL.values(), ids=ALL)


def identity(transform, batch=2):
    return jnp.tile(transform.identity, (batch, 1))


def near_identity(transform, batch=2, seed=0):
    noise = np.random.default_rng(seed).normal(scale=0.05, size=(batch, transform.num_params))
    return identity(transform, batch) + noise


def size(transform, height, width):
    """An output's size, or that of three such layers."""
    return (3, height, width)[-transform.dims :]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@every_transform
@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("shape", [(5, 28), (224, 131)])
def test_identity_is_exact(transform, shape, align_corners):
    shape = size(transform, *shape)

    @jax.jit
    def warp(theta, image):
        grid = transform.grid(theta, shape, align_corners=align_corners)
        return grid, geometry.sample(image, grid, align_corners=align_corners)

    image = draw(1, *shape, 2)
    grid, out = warp(identity(transform, 1), image)
    regular = geometry.regular_grid(shape, align_corners=align_corners)
    np.testing.assert_array_equal(grid[0], regular)
    np.testing.assert_array_equal(out, image)


def test_rows_are_found_under_their_own_names():
    assert {name: row.name for name, row in TRANSFORMS.items()} == {
        name: name for name in TRANSFORMS
    }


@pytest.mark.parametrize(
    ("name", "count"),
    {"attention": 3, "affine": 6, "projective": 8, "tps": 32, "affine_3d": 12}.items(),
)
def test_parameter_counts_of_the_paper(name, count):
    assert TRANSFORMS[name].num_params == count


@every_transform
def test_table_rows_are_consistent(transform):
    assert transform.identity.shape == (transform.num_params,)
    assert transform.identity.dtype == np.float32
    assert transform.num_params > 0


@every_transform
def test_half_precision_is_raised_to_float32(transform):
    theta = near_identity(transform).astype(jnp.bfloat16)
    shape = size(transform, 5, 6)
    grid = transform.grid(theta, shape)
    assert grid.dtype == jnp.float32
    np.testing.assert_array_equal(grid, transform.grid(theta.astype(jnp.float32), shape))


@every_transform
def test_numeric_gradients_of_the_grid_at_and_near_the_identity(transform):
    with jax.enable_x64(True):
        starts = [identity(transform, 1), near_identity(transform, 2)]
        theta = jnp.asarray(np.concatenate(starts).astype(np.float64))
        shape = size(transform, 3, 4)
        generate = jax.jit(lambda theta: transform.grid(theta, shape, align_corners=False))
        assert generate(theta).dtype == jnp.float64
        check_grads(generate, (theta,), order=1, modes=["rev"])


@every_transform
def test_every_parameter_learns_from_the_identity(transform):
    shape = size(transform, 8, 8)
    image, weights = draw(2, *shape, 1), draw(2, *shape, 1, seed=1)

    @jax.jit
    @jax.grad
    def gradient(theta):
        return jnp.sum(weights * geometry.sample(image, transform.grid(theta, shape)))

    found = gradient(identity(transform))
    assert np.all(np.isfinite(found))
    assert np.all(found != 0)


@every_transform
def test_jit_eager_vmap_and_one_by_one_agree(transform):
    theta = near_identity(transform, 3)
    generate = functools.partial(transform.grid, shape=size(transform, 5, 6))
    eager = generate(theta)
    np.testing.assert_allclose(jax.jit(generate)(theta), eager, atol=1e-6)
    one_by_one = jax.jit(jax.vmap(generate))(theta[:, None])
    np.testing.assert_allclose(one_by_one[:, 0], eager, atol=1e-6)


def test_a_transform_of_the_users_own_warps_images():
    images, quarters = draw(3, 6, 6, 2), np.array([[1], [2], [3]])
    out = geometry.sample(images, ROTATION.grid(quarters * np.float32(np.pi / 2), (6, 6)))
    for turned, image, (quarter,) in zip(out, images, quarters, strict=True):
        np.testing.assert_allclose(turned, np.rot90(image, -quarter), atol=1e-5)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
def test_a_fixed_scale_is_attention_of_that_scale(align_corners):
    theta = draw(3, 2)
    fixed = geometry.fixed_attention(0.5)
    with_scale = np.concatenate([np.full((3, 1), 0.5, np.float32), theta], axis=1)
    options = {"shape": (5, 4), "align_corners": align_corners}
    expected = TRANSFORMS["attention"].grid(with_scale, **options)
    np.testing.assert_array_equal(fixed.grid(theta, **options), expected)
    affine = geometry.fixed_attention_to_affine(theta, scale=0.5)
    np.testing.assert_array_equal(affine, geometry.attention_to_affine(with_scale))


# Messages.


@pytest.mark.parametrize("scale", [0, -0.5, np.inf, np.nan])
def test_scales_that_crop_nothing_are_refused(scale):
    with pytest.raises(ValueError, match="the scale of a crop is a positive number, got"):
        geometry.fixed_attention(scale)


@every_transform
@pytest.mark.parametrize("shape", [(1,), (2, -1), (2, +1), (1, 2, 0)])
def test_bad_theta_is_named(transform, shape):
    *leading, extra = shape
    shape = (*leading, transform.num_params + extra)
    message = rf"theta of transform '{transform.name}' must be \[B, {transform.num_params}\], got"
    with pytest.raises(ValueError, match=message):
        transform.grid(np.zeros(shape, np.float32), (4, 4))


@every_transform
def test_bad_output_shapes_are_named(transform):
    axes = {2: r"\(H, W\)", 3: r"\(D, H, W\)"}[transform.dims]
    message = rf"output shape of transform '{transform.name}' must be {axes} of .*, got \(4,"
    for shape in [(4,), (4,) * (5 - transform.dims), (4,) * 4]:
        with pytest.raises(ValueError, match=message):
            transform.grid(identity(transform), shape)


@every_transform
def test_whole_numbers_are_refused(transform):
    theta = np.zeros((1, transform.num_params), np.int32)
    with pytest.raises(TypeError, match=".* must be floating point, got int32"):
        transform.grid(theta, (4, 4))


def test_transforms_are_found_by_name_or_passed_through():
    for name, transform in TRANSFORMS.items():
        assert geometry.get_transform(name) is transform
    assert geometry.get_transform(ROTATION) is ROTATION
    names = ", ".join(TRANSFORMS)
    with pytest.raises(ValueError, match=f"unknown transform 'afine'; there are {names}"):
        geometry.get_transform("afine")


def test_rows_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TRANSFORMS["affine"].name = "other"


@every_transform
def test_identity_is_exact_in_float64(transform):
    """With the slope to the right at every pixel, as in float32."""
    shape = size(transform, 9, 28)
    with jax.enable_x64(True):
        image = jnp.asarray(draw(1, *shape, 1), jnp.float64)
        theta = jnp.asarray(transform.identity, jnp.float64)[None]
        grid = transform.grid(theta, shape)
        assert grid.dtype == jnp.float64
        np.testing.assert_array_equal(geometry.sample(image, grid), image)
        slope = jax.grad(lambda g: geometry.sample(image, g, padding="border").sum())(grid)[..., 0]
    x = np.asarray(image)[..., 0]
    right = np.concatenate([np.diff(x, axis=-1), np.zeros_like(x[..., :1])], axis=-1)
    np.testing.assert_allclose(slope, right * (28 - 1) / 2, atol=1e-9)


# Function -> parameters of a sample, what else it is called with, and its identity.
GRIDS = {
    geometry.affine_grid: ([1, 0, 0, 0, 1, 0], {}),
    geometry.attention_grid: ([1, 0, 0], {}),
    geometry.fixed_attention_grid: ([0, 0], {"scale": 1.0}),
    geometry.projective_grid: ([1, 0, 0, 0, 1, 0, 0, 0], {}),
    geometry.tps_grid: ([-1, 1, -1, 1, -1, -1, 1, 1], {"n": 2}),
    geometry.piecewise_affine_grid: ([-1, 1, -1, 1, -1, -1, 1, 1], {"n": 2}),
    geometry.similarity_grid: ([0, 1, 0, 0], {}),
}
every_grid = pytest.mark.parametrize(
    ("generate", "theta", "options"),
    [(generate, theta, options) for generate, (theta, options) in GRIDS.items()],
    ids=[generate.__name__ for generate in GRIDS],
)


@every_grid
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_grid_functions_alone_are_as_exact(generate, theta, options, dtype):
    with jax.numpy_dtype_promotion("strict"):
        grid = generate(jnp.asarray([theta], dtype), (224, 131), **options)
        image = jnp.asarray(draw(1, 224, 131, 1), dtype)
        out = geometry.sample(image, grid)
    np.testing.assert_array_equal(grid[0], geometry.regular_grid((224, 131)))
    np.testing.assert_array_equal(out.astype(jnp.float32), image.astype(jnp.float32))


@every_grid
def test_grid_functions_alone_refuse_what_is_not_theta(generate, theta, options):
    with pytest.raises(TypeError, match="theta.* must be floating point, got int32"):
        generate(jnp.asarray([theta]), (4, 4), **options)
    wide = jnp.zeros((1, len(theta) + 1))
    for wrong in (wide, jnp.zeros((2, 3, len(theta)))):
        with pytest.raises(ValueError, match=r"theta.* must be \[.*\], got \["):
            generate(wrong, (4, 4), **options)
    for shape in ((4,), 4, (4, 0), (4, 2.5)):
        with pytest.raises(ValueError, match="shape must be .* of positive integers, got"):
            generate(jnp.asarray([theta], jnp.float32), shape, **options)


def test_equal_families_are_one_object():
    """What is compiled for one model serves the next."""
    for make in (geometry.thin_plate_spline, geometry.piecewise_affine, geometry.fixed_attention):
        assert make(3) is make(3) is not make(4)
    limited = functools.partial(geometry.restricted, "rotation", "scale", max_angle=1.0)
    assert limited() is limited() is not limited(max_scale=2.0)


@every_transform
def test_the_identity_of_a_family_cannot_be_written_to(transform):
    with pytest.raises(ValueError, match="read-only"):
        transform.identity[0] = 2


def test_what_is_no_family_is_named():
    assert Transform("mine", [1.0, 0], rotation_grid).num_params == 2
    with pytest.raises(ValueError, match="2 or 3 dimensions, got dims=4"):
        Transform("mine", np.zeros(1), rotation_grid, dims=4)
    with pytest.raises(ValueError, match=r"must be \[P\], got \[2, 3\]"):
        Transform("mine", np.zeros((2, 3)), rotation_grid)

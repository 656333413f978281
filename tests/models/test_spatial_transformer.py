"""The module (M1 to M7), and the places in a network where it can stand (N1, N3, N5)."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from stn_jax import geometry
from stn_jax.geometry import TRANSFORMS, Transform, thin_plate_spline
from stn_jax.models.layers import Conv, Dense, avg_pool, flatten, max_pool
from stn_jax.models.localisation import ConvLocalisation, DenseLocalisation
from stn_jax.models.pure import functional
from stn_jax.models.spatial_transformer import ParallelTransformers, SpatialTransformer

# Of images; tests/models/test_mnist_3d.py has volumes.
FAMILIES = [name for name, transform in TRANSFORMS.items() if transform.dims == 2]
LOCALISATIONS = {"dense": DenseLocalisation, "conv": ConvLocalisation}
every_localisation = pytest.mark.parametrize("kind", LOCALISATIONS)
every_transform_and_localisation = pytest.mark.parametrize(
    ("name", "kind"), [*((name, "dense") for name in FAMILIES), ("affine", "conv")]
)


pytestmark = pytest.mark.usefixtures("numpy_weights")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def st_model(input_shape, transform="affine", output_shape=None, *, kind="dense", **options):
    def build(rngs):
        localisation = LOCALISATIONS[kind](input_shape, rngs=rngs)
        return SpatialTransformer(localisation, transform, output_shape, rngs=rngs, **options)

    return functional(build)


def trained(params, scale=0.02, seed=1):
    """Return parameters whose regression layer is no longer zero: theta depends on the input."""
    kernel = params["regression"]["kernel"]
    moved = scale * draw(*kernel.shape, seed=seed)
    return {**params, "regression": {**params["regression"], "kernel": moved}}


def sample(x, transform, theta, shape, *, align_corners=True, **options):
    """Return what grid generator and sampler give, composed by hand."""

    def compose(x, theta):
        grid = transform.grid(theta, shape, align_corners=align_corners)
        return geometry.sample(x, grid, align_corners=align_corners, **options)

    return jax.jit(compose)(x, theta)


def run(model, params, x):
    (warped, theta), state = jax.jit(model.apply)(params, {}, x)
    assert state == {}
    return warped, theta


# M5: before training, theta is the identity and the output is the input, bit for bit.


class EveryTransform(nnx.Module):
    """One transformer a family, around the same localisation network."""

    def __init__(self, localisation, *, rngs):
        self.transformers = nnx.Dict(
            {name: SpatialTransformer(localisation, name, rngs=rngs) for name in FAMILIES}
        )

    def __call__(self, x):
        return {name: transformer(x) for name, transformer in self.transformers.items()}


@every_localisation
@pytest.mark.parametrize("shape", [(28, 28, 1), (42, 42, 3), (60, 60, 1)])
def test_starts_as_the_identity_bit_for_bit(kind, shape):
    rngs = nnx.Rngs(5)
    module = EveryTransform(LOCALISATIONS[kind](shape, rngs=rngs), rngs=rngs)
    x = 10 * draw(3, *shape)
    outputs = nnx.jit(lambda module, x: module(x))(module, x)
    assert outputs.keys() == set(FAMILIES)
    for name, (warped, theta) in outputs.items():
        transform = TRANSFORMS[name]
        assert theta.shape == (3, transform.num_params) and theta.dtype == jnp.float32
        np.testing.assert_array_equal(theta, np.tile(transform.identity, (3, 1)))
        np.testing.assert_array_equal(warped, x)
        transformer = module.transformers[name]
        weights = np.asarray(transformer.regression.kernel[...])
        assert weights.shape == (transformer.localisation.num_features, transform.num_params)
        assert not weights.any()


# M1 to M4: what the module computes.


@every_transform_and_localisation
def test_is_localisation_then_grid_then_sampler(name, kind):
    """M1, M2: with options and an output size, to see that each part gets them."""
    options = {"padding": "border", "align_corners": False}
    model = st_model((26, 27, 2), name, (9, 14), kind=kind, **options)
    x = draw(3, 26, 27, 2)
    params = trained(model.init(jax.random.key(0))[0], scale=0.1)
    warped, theta = run(model, params, x)

    locate = functional(lambda rngs: LOCALISATIONS[kind]((26, 27, 2), rngs=rngs))
    features, _ = jax.jit(locate.apply)(params["localisation"], {}, x)
    transform = TRANSFORMS[name]
    weights = np.asarray(params["regression"]["kernel"])
    expected = np.asarray(features) @ weights + transform.identity
    assert expected.shape == (3, transform.num_params)
    np.testing.assert_allclose(theta, expected, rtol=1e-4, atol=1e-5)
    assert np.std(expected, axis=0).min() > 1e-3  # one theta a sample, driven by it
    expected = sample(x, transform, theta, (9, 14), **options)
    np.testing.assert_allclose(warped, expected, rtol=1e-4, atol=1e-4)


def test_nearest_kernel_is_passed_on():
    model = st_model((8, 8, 1), kernel="nearest")
    params = trained(model.init(jax.random.key(0))[0])
    x = draw(2, 8, 8, 1)
    warped, theta = run(model, params, x)
    nearest, bilinear = (
        sample(x, TRANSFORMS["affine"], theta, (8, 8), kernel=kernel)
        for kernel in ("nearest", "bilinear")
    )
    np.testing.assert_array_equal(warped, nearest)
    assert np.abs(warped - bilinear).max() > 0.1


def test_warps_every_sample_alone_and_every_channel_alike():
    """M3."""
    model = st_model((12, 11, 3), "tps")
    params = trained(model.init(jax.random.key(0))[0])
    x = draw(4, 12, 11, 3)
    warped, theta = run(model, params, x)
    assert warped.shape == x.shape
    for i in range(4):
        alone, theta_alone = run(model, params, x[i : i + 1])
        np.testing.assert_allclose(theta_alone[0], theta[i], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(alone[0], warped[i], rtol=1e-4, atol=1e-4)
    for channel in range(3):
        single = sample(x[..., channel : channel + 1], TRANSFORMS["tps"], theta, (12, 11))
        np.testing.assert_allclose(warped[..., channel : channel + 1], single, atol=1e-5)


@pytest.mark.parametrize("output_shape", [(4, 6), (15, 30), (8, 1), [5, 5]])
def test_output_size_is_free(output_shape):
    """M4: at the start the output is the input, read at as many regular points as wanted."""
    model = st_model((8, 10, 2), output_shape=output_shape)
    row, col = np.mgrid[:8, :10]
    ramp = np.stack([row, 2.0 * col], axis=-1)[None].astype(np.float32)
    warped, _ = run(model, model.init(jax.random.key(0))[0], ramp)
    rows, cols = output_shape
    assert warped.shape == (1, rows, cols, 2)
    middle = 4.5  # a single row or column reads the centre
    expected_cols = np.linspace(0, 9, cols) if cols > 1 else np.array([middle])
    np.testing.assert_allclose(
        warped[0, ..., 0], np.tile(np.linspace(0, 7, rows)[:, None], cols), atol=1e-5
    )
    np.testing.assert_allclose(warped[0, ..., 1], np.tile(2 * expected_cols, (rows, 1)), atol=1e-5)


# M6, M7: gradients.


@every_transform_and_localisation
def test_gradients_reach_everything_once_the_regression_is_not_zero(name, kind):
    model = st_model((26, 26, 1), name, kind=kind)
    start = model.init(jax.random.key(0))[0]
    x, cotangent = draw(4, 26, 26, 1), draw(4, 26, 26, 1, seed=1)

    @jax.jit
    def gradients(params):
        def loss(params, x):
            return jnp.sum(model.apply(params, {}, x)[0][0] * cotangent)

        return jax.grad(loss, (0, 1))(params, x)

    params_grad, image_grad = gradients(trained(start))
    for path, gradient in jax.tree.leaves_with_path((params_grad, image_grad)):
        assert np.isfinite(gradient).all() and np.any(gradient), path

    # At the start the localiser has no influence yet; its regression layer and the image do.
    params_grad, image_grad = gradients(start)
    assert not any(np.any(g) for g in jax.tree.leaves(params_grad["localisation"]))
    regression = jax.tree.leaves(params_grad["regression"])
    assert all(np.isfinite(g).all() and np.any(g) for g in [*regression, image_grad])


class Mean(nnx.Module):
    """A localisation network of a user's own, smooth: the channels' tempered means."""

    def __init__(self, channels, num_features, *, rngs):
        self.num_features = num_features
        self.layer = Dense(channels, num_features, rngs=rngs)

    def __call__(self, x):
        return jnp.tanh(self.layer(jnp.mean(x, axis=(1, 2))))


@pytest.mark.parametrize("name", ["affine", "tps"])
def test_gradients_are_the_numeric_ones(name):
    """Off the kinks: bilinear interpolation of a ramp is smooth, while points stay inside."""

    def build(rngs):
        return SpatialTransformer(Mean(2, 3, rngs=rngs), name, (4, 3), rngs=rngs)

    model = functional(build)
    transform = TRANSFORMS[name]
    params = trained(model.init(jax.random.key(0))[0], scale=0.05)
    params["regression"]["bias"] = jnp.asarray(0.5 * transform.identity)
    params["localisation"]["layer"]["bias"] = jnp.asarray([0.3, -0.2, 0.1])
    row, col = np.mgrid[:9, :8] / 8
    x = np.stack([row + 0.5 * col, row * 0.3 - col], axis=-1)[None].astype(np.float32)

    @jax.jit
    def outputs(params, x):
        return model.apply(params, {}, x)[0]

    grid = jax.jit(lambda theta: transform.grid(theta, (4, 3)))(outputs(params, x)[1])
    assert np.abs(grid).max() < 0.8
    check_grads(outputs, (params, x), 1, ["rev"], atol=5e-3, rtol=5e-3, eps=1e-3)


def test_poses_are_learnt_from_labels_alone():
    """M7: bars left or right of the centre are told apart by the one pixel that the head sees."""

    def build(rngs):
        localisation = DenseLocalisation((9, 9, 1), units=(8,), rngs=rngs)
        return SpatialTransformer(localisation, "attention", rngs=rngs)

    model = functional(build)
    col = np.arange(9)[None, None, :, None]
    centres = np.array([2.0, 2.5, 3.0, 5.0, 5.5, 6.0])[:, None, None, None]
    bars = np.tile(np.exp(-((col - centres) ** 2) / 8), (1, 9, 1, 1)).astype(np.float32)
    labels = (centres.ravel() > 4).astype(np.float32)

    def loss(params):
        logit = 10 * (model.apply(params, {}, bars)[0][0][:, 4, 4, 0] - 0.5)
        return jnp.mean(jnp.logaddexp(0, logit) - labels * logit)

    @jax.jit
    def train(params):
        def step(params, _):
            value, grads = jax.value_and_grad(loss)(params)
            return jax.tree.map(lambda p, g: p - 0.02 * g, params, grads), value

        return jax.lax.scan(step, params, length=300)

    params, losses = train(model.init(jax.random.key(0))[0])
    assert losses[-1] < 0.5 * losses[0]
    warped, theta = run(model, params, bars)
    right = labels == 1
    # Bars on the right end up nearer to the centre than bars on the left.
    assert warped[right, 4, 4, 0].min() > warped[~right, 4, 4, 0].max()
    assert np.std(theta[:, 1]) > 0.05


# N1, N3, N5: where transformers can stand.


class Deep(nnx.Module):
    """Transformers before and after convolutions, before and after pooling."""

    def __init__(self, *, rngs):
        def transformer(*shape):
            localisation = DenseLocalisation(shape, units=(8, 8), rngs=rngs)
            return SpatialTransformer(localisation, rngs=rngs)

        self.on_input = transformer(13, 12, 2)
        self.conv1 = Conv(2, 3, 2, rngs=rngs)
        self.before_pooling = transformer(12, 11, 3)
        self.after_pooling = transformer(6, 6, 3)
        self.conv2 = Conv(3, 4, 2, rngs=rngs)
        self.after_convolution = transformer(5, 5, 4)
        self.classifier = Dense(3 * 3 * 4, 5, rngs=rngs)

    def __call__(self, x):
        thetas = {}
        x, thetas["on input"] = self.on_input(x)
        x, thetas["before pooling"] = self.before_pooling(jax.nn.relu(self.conv1(x)))
        x, thetas["after pooling"] = self.after_pooling(max_pool(x))
        x, thetas["after convolution"] = self.after_convolution(self.conv2(x))
        return self.classifier(flatten(max_pool(jax.nn.relu(x)))), thetas


class Parallel(nnx.Module):
    """Two transformers on one input; their outputs are concatenated, as addition does (A.1)."""

    def __init__(self, *, rngs):
        first, second = (DenseLocalisation((12, 12, 2), rngs=rngs) for _ in range(2))
        self.first = SpatialTransformer(first, "affine", (6, 6), rngs=rngs)
        self.second = SpatialTransformer(second, "tps", (6, 6), rngs=rngs)
        self.classifier = Dense(6 * 6 * 4, 5, rngs=rngs)

    def __call__(self, x):
        warped, thetas = zip(self.first(x), self.second(x), strict=True)
        x = jnp.concatenate(warped, axis=-1)
        return self.classifier(flatten(x)), {"first": thetas[0], "second": thetas[1]}


class ThetaFed(nnx.Module):
    """Theta is fed forward to the classifier, beside the warped input."""

    def __init__(self, *, rngs):
        localisation = DenseLocalisation((12, 12, 2), rngs=rngs)
        self.transformer = SpatialTransformer(localisation, rngs=rngs)
        self.classifier = Dense(6 * 6 * 2 + 6, 5, rngs=rngs)

    def __call__(self, x):
        warped, theta = self.transformer(x)
        features = jnp.concatenate([flatten(avg_pool(warped)), theta], axis=-1)
        return self.classifier(features), {"transformer": theta}


NETS = {
    "at four places in depth": (lambda rngs: Deep(rngs=rngs), (13, 12, 2)),
    "in parallel": (lambda rngs: Parallel(rngs=rngs), (12, 12, 2)),
    "theta fed forward": (lambda rngs: ThetaFed(rngs=rngs), (12, 12, 2)),
}


@pytest.mark.parametrize(("build", "shape"), NETS.values(), ids=NETS)
def test_stands_anywhere(build, shape):
    model = functional(build)
    params, state = jax.jit(model.init)(jax.random.key(0))
    assert state == {}
    regressions = 0

    def move(path, leaf):
        nonlocal regressions
        is_weight = [p.key for p in path[-2:]] == ["regression", "kernel"]
        regressions += is_weight
        return 0.02 * draw(*leaf.shape, seed=regressions) if is_weight else leaf

    params = jax.tree.map_with_path(move, params)
    x, labels = draw(4, *shape), np.arange(4) % 3

    @jax.jit
    def evaluate(params, x):
        def loss(params, x):
            (logits, thetas), _ = model.apply(params, {}, x)
            picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)
            return -jnp.mean(picked), (logits, thetas)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

    (_, (logits, thetas)), gradients = evaluate(params, x)
    assert logits.shape == (4, 5) and np.isfinite(logits).all()
    assert len(thetas) == regressions > 0
    for theta in thetas.values():
        assert np.isfinite(theta).all() and np.std(theta, axis=0).min() > 1e-4
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(gradient).all() and np.any(gradient), path


def test_parallel_transformers_look_at_their_own_places():
    """N3: two crops of one input, which one transformer cannot give."""
    model = functional(lambda rngs: Parallel(rngs=rngs))
    params = model.init(jax.random.key(0))[0]
    params["first"]["regression"]["bias"] = jnp.array([0.4, 0, -0.6, 0, 0.4, -0.6])
    # Two logits: the mean of what the first and of what the second transformer reads.
    means = np.kron(np.eye(2), np.ones((2, 1))) / 72
    params["classifier"] = {"kernel": jnp.tile(means, (36, 1)), "bias": jnp.zeros(2)}
    x = np.zeros((1, 12, 12, 2), np.float32)
    x[:, :6, :6] = 1  # all that the first one sees, and a quarter of what the second one sees
    logits, thetas = run(model, params, x)
    np.testing.assert_allclose(logits, [[1, 0.25]], atol=1e-6)
    assert thetas["first"].shape == (1, 6) and thetas["second"].shape == (1, 32)


# What users bring along.


def test_transform_of_a_users_own():
    def flip_and_shift(theta, shape, *, align_corners):
        grid = jnp.asarray(geometry.regular_grid(shape, align_corners=align_corners))
        return jnp.stack(
            [-grid[None, ..., 0] + theta[:, :1, None], grid[None, ..., 1] + 0 * theta[:, :1, None]],
            axis=-1,
        )

    own = Transform("flip", np.zeros(1, np.float32), flip_and_shift)
    model = st_model((6, 7, 1), own)
    params = model.init(jax.random.key(0))[0]
    assert params["regression"]["kernel"].shape == (32, 1)
    x = draw(2, 6, 7, 1)
    warped, theta = run(model, params, x)
    np.testing.assert_array_equal(theta, np.zeros((2, 1)))
    np.testing.assert_array_equal(warped, x[:, :, ::-1])


def test_spline_of_another_size():
    model = st_model((8, 8, 1), thin_plate_spline(3))
    params = model.init(jax.random.key(0))[0]
    assert params["regression"]["bias"].shape == (18,)
    x = draw(2, 8, 8, 1)
    np.testing.assert_array_equal(run(model, params, x)[0], x)


@pytest.mark.parametrize("localisation", [lambda rngs: Mean(3, 4, rngs=rngs)], ids=["users' own"])
def test_localisation_of_a_users_own(localisation):
    model = functional(lambda rngs: SpatialTransformer(localisation(rngs), rngs=rngs))
    params = model.init(jax.random.key(0))[0]
    assert params["regression"]["kernel"].shape == (4, 6)
    x = draw(2, 9, 9, 3)
    np.testing.assert_array_equal(run(model, params, x)[0], x)


def test_localisation_can_be_a_function_with_an_attribute():
    def brightness(x):
        return jnp.mean(x, axis=(1, 2))

    brightness.num_features = 3
    transformer = SpatialTransformer(brightness, rngs=nnx.Rngs(0))
    x = draw(2, 5, 5, 3)
    np.testing.assert_array_equal(jax.jit(lambda x: transformer(x)[0])(x), x)


def test_missing_num_features_is_an_error():
    with pytest.raises(TypeError, match="Linear needs an attribute num_features"):
        SpatialTransformer(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("shape", [(3, 4, 5), (), (0, 4), (4, -1), 14, (2.5, 4)])
def test_an_impossible_output_shape_is_an_error(shape):
    localisation = DenseLocalisation((4, 4, 1), rngs=nnx.Rngs(0))
    message = r"output_shape of transform 'affine' must be \(H, W\) of positive integers, got "
    with pytest.raises(ValueError, match=message + re.escape(str(shape))):
        SpatialTransformer(localisation, "affine", shape, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("options", [{"padding": "zero"}, {"kernel": "cubic"}])
def test_unknown_ways_to_sample_are_an_error_before_any_call(options):
    localisation = DenseLocalisation((4, 4, 1), rngs=nnx.Rngs(0))
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"unknown {name} {value!r}; there are"):
        SpatialTransformer(localisation, **options, rngs=nnx.Rngs(0))


def test_transformers_that_cannot_stand_side_by_side():
    rngs = nnx.Rngs(0)

    def transformer(*options):
        return SpatialTransformer(DenseLocalisation((4, 4, 1), rngs=rngs), *options, rngs=rngs)

    with pytest.raises(ValueError, match="one transformer at least"):
        ParallelTransformers([])
    with pytest.raises(ValueError, match=r"equal numbers of parameters, got \[6, 8\]"):
        ParallelTransformers([transformer(), transformer("projective")])
    with pytest.raises(ValueError, match=r"equal output shapes, got \[None, \(2, 2\)\]"):
        ParallelTransformers([transformer(), transformer("affine", (2, 2))])


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_an_empty_batch_is_warped_to_one(kind):
    model = st_model((28, 28, 1), output_shape=(5, 6), kind=kind)
    params = jax.eval_shape(model.init, jax.random.key(0))[0]
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), params)
    warped, theta = run(model, params, jnp.zeros((0, 28, 28, 1)))
    assert warped.shape == (0, 5, 6, 1) and theta.shape == (0, 6)


def test_unknown_transform_is_an_error():
    localisation = DenseLocalisation((4, 4, 1), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="unknown transform 'affin'; there are attention, affine"):
        SpatialTransformer(localisation, "affin", rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("dtype", "kind"), [(jnp.bfloat16, "conv"), (jnp.bfloat16, "dense"), (jnp.float16, "dense")]
)
def test_half_precision_input_keeps_its_dtype_and_theta_is_float32(dtype, kind):
    model = st_model((28, 28, 1), kind=kind)
    start = model.init(jax.random.key(0))[0]
    x = jnp.asarray(draw(2, 28, 28, 1), dtype)
    warped, theta = run(model, start, x)
    assert warped.dtype == dtype and theta.dtype == jnp.float32
    np.testing.assert_array_equal(warped, x)
    warped, theta = run(model, trained(start), x)
    assert warped.dtype == dtype and theta.dtype == jnp.float32
    _, exact = run(model, trained(start), x.astype(jnp.float32))
    # The convolutional localiser's average pooling rounds to the input's precision.
    np.testing.assert_allclose(theta, exact, rtol=1e-3, atol=1e-3)
    x = x.astype(jnp.float32)
    sampled = sample(x, TRANSFORMS["affine"], theta, (28, 28))
    np.testing.assert_allclose(warped.astype(jnp.float32), sampled, rtol=0.01, atol=0.01)

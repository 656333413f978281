"""Transformers on volumes, and the networks of 3-D MNIST (V2, V3, V5)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stn_jax import geometry
from stn_jax.launch.cli import load_config_module
from stn_jax.launch.mnist_3d import make_model
from stn_jax.models.localisation import DenseLocalisation
from stn_jax.models.mnist import CNN
from stn_jax.models.mnist_3d import ProjectionLocalisation, mnist_3d_model, project
from stn_jax.models.pure import count_params, functional
from stn_jax.models.spatial_transformer import SpatialTransformer

CONFIGS = load_config_module(Path(__file__).parents[2] / "configs" / "mnist_3d.py")
SHAPE = (26, 26, 26, 1)
ST_CNN = {"transform": "affine_3d", "output_shape": (5, 21, 22), "num_params": 50_000}


pytestmark = pytest.mark.usefixtures("numpy_weights")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def params_of(model, scale=0.0):
    """Return first parameters, the regression layer's weights moved by a scale."""
    params, state = model.init(jax.random.key(0))
    assert state == {}
    kernel = params["transformer"]["regression"]["kernel"]
    params["transformer"]["regression"]["kernel"] = scale * draw(*kernel.shape)
    return params


@pytest.mark.parametrize("recipe", ["fast", "quickstart"])
def test_both_networks_have_one_size(recipe):
    """V5: within 5% of what is asked for, and of each other."""
    counts = []
    for selection in CONFIGS.sweep(f"{recipe},seed0"):
        config = CONFIGS.get_config(selection)
        params, _ = jax.eval_shape(make_model(config).init, jax.random.key(0))
        counts.append(count_params(params))
        assert counts[-1] == pytest.approx(config.model.num_params, rel=0.05)
    assert len(counts) == 2


def test_the_projection_is_the_sum_over_depth():
    volume = draw(2, 3, 4, 5, 2)
    expected = np.zeros((2, 4, 5, 2))
    for l in range(3):  # noqa: E741
        for n in range(4):
            for m in range(5):
                expected[:, n, m] += volume[:, l, n, m]
    np.testing.assert_allclose(project(volume), expected, atol=1e-5)


def test_flattening_makes_the_next_layer_cheaper_by_the_depth():
    """V3: against a classifier to which the slices of the same volume are channels."""
    depth, width = 15, 8

    def flops(channels):
        classifier = functional(lambda rngs: CNN((24, 24, channels), width=width, rngs=rngs))
        params, state = jax.eval_shape(classifier.init, jax.random.key(0))
        x = jax.ShapeDtypeStruct((4, depth, 24, 24, 1), jnp.float32)

        def classify(params, x):
            x = project(x) if channels == 1 else jnp.moveaxis(x[..., 0], 1, -1)
            return classifier.apply(params, state, x)[0]

        cost = jax.jit(classify).lower(params, x).compile().cost_analysis()
        return cost["flops"]

    # Multiplications and additions of the first convolution; the blocks that it is computed in on
    # CPUs are larger than what they are needed for (`models.conv`).
    first = 2 * 4 * 16 * 16 * 81 * width
    saved = flops(depth) - flops(1)
    assert 0.9 * (depth - 1) * first < saved < 1.6 * (depth - 1) * first


# A transformer on volumes.


def test_starts_as_the_identity_bit_for_bit_in_volumes():
    def build(rngs):
        localisation = DenseLocalisation((5, 6, 7, 2), units=(8,), rngs=rngs)
        return SpatialTransformer(localisation, "affine_3d", rngs=rngs)

    model = functional(build)
    x = 10 * draw(3, 5, 6, 7, 2)
    (warped, theta), _ = model.apply(model.init(jax.random.key(0))[0], {}, x)
    np.testing.assert_array_equal(warped, x)
    np.testing.assert_array_equal(theta, np.tile(np.eye(3, 4).ravel(), (3, 1)))


def test_images_are_refused_by_a_transformer_of_volumes():
    localisation = DenseLocalisation((6, 7, 2), units=(8,), rngs=nnx.Rngs(0))
    transformer = SpatialTransformer(localisation, "affine_3d", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"must be \(D, H, W\) .* got \(6, 7\)"):
        transformer(jnp.zeros((1, 6, 7, 2)))


def test_is_transformer_then_sum_then_classifier():
    model = functional(mnist_3d_model("st_cnn", SHAPE, **ST_CNN))
    params = params_of(model, 0.1)
    x = np.abs(draw(3, *SHAPE))
    (logits, extra), _ = jax.jit(model.apply)(params, {}, x)
    assert extra["theta"].shape == (3, 12) and np.std(extra["theta"], axis=0).min() > 1e-4

    @jax.jit
    def expected(theta):
        warped = geometry.sample(x, geometry.affine_grid(theta, (5, 21, 22)))
        width = params["classifier"]["conv1"]["bias"].size
        classifier = functional(lambda rngs: CNN((21, 22, 1), width=width, rngs=rngs))
        return warped, classifier.apply(params["classifier"], {}, warped.sum(axis=1))[0]

    for found, expected_ in zip((extra["warped"], logits), expected(extra["theta"]), strict=True):
        np.testing.assert_allclose(found, expected_, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("size", "downsample"), [(42, True), (21, False)])
def test_the_baseline_classifies_the_sum_of_its_input(size, downsample):
    build = mnist_3d_model("cnn", (size,) * 3 + (1,), downsample=downsample, num_params=20_000)
    model = functional(build)
    params, state = model.init(jax.random.key(0))
    x = draw(2, size, size, size, 1)
    (logits, extra), _ = jax.jit(model.apply)(params, state, x)
    assert extra == {}
    pooled = x.sum(axis=1).reshape(2, 21, size // 21, 21, size // 21, 1).mean(axis=(2, 4))
    width = params["classifier"]["conv1"]["bias"].size
    classifier = functional(lambda rngs: CNN((21, 21, 1), width=width, rngs=rngs))
    expected = jax.jit(classifier.apply)(params["classifier"], {}, pooled)[0]
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)


def test_labels_alone_reach_every_parameter():
    model = functional(mnist_3d_model("st_cnn", SHAPE, **ST_CNN))
    x, label = np.abs(draw(2, *SHAPE)), np.array([3, 7])

    @jax.jit
    @jax.grad
    def gradient(params):
        (logits, _), _ = model.apply(params, {}, x, train=True)
        return -jnp.sum(jax.nn.log_softmax(logits)[np.arange(2), label])

    for path, leaf in jax.tree.leaves_with_path(gradient(params_of(model, 0.1))):
        assert np.isfinite(leaf).all() and np.any(leaf), path


def test_the_localisation_network_sees_three_views():
    """A bright voxel at (z, y, x) is at (y, x), (z, x) and (z, y) of the three channels."""
    localisation = ProjectionLocalisation(SHAPE, rngs=nnx.Rngs(0))
    network = localisation.image_network
    volume = np.zeros((1, *SHAPE), np.float32)
    volume[0, 3, 5, 8] = 26
    expected = np.zeros((1, 26, 26, 3), np.float32)
    expected[0, 5, 8, 0] = expected[0, 3, 8, 1] = expected[0, 3, 5, 2] = 1
    call = nnx.jit(lambda module, x: module(x))
    np.testing.assert_allclose(call(localisation, volume), call(network, expected), atol=1e-5)


@pytest.mark.parametrize("shape", [(26, 26, 1), (26, 27, 26, 1)])
def test_other_shapes_than_cubes_are_refused(shape):
    with pytest.raises(ValueError, match=r"needs cubes \(N, N, N, C\), got \(26,"):
        ProjectionLocalisation(shape, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fcn", {}, "unknown model 'fcn'; there are st_cnn, cnn"),
        (
            "cnn",
            {"transform": "affine_3d"},
            "'cnn' takes no transform and .* got .*affine_3d",
        ),
        ("cnn", {"output_shape": (5, 21, 21)}, r"'cnn' takes no .* got .*\(5, 21, 21\)"),
        ("st_cnn", {"transform": "affine_3d"}, "'st_cnn' needs transform and output_shape.*None"),
        ("st_cnn", {"output_shape": (5, 21, 21)}, "'st_cnn' needs .* got transform=None"),
        ("st_cnn", ST_CNN | {"downsample": True}, "downsample pools the input's .* 'st_cnn' has a"),
    ],
)
def test_networks_that_cannot_be_are_explained(name, options, message):
    with pytest.raises(ValueError, match=message):
        mnist_3d_model(name, SHAPE, **options)

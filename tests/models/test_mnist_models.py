"""The networks of Table 1 (D11 to D21): layers and counts abstractly, values on small images."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stn_jax.data.distortions import DISTORTIONS
from stn_jax.geometry import TRANSFORMS, thin_plate_spline
from stn_jax.models import layers, localisation, mnist
from stn_jax.models.layers import Dense
from stn_jax.models.mnist import CNN, FCN, fit_width, mnist_model
from stn_jax.models.pure import count_params, functional
from stn_jax.models.spatial_transformer import SpatialTransformer
from stn_jax.training.metrics import classification_loss
from tests.oracles import import_torch

# Canvas: distortions, and whether A.4 pools the transformer's output.
CANVASES = {28: (["R", "P", "E"], False), 42: (["RTS"], True), 60: (["TC"], True)}
MODELS = [
    ("fcn", None),
    ("cnn", None),
    *itertools.product(["st_fcn", "st_cnn"], ["affine", "projective", "tps"]),
]
THETA_WIDTHS = {"affine": 6, "projective": 8, "tps": 32}
every_model_of_table_1 = pytest.mark.parametrize(
    ("size", "name", "transform"), [(size, *model) for size in CANVASES for model in MODELS]
)


def test_canvases_are_those_of_the_distortions():
    sizes = {name: size for size, (names, _) in CANVASES.items() for name in names}
    assert sizes == {name: distortion.size for name, distortion in DISTORTIONS.items()}


def param_shapes(build):
    params, state = jax.eval_shape(functional(build).init, jax.random.key(0))
    assert state == {}
    return jax.tree.map(lambda leaf: leaf.shape, params)


def is_shape(leaf):
    return isinstance(leaf, tuple)


def kernels(tree):
    """Return the shapes of a subtree's kernels by layer."""
    found = jax.tree.leaves_with_path(tree, is_leaf=is_shape)
    return {
        "/".join(key.key for key in path[:-1]): shape
        for path, shape in found
        if path[-1].key == "kernel"
    }


@pytest.fixture
def maps(monkeypatch):
    """Record the layers of the next call with the spatial sizes they give, as a list."""
    record = []

    def recorded(kind, function):
        def call(*args):
            out = function(*args)
            record.append((kind, *out.shape[1:-1]))
            return out

        return call

    monkeypatch.setattr(layers.Conv, "__call__", recorded("conv", layers.Conv.__call__))
    for module in (mnist, localisation):
        for name in ("max_pool", "avg_pool"):
            monkeypatch.setattr(module, name, recorded(name, getattr(module, name)))
    return record


def call(build, input_shape, batch=2):
    """Return what a network gives, abstractly."""
    return jax.eval_shape(lambda: build(nnx.Rngs(0))(jnp.zeros((batch, *input_shape))))


@every_model_of_table_1
def test_parameters_and_layers_of_table_1(size, name, transform, maps):
    downsample = transform is not None and CANVASES[size][1]
    build = mnist_model(name, (size, size, 1), transform=transform, downsample=downsample)
    params = param_shapes(build)

    # D20: counted from the shapes, biases and localisers included.
    sizes = [np.prod(shape) for shape in jax.tree.leaves(params, is_leaf=is_shape)]
    assert sum(sizes) == pytest.approx(400_000, rel=0.05)

    # D12, D13, D14: three weight layers, each with a bias a unit.
    classifier = kernels(params["classifier"])
    assert len(classifier) == 3
    seen = size // 2 if downsample else size
    if name.endswith("fcn"):
        width = classifier["hidden1"][1]
        expected = {
            "hidden1": (seen * seen, width),
            "hidden2": (width, width),
            "classifier": (width, 10),
        }
    else:
        width = classifier["conv1"][3]
        last = {28: 2, 42: 6, 60: 10, 21: 1, 30: 3}[seen]
        expected = {
            "conv1": (9, 9, 1, width),
            "conv2": (7, 7, width, width),
            "classifier": (last * last * width, 10),
        }
    assert classifier == expected
    for layer in params["classifier"].values():
        assert layer["bias"] == layer["kernel"][-1:]

    # D11, D15, D16: one transformer on the input, its localiser of the classifier's kind.
    assert set(params) == ({"classifier", "transformer"} if transform else {"classifier"})
    if transform:
        found = kernels(params["transformer"])
        regression = found.pop("regression")
        assert regression == (32 if name == "st_fcn" else 20, THETA_WIDTHS[transform])
        assert len(found) == 3
        if name == "st_fcn":
            last_two = {f"localisation/hidden/{i}": (32, 32) for i in (1, 2)}
            assert found == {"localisation/hidden/0": (size * size, 32), **last_two}
        else:
            last = {28: 1, 42: 5, 60: 9}[size]
            assert found == {
                "localisation/conv1": (5, 5, 1, 20),
                "localisation/conv2": (5, 5, 20, 20),
                "localisation/hidden": (last * last * 20, 20),
            }

    # N5: theta is an output.
    logits, auxiliary = call(build, (size, size, 1))
    assert logits.shape == (2, 10) and logits.dtype == jnp.float32
    if transform:
        assert auxiliary["theta"].shape == (2, THETA_WIDTHS[transform])
        assert auxiliary["warped"].shape == (2, size, size, 1)
    else:
        assert auxiliary == {}

    # D13: nothing but dense layers, and the pooling behind the transformer.
    if name.endswith("fcn"):
        assert maps == ([("avg_pool", seen, seen)] if seen != size else [])


CHAINS = {
    (28, False): [20, 10, 4, 2],
    (42, False): [34, 17, 11, 6],
    (60, False): [52, 26, 20, 10],
    (42, True): [13, 7, 1, 1],
    (60, True): [22, 11, 5, 3],
}
LOCALISER_CHAINS = {28: [14, 10, 5, 1], 42: [21, 17, 9, 5], 60: [30, 26, 13, 9]}


@pytest.mark.parametrize(("size", "downsample"), CHAINS)
def test_spatial_sizes_in_the_cnns(size, downsample, maps):
    """D14, D16, D18, D19: 42-34-17-11-6, and 21-13-7-1-1 behind the pooled transformer."""
    kinds = ["conv", "max_pool", "conv", "max_pool"]
    classifier = [(k, s, s) for k, s in zip(kinds, CHAINS[size, downsample], strict=True)]
    if not downsample:
        call(mnist_model("cnn", (size, size, 1)), (size, size, 1))
        assert maps == classifier
        maps.clear()
    build = mnist_model("st_cnn", (size, size, 1), transform="affine", downsample=downsample)
    call(build, (size, size, 1))
    kinds = ["avg_pool", "conv", "max_pool", "conv"]
    localiser = [(k, s, s) for k, s in zip(kinds, LOCALISER_CHAINS[size], strict=True)]
    between = [("avg_pool", size // 2, size // 2)] if downsample else []
    assert maps == localiser + between + classifier


def test_classifiers_on_images_that_are_not_square(maps):
    logits = jax.eval_shape(
        lambda: CNN((21, 40, 3), width=2, rngs=nnx.Rngs(0))(jnp.zeros((1, 21, 40, 3)))
    )
    assert logits.shape == (1, 10)
    assert maps == [("conv", 13, 32), ("max_pool", 7, 16), ("conv", 1, 10), ("max_pool", 1, 5)]
    logits = jax.eval_shape(
        lambda: FCN((5, 9, 2), width=3, num_classes=4, rngs=nnx.Rngs(0))(jnp.zeros((1, 5, 9, 2)))
    )
    assert logits.shape == (1, 4)


# Values.


def draw(*shape):
    return np.random.default_rng(1).uniform(size=shape).astype(np.float32)


def as_function(module):
    return jax.jit(lambda x: module(x))


def test_fcn_is_three_matrix_products_and_two_relus(numpy_weights):
    fcn = FCN((5, 4, 2), width=7, rngs=nnx.Rngs(0))
    fcn.hidden1.bias[...] = jnp.linspace(-1, 1, 7)
    w1, w2, w3 = (
        np.asarray(layer.kernel[...]) for layer in (fcn.hidden1, fcn.hidden2, fcn.classifier)
    )
    x = draw(3, 5, 4, 2)
    hidden = np.maximum(x.reshape(3, 40) @ w1 + np.linspace(-1, 1, 7), 0)
    expected = np.maximum(hidden @ w2, 0) @ w3
    assert (expected < 0).any()  # no ReLU behind the classification layer
    np.testing.assert_allclose(as_function(fcn)(x), expected, rtol=1e-4, atol=1e-4)


def test_cnn_equals_torch(numpy_weights):
    torch = import_torch()
    f = torch.nn.functional
    cnn = CNN((28, 22, 2), width=3, rngs=nnx.Rngs(0))
    cnn.conv1.bias[...] = jnp.array([-0.5, 0, 0.5])
    x = draw(2, 28, 22, 2)
    w1, w2, w3 = (
        torch.tensor(np.asarray(layer.kernel[...]))
        for layer in (cnn.conv1, cnn.conv2, cnn.classifier)
    )
    y = torch.tensor(x.transpose(0, 3, 1, 2))
    y = f.conv2d(y, w1.permute(3, 2, 0, 1), torch.tensor([-0.5, 0, 0.5]))
    y = f.max_pool2d(f.relu(y), 2, ceil_mode=True)  # ReLU first here: it commutes with pooling
    y = f.max_pool2d(f.relu(f.conv2d(y, w2.permute(3, 2, 0, 1))), 2, ceil_mode=True)
    expected = (y.permute(0, 2, 3, 1).flatten(1) @ w3).numpy()
    np.testing.assert_allclose(as_function(cnn)(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("downsample", [False, True])
def test_before_training_a_transformer_changes_nothing(downsample, numpy_weights):
    """M5, D18: the logits are the classifier's own, on the input or on its 2x2 averages."""
    build = mnist_model(
        "st_fcn", (10, 12, 1), transform="tps", downsample=downsample, num_params=15_000
    )
    module = build(nnx.Rngs(0))
    x = draw(3, 10, 12, 1)
    logits, auxiliary = as_function(module)(x)
    np.testing.assert_array_equal(auxiliary["warped"], x)
    np.testing.assert_array_equal(auxiliary["theta"], np.tile(TRANSFORMS["tps"].identity, (3, 1)))
    seen = x.reshape(3, 5, 2, 6, 2, 1).mean(axis=(2, 4)) if downsample else x
    np.testing.assert_allclose(logits, as_function(module.classifier)(seen), rtol=1e-5, atol=1e-5)


def test_only_the_regression_layer_starts_at_zero():
    """M5, with JAX's own random numbers."""
    model = functional(mnist_model("st_fcn", (9, 9, 1), transform="affine", num_params=6_000))
    params, _ = jax.jit(model.init)(jax.random.key(3))
    for path, leaf in jax.tree.leaves_with_path(params):
        names = [key.key for key in path]
        if names[-2:] == ["regression", "bias"]:
            np.testing.assert_array_equal(leaf, [1, 0, 0, 0, 1, 0])
        elif names[-1] == "bias" or names[-2] == "regression":
            assert not np.any(leaf), path
        else:
            np.testing.assert_allclose(np.std(leaf), np.sqrt(2 / leaf.shape[0]), rtol=0.2)


def test_the_loss_is_cross_entropy_of_labels_alone(numpy_weights):
    """M7: no term in theta, whatever it is; but its gradient reaches the transformer."""
    build = mnist_model("st_fcn", (12, 12, 1), transform="affine", num_params=10_000)
    model = functional(build)
    params, state = model.init(jax.random.key(0))
    regression = params["transformer"]["regression"]
    regression["bias"] = jnp.array([0.8, 0.3, 0.1, -0.2, 1.1, 0.2])

    class Batch:
        image = draw(4, 12, 12, 1)
        label = np.array([3, 1, 0, 9])

    def loss(params):
        return classification_loss(model.apply)(params, state, Batch, jax.random.key(0))

    (value, (_, metrics)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    (logits, _), _ = jax.jit(model.apply)(params, state, Batch.image)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -np.mean([log_probabilities[i, c] for i, c in enumerate(Batch.label)])
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert metrics.keys() == {"error"}
    assert np.abs(gradient["transformer"]["regression"]["bias"]).min() > 0


def test_dropout_is_the_classifiers_and_for_training(numpy_weights):
    model, without = (
        functional(
            mnist_model("st_fcn", (9, 9, 1), transform="affine", num_params=6_000, dropout=dropout)
        )
        for dropout in (0.5, 0.0)
    )
    params, state = model.init(jax.random.key(0))
    weights = params["transformer"]["regression"]["kernel"]
    params["transformer"]["regression"]["kernel"] = 0.05 * draw(*weights.shape)
    x = draw(64, 9, 9, 1)

    @jax.jit
    def call(key):
        return (
            model.apply(params, state, x, train=True, key=key)[0],
            model.apply(params, state, x, key=key)[0],
            without.apply(params, state, x, train=True)[0],
        )

    (dropped, auxiliary), (evaluated, _), (plain, plain_auxiliary) = call(jax.random.key(0))
    np.testing.assert_allclose(evaluated, plain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(auxiliary["theta"], plain_auxiliary["theta"], rtol=1e-5, atol=1e-5)
    assert np.std(auxiliary["theta"], axis=0).max() > 0
    (again, _), _, _ = call(jax.random.key(0))
    (other, _), _, _ = call(jax.random.key(1))
    np.testing.assert_array_equal(dropped, again)
    for different in (plain, other):
        assert (np.abs(dropped - different) > 1e-3).mean() > 0.9


@pytest.mark.parametrize(("name", "size"), [("fcn", 6), ("cnn", 21)])
def test_dropout_follows_both_hidden_layers(name, size, numpy_weights, dropouts):
    classifier = mnist.CLASSIFIERS[name]((size, size, 1), width=3, dropout=0.3, rngs=nnx.Rngs(0))
    jax.eval_shape(lambda: classifier(jnp.zeros((2, size, size, 1))))
    shapes = {"fcn": [(2, 3), (2, 3)], "cnn": [(2, 7, 7, 3), (2, 1, 1, 3)]}[name]
    assert dropouts == [(0.3, shape) for shape in shapes]


# The search for a width.


class OneHidden(nnx.Module):
    def __init__(self, width, *, rngs):
        self.hidden = Dense(11, width, rngs=rngs)
        self.out = Dense(width, 3, rngs=rngs)


class TwoHidden(nnx.Module):
    def __init__(self, width, *, rngs):
        self.layers = nnx.List([Dense(8, width, rngs=rngs), Dense(width, width, rngs=rngs)])
        self.out = Dense(width, 2, rngs=rngs)


COUNTS = {
    OneHidden: lambda w: 11 * w + w + 3 * w + 3,
    TwoHidden: lambda w: 8 * w + w + w * w + w + 2 * w + 2,
}


@pytest.mark.parametrize("module", COUNTS)
@pytest.mark.parametrize("num_params", [1, 17, 18, 100, 333, 334, 1234, 99_999, 1_000_000])
def test_width_search_finds_the_nearest_count(module, num_params):
    """Counts are linear or quadratic in the width."""
    widths = range(1, 70_000 if module is OneHidden else 1_100)
    distance = [abs(COUNTS[module](w) - num_params) for w in widths]
    width = fit_width(lambda rngs, w: module(w, rngs=rngs), num_params)
    assert distance[width - 1] == min(distance)


@pytest.mark.parametrize(("name", "transform"), [("cnn", None), ("st_cnn", "tps")])
def test_no_other_width_is_nearer_to_400k(name, transform):
    build = mnist_model(name, (28, 28, 1), transform=transform)
    width = param_shapes(build)["classifier"]["conv1"]["kernel"][-1]

    def count(width):
        def module(rngs):
            classifier = CNN((28, 28, 1), width=width, rngs=rngs)
            if transform is None:
                return classifier
            locate = localisation.ConvLocalisation((28, 28, 1), rngs=rngs)
            return nnx.List([classifier, SpatialTransformer(locate, transform, rngs=rngs)])

        return count_params(nnx.state(nnx.eval_shape(lambda: module(nnx.Rngs(0)))))

    distances = {w: abs(count(w) - 400_000) for w in (width - 1, width, width + 1)}
    assert min(distances, key=distances.get) == width


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [("fcn", 28, 349), ("fcn", 60, 108), ("cnn", 28, 89), ("cnn", 42, 86), ("cnn", 60, 80)],
)
def test_400k_needs_widths_outside_the_papers_ranges(name, size, width):
    """D21: 128 to 256 units and 32 to 64 filters are stated."""
    params = param_shapes(mnist_model(name, (size, size, 1)))["classifier"]
    second = {"fcn": "hidden2", "cnn": "conv2"}[name]
    assert params[second]["kernel"][-2:] == (width, width)


def test_width_search_is_abstract_and_short():
    calls = []

    def build(rngs, width):
        module = FCN((28, 28, 1), width=width, rngs=rngs)
        calls.append(isinstance(module.hidden1.kernel[...], jax.core.Tracer))
        return module

    assert fit_width(build, 400_000) == 349
    assert all(calls) and 3 <= len(calls) <= 6


# Errors.


@pytest.mark.parametrize("name", ["mlp", "st_", "", "st_st_fcn", "FCN"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(ValueError, match=f"unknown model '{name}'.*fcn, cnn, st_fcn, st_cnn"):
        mnist_model(name, (28, 28, 1), transform="affine")


@pytest.mark.parametrize("name", ["st_fcn", "st_cnn"])
def test_missing_transform_is_an_error(name):
    with pytest.raises(ValueError, match=f"model '{name}' needs a transform, got transform=None"):
        mnist_model(name, (28, 28, 1))


@pytest.mark.parametrize("name", ["fcn", "cnn"])
def test_superfluous_transform_is_an_error(name):
    with pytest.raises(ValueError, match=f"model '{name}' takes no transform, got.*'affine'"):
        mnist_model(name, (28, 28, 1), transform="affine")


@pytest.mark.parametrize("name", ["fcn", "cnn"])
def test_superfluous_downsampling_is_an_error(name):
    with pytest.raises(ValueError, match=f"downsample.*model '{name}' has none"):
        mnist_model(name, (28, 28, 1), downsample=True)


def test_unknown_transform_is_an_error():
    with pytest.raises(ValueError, match="unknown transform 'spline'"):
        mnist_model("st_fcn", (28, 28, 1), transform="spline")


@pytest.mark.parametrize("shape", [(20, 28, 1), (28, 20, 1), (5, 5, 1)])
def test_too_small_images_are_an_error(shape):
    with pytest.raises(ValueError, match=r"CNN needs inputs of 21x21 at least, got \("):
        mnist_model("cnn", shape)


def test_users_own_transform_and_number_of_classes():
    build = mnist_model(
        "st_fcn", (28, 28, 1), transform=thin_plate_spline(3), num_classes=19, num_params=50_000
    )
    logits, auxiliary = call(build, (28, 28, 1))
    assert logits.shape == (2, 19) and auxiliary["theta"].shape == (2, 18)


# Parallel transformers, and the networks of Table 4 (A3 to A6).

ADDITION_MODELS = [
    ("fcn", None, 1),
    ("cnn", None, 1),
    *itertools.product(["st_fcn"], ["affine", "projective", "tps"], [1, 2]),
]


@pytest.mark.parametrize(("name", "transform", "count"), ADDITION_MODELS)
def test_parameters_and_layers_of_table_4(name, transform, count, maps):
    pooled = transform is not None
    build = mnist_model(
        name,
        (42, 42, 2),
        transform=transform,
        num_transformers=count,
        downsample=pooled,
        num_classes=19,
    )
    params = param_shapes(build)
    sizes = [np.prod(shape) for shape in jax.tree.leaves(params, is_leaf=is_shape)]
    assert sum(sizes) == pytest.approx(400_000, rel=0.05)

    classifier = kernels(params["classifier"])
    assert len(classifier) == 3 and classifier["classifier"][1] == 19
    if pooled:  # 21x21 of all transformers' channels
        width = {1: 247, 2: 90}[count]
        assert classifier["hidden1"] == (21 * 21 * 2 * count, width)
        layers_of_one = {f"localisation/hidden/{i}": (32, 32) for i in (1, 2)}
        layers_of_one["localisation/hidden/0"] = (42 * 42 * 2, 32)
        layers_of_one["regression"] = (32, THETA_WIDTHS[transform])
        # Checkpoints of single transformers have these names since before there were parallel ones.
        prefixes = [""] if count == 1 else [f"members/{i}/" for i in range(count)]
        assert kernels(params["transformer"]) == {
            prefix + layer: shape for prefix in prefixes for layer, shape in layers_of_one.items()
        }

    logits, auxiliary = call(build, (42, 42, 2))
    assert logits.shape == (2, 19)
    if pooled:
        thetas = (count,) if count > 1 else ()
        assert auxiliary["theta"].shape == (2, *thetas, THETA_WIDTHS[transform])
        assert auxiliary["warped"].shape == (2, 42, 42, 2 * count)


def parallel_model(count=2, size=10):
    """A network and its parameters, with regression layers that do something."""
    model = functional(
        mnist_model(
            "st_fcn",
            (size, size, 2),
            transform="affine",
            num_transformers=count,
            num_classes=3,
            num_params=20_000,
        )
    )
    params, state = model.init(jax.random.key(0))
    rng = np.random.default_rng(2)
    for member in params["transformer"]["members"].values():
        shape = member["regression"]["kernel"].shape
        member["regression"]["kernel"] = jnp.asarray(0.1 * rng.normal(size=shape), jnp.float32)
    return model, params, state


def test_parallel_transformers_are_each_alone_joined(numpy_weights):
    """A4: each reads both channels and warps both; the first one's channels come first."""
    model, params, state = parallel_model(count=3)
    x = draw(4, 10, 10, 2)
    (_, auxiliary), _ = jax.jit(model.apply)(params, state, x)
    alone = functional(
        lambda rngs: SpatialTransformer(
            localisation.DenseLocalisation((10, 10, 2), rngs=rngs), "affine", rngs=rngs
        )
    )
    apply_alone = jax.jit(alone.apply)
    for i in range(3):
        (warped, theta), _ = apply_alone(params["transformer"]["members"][str(i)], {}, x)
        np.testing.assert_allclose(auxiliary["theta"][:, i], theta, atol=1e-5)
        found = auxiliary["warped"][..., 2 * i : 2 * i + 2]
        np.testing.assert_allclose(found, warped, atol=1e-5)
    first, second = auxiliary["theta"][:, 0], auxiliary["theta"][:, 1]
    assert np.abs(first - second).max() > 0.1


def test_theta_of_a_transformer_is_its_own_and_of_both_channels(numpy_weights):
    model, params, state = parallel_model()

    @jax.jit
    def theta(params, x):
        (_, auxiliary), _ = model.apply(params, state, x)
        return auxiliary["theta"]

    x = draw(4, 10, 10, 2)
    before = theta(params, x)
    moved = jax.tree.map(lambda leaf: leaf, params)
    bias = moved["transformer"]["members"]["1"]["localisation"]["hidden"]["0"]["bias"]
    moved["transformer"]["members"]["1"]["localisation"]["hidden"]["0"]["bias"] = bias + 1
    after = theta(moved, x)
    np.testing.assert_array_equal(after[:, 0], before[:, 0])
    assert np.abs(after[:, 1] - before[:, 1]).max() > 1e-3
    for channel in (0, 1):
        other = x.copy()
        other[..., channel] = 0
        assert np.all(np.abs(theta(params, other) - before).max(axis=(0, 2)) > 1e-3)


def test_parallel_transformers_start_apart_and_learn_apart(numpy_weights):
    """Different random localisers break the symmetry: both are the identity at first."""
    model = functional(
        mnist_model("st_fcn", (8, 8, 2), transform="affine", num_transformers=2, num_params=12_000)
    )
    params, state = model.init(jax.random.key(0))

    class Batch:
        image = draw(6, 8, 8, 2)
        label = np.array([3, 1, 0, 9, 9, 2])

    (_, auxiliary), _ = jax.jit(model.apply)(params, state, Batch.image)
    np.testing.assert_array_equal(auxiliary["warped"], np.tile(Batch.image, 2))

    def loss(params):
        return classification_loss(model.apply)(params, state, Batch, jax.random.key(0))[0]

    gradient = jax.jit(jax.grad(loss))(params)["transformer"]["members"]
    first, second = (gradient[i]["regression"]["kernel"] for i in ("0", "1"))
    assert np.abs(first).max() > 0 and np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "transform", "count", "message"),
    [
        ("fcn", None, 2, "model 'fcn' has no transformer, got num_transformers=2"),
        ("st_fcn", "affine", 0, "model 'st_fcn' has at least one transformer, got num_tr.*=0"),
    ],
)
def test_impossible_numbers_of_transformers_are_errors(name, transform, count, message):
    with pytest.raises(ValueError, match=message):
        mnist_model(name, (28, 28, 1), transform=transform, num_transformers=count)

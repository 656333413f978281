"""Inception networks: activations of other implementations, statistics, precision, memory."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stn_jax.models import inception_layers
from stn_jax.models.inception import ARCHITECTURES, Inception, as_input
from stn_jax.models.inception_layers import (
    PADDINGS,
    Conv,
    ConvUnit,
    Pool,
    convolve,
    pool,
)
from stn_jax.models.pretrained import with_pretrained
from stn_jax.models.public_weights import SOURCES, convert
from stn_jax.models.pure import count_params, functional
from tests.models.inception_tensors import draw, fill, image

RECORDED = Path(__file__).with_name("inception_activations.npz")
SHAPES = json.loads(Path(__file__).with_name("inception_shapes.json").read_text())


def network(**options):
    return functional(lambda rngs: Inception(rngs=rngs, **options))


class Recorder(nnx.Module):
    """A network that returns the maps of all blocks, and its logits."""

    def __init__(self, **options):
        self.inception = Inception(**options)

    def __call__(self, x):
        maps = self.inception.activations(x)
        return maps, self.inception.head(list(maps.values())[-1])


def folded_tensors():
    """Fold batch normalisation into kernel and bias, as in the file of 2015."""
    shapes = SHAPES["torchvision_inception_v3"]
    tensors, found = fill(shapes), {}
    names = SOURCES["torchvision_inception_v3"].names
    for layer, theirs in SOURCES["folded_inception_v3"].names.items():
        unit = names[layer]
        gain = tensors[f"{unit}.bn.weight"] / np.sqrt(tensors[f"{unit}.bn.running_var"] + 1e-3)
        kernel = tensors[f"{unit}.conv.weight"] * gain[:, None, None, None]
        found[f"{theirs}/kernel"] = kernel.transpose(2, 3, 1, 0)
        shift = tensors[f"{unit}.bn.bias"] - tensors[f"{unit}.bn.running_mean"] * gain
        found[f"{theirs}/bias"] = shift
    return found


def weights_of(source):
    tensors = fill(SHAPES[source]) if SHAPES[source] else folded_tensors()
    return convert(SOURCES[source], tensors)


@pytest.mark.parametrize("source", SOURCES)
def test_every_block_gives_what_the_other_implementation_gives(source, monkeypatch):
    """Its own computation, recorded: TensorFlow-Slim, BN-Inception, torchvision, the one of FID."""
    monkeypatch.setattr(inception_layers, "he_normal", lambda key, shape: jnp.zeros(shape))
    weights = weights_of(source)
    architecture = weights.header["architecture"]
    classes = 1000 if "classifier/kernel" in weights.tensors else 0
    model = functional(
        lambda rngs: Recorder(architecture=architecture, num_classes=classes, rngs=rngs)
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params, state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    params, state = with_pretrained(params, state, weights, architecture=architecture)
    (maps, logits), _ = jax.jit(model.apply)(params, state, image(source))
    assert set(maps) == set(ARCHITECTURES[architecture].blocks)
    with np.load(RECORDED) as recorded:
        for name, value in maps.items():
            value = np.asarray(value, np.float64)[0]
            for kind, axis in (("pixels", -1), ("channels", (0, 1))):
                expected = recorded[f"{source}/{name}/{kind}"]
                assert value.mean(axis=axis).shape == expected.shape
                size = np.abs(expected).max()
                np.testing.assert_allclose(
                    value.mean(axis=axis), expected, atol=1e-5 * size, err_msg=f"{name} {kind}"
                )
        if classes:
            expected = recorded[f"{source}/logits"][-1000:]
            np.testing.assert_allclose(logits[0], expected, atol=1e-5 * np.abs(expected).max())
    if not classes:
        assert logits.shape == (1, 2048)


# Sizes and counts.


@pytest.mark.parametrize(
    ("architecture", "last", "shape"),
    [
        ("inception_v2", "", (7, 7, 1024)),  # A.6
        ("bn_inception", "", (7, 7, 1024)),
        ("inception_v2", "mixed_4e", (14, 14, 576)),
        ("inception_v3", "", (8, 8, 2048)),
        ("inception_v3_2015", "mixed_8", (8, 8, 1280)),
    ],
)
def test_sizes_of_the_last_maps(architecture, last, shape, monkeypatch):
    monkeypatch.setattr(inception_layers, "he_normal", lambda key, shape: jnp.zeros(shape))
    size = ARCHITECTURES[architecture].size

    def call():
        module = Inception(architecture, last=last, rngs=nnx.Rngs(0))
        assert (*module.map_size((size, size)), module.num_features) == shape
        return module.maps(jnp.zeros((2, size, size, 3))), module(jnp.zeros((2, size, size, 3)))

    maps, descriptor = jax.eval_shape(call)
    assert maps.shape == (2, *shape)
    assert descriptor.shape == (2, shape[-1])


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        # torchvision's 27,161,264 less the auxiliary classifier's 3,326,696.
        ("inception_v3", 23_834_568),
        # PyTorch's 11,295,240 less the biases of convolutions before batch normalisation.
        ("bn_inception", 11_295_240 - 10_016),
    ],
)
def test_parameters_are_as_many_as_elsewhere(architecture, count):
    model = network(architecture=architecture, num_classes=1000)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    assert count_params(params) == count


# The steps.


@pytest.mark.parametrize("size", [(7, 8), (16, 3)])
@pytest.mark.parametrize("window", [(3, 3), (7, 7), (1, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_that_of_xla(size, window, stride):
    x = draw("x", (1, *size, 2), -1, 1)
    kernel = draw("kernel", (*window, 2, 3), -1, 1)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (stride,) * 2, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = convolve(x, kernel, Conv("conv", 3, window, stride))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (16, 15), (3, 4)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_pooling_is_that_of_flax(size, padding):
    x = draw("x", (2, *size, 3), -1, 1)
    strides = {"window_shape": (3, 3), "strides": (2, 2), "padding": padding.upper()}
    np.testing.assert_array_equal(pool(x, Pool("max", 2, padding)), nnx.max_pool(x, **strides))
    for kind, counts in (("average", True), ("average_inside", False)):
        expected = nnx.avg_pool(x, **strides, count_include_pad=counts)
        np.testing.assert_allclose(pool(x, Pool(kind, 2, padding)), expected, rtol=1e-6)


@pytest.mark.parametrize("size", range(3, 10))
def test_partial_windows_are_kept(size):
    """As NumPy slices: those beyond the end hold fewer pixels."""
    x = draw("x", (1, size, size, 1), -1, 1)
    starts = range(0, size - 1, 2) if size % 2 == 0 else range(0, size - 2, 2)
    expected = [[x[0, i : i + 3, j : j + 3, 0].max() for j in starts] for i in starts]
    found = pool(x, Pool("max", 2, "partial"))
    np.testing.assert_array_equal(found[0, :, :, 0], expected)


def test_symmetric_padding_is_another_with_a_stride():
    assert [PADDINGS[name](8, 3, 2) for name in ("same", "symmetric")] == [(0, 1), (1, 1)]
    assert [PADDINGS[name](8, 3, 1) for name in ("same", "symmetric")] == [(1, 1), (1, 1)]


def test_other_pooling_is_refused():
    with pytest.raises(ValueError, match="'max', 'average' or 'average_inside', got 'mean'"):
        pool(jnp.zeros((1, 4, 4, 1)), Pool("mean"))


# Batch normalisation.


def unit(statistics, epsilon=1e-3, dtype=jnp.float32):
    conv = Conv("conv", 4, (3, 3))
    found = ConvUnit(
        3, conv, epsilon=epsilon, statistics=statistics, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0)
    )
    for name, low, high in (
        ("kernel", -0.5, 0.5),
        ("bias", -0.5, 0.5),
        ("scale", 0.5, 1.5),
        ("mean", -1, 1),
        ("var", 0.5, 2),
    ):
        variable = getattr(found, name)
        variable[...] = jnp.asarray(draw(name, variable.shape, low, high))
    return found


def flax_unit(ours, x, *, train):
    """The same in Flax's own layers; returns its normalisation, too."""
    norm = nnx.BatchNorm(
        4, use_running_average=not train, momentum=0.99, epsilon=1e-3, rngs=nnx.Rngs(0)
    )
    for name in ("bias", "scale", "mean", "var"):
        getattr(norm, name)[...] = getattr(ours, name)[...]
    conv = nnx.Conv(3, 4, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
    conv.kernel[...] = ours.kernel[...]
    return jax.nn.relu(norm(conv(x))), norm


@pytest.mark.parametrize("statistics", ["stored", "batch"])
@pytest.mark.parametrize("train", [False, True])
def test_statistics_are_stored_or_those_of_the_batch(statistics, train):
    """Those of the batch only if asked for, and in training."""
    x, ours = draw("x", (2, 6, 5, 3), -1, 1), unit(statistics)
    by_batch = train and statistics == "batch"
    expected, norm = flax_unit(ours, x, train=by_batch)
    before = np.array(ours.mean[...])
    ours.train() if train else ours.eval()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-5)
    for name in ("mean", "var"):
        found = getattr(ours, name)[...]
        np.testing.assert_allclose(found, getattr(norm, name)[...], rtol=1e-4, atol=1e-6)
    assert np.any(before != ours.mean[...]) == by_batch


@pytest.mark.parametrize("statistics", ["stored", "batch"])
def test_gradients_are_those_of_flax(statistics):
    x, ours = draw("x", (2, 6, 5, 3), -1, 1), unit(statistics)
    weights = draw("weights", (2, 6, 5, 4), -1, 1)
    ours.train()

    def gradients(call):
        def value(params, x):
            module = nnx.merge(graph, params, rest, copy=True)
            return jnp.sum(weights * call(module, x))

        graph, params, rest = nnx.split(ours, nnx.Param, ...)
        return jax.tree.leaves(jax.grad(value, argnums=(0, 1))(params, x))

    found = gradients(lambda module, x: module(x))
    expected = gradients(lambda module, x: flax_unit(module, x, train=statistics == "batch")[0])
    assert len(found) == 4
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


# Options.


def stem(**options):
    """A network of few layers, with initial weights."""
    model = network(architecture="inception_v2", last="conv_2", **options)
    return model, *jax.jit(model.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def plain():
    return stem(statistics="batch")


def trained(model, params, state, x):
    def loss(params):
        outputs, new = model.apply(params, state, x, train=True)
        return jnp.sum(outputs**2), (outputs, new)

    return jax.jit(jax.grad(loss, has_aux=True))(params)


X = draw("x", (2, 32, 32, 3), -1, 1)


def test_rematerialisation_changes_nothing(plain):
    """Neither values nor gradients nor the statistics that a step leaves."""
    model, params, state = plain
    again = network(architecture="inception_v2", last="conv_2", statistics="batch", remat=True)
    one, other = trained(model, params, state, X), trained(again, params, state, X)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    moved = one[1][1]["blocks"]["conv_2"]["conv"]["mean"]
    assert np.any(moved != state["blocks"]["conv_2"]["conv"]["mean"])


def test_half_precision_keeps_parameters_and_descriptors_in_full(plain):
    model, params, state = plain
    half = network(architecture="inception_v2", last="conv_2", dtype="bfloat16")
    shapes = jax.eval_shape(half.init, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    expected, _ = jax.jit(model.apply)(params, state, X)
    found, _ = jax.jit(half.apply)(params, state, X)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())
    assert np.any(found != expected)
    maps = jax.eval_shape(
        lambda: Inception("inception_v2", dtype="bfloat16", rngs=nnx.Rngs(0)).maps(X)
    )
    assert maps.dtype == jnp.bfloat16


def test_inputs_are_those_of_the_weights():
    images = np.array([[[[0, 51, 255]]]], np.uint8)
    unit = [[[[-1, -0.6, 1]]]]
    np.testing.assert_allclose(as_input(jnp.asarray(images), "inception_v2"), unit, atol=1e-6)
    halves = jnp.asarray(images / 255, jnp.float32)
    np.testing.assert_allclose(as_input(halves, "inception_v3"), unit, atol=1e-6)
    # BGR, and its mean
    expected = [[[[255 - 104, 51 - 117, -128]]]]
    np.testing.assert_allclose(as_input(halves, "bn_inception"), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"architecture": "inception"},
            "unknown architecture 'inception'; there are inception_v2,",
        ),
        (
            {"architecture": "inception_v2", "last": "mixed_6"},
            "inception_v2 has no block 'mixed_6' to stop behind; there are conv_1, pool_1",
        ),
        (
            {"architecture": "inception_v2", "statistics": "running"},
            "statistics are 'stored' or 'batch', got 'running'",
        ),
    ],
)
def test_networks_that_there_are_not(options, message):
    with pytest.raises(ValueError, match=message):
        Inception(rngs=nnx.Rngs(0), **options)


def test_images_too_small_are_refused():
    def call():
        Inception("inception_v3", rngs=nnx.Rngs(0)).map_size((60, 299))

    with pytest.raises(ValueError, match=r"nothing is left of images of \(60, 299\) in mixed_10"):
        jax.eval_shape(call)


def test_sizes_that_branches_do_not_agree_on_are_refused():
    """As those of BN-Inception do not on half of 224 px, which the network could not join."""
    network = Inception("bn_inception", rngs=nnx.Rngs(0))
    assert network.map_size((96, 128)) == (3, 4)
    message = (
        r"images of \(112, 112\) do not fit mixed_5a, its branches make maps of 3x3 and 4x4 "
        "from 7x7. Multiples of 32 do"
    )
    with pytest.raises(ValueError, match=message):
        network.map_size((112, 112))
    with pytest.raises(TypeError, match="concatenate"):
        jax.eval_shape(network.maps, jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32))

"""The file of weights, and networks that start from it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stn_jax.models.inception import Inception
from stn_jax.models.pretrained import (
    Weights,
    WeightsError,
    expected_shapes,
    load_weights,
    save_weights,
    with_pretrained,
)
from stn_jax.models.pure import functional

LAST = "pool_2"  # the first few layers


@pytest.fixture(scope="module")
def weights():
    shapes = expected_shapes("inception_v2")
    arrays = {
        name: np.full(shape, 1 + i, np.float16) for i, (name, shape) in enumerate(shapes.items())
    }
    return Weights({"architecture": "inception_v2"}, arrays)


class Twins(nnx.Module):
    """Two networks, one of them in a list, and a layer of another kind."""

    def __init__(self, *, rngs):
        self.first = Inception("inception_v2", last=LAST, rngs=rngs)
        self.others = nnx.List([Inception("inception_v2", last="conv_1", rngs=rngs)])
        self.dense = nnx.Linear(2, 3, rngs=rngs)

    def __call__(self, x):
        return x


@pytest.fixture(scope="module")
def model():
    return functional(lambda rngs: Twins(rngs=rngs))


@pytest.fixture(scope="module")
def variables(model):
    """Initial values that are those of no weights here."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, -1, leaf.dtype), shapes)


def test_the_file_gives_back_what_was_put_in(tmp_path, weights):
    path = tmp_path / "new" / "weights.npz"
    save_weights(path, weights)
    found = load_weights(path)
    assert found.header == weights.header
    assert found.tensors.keys() == weights.tensors.keys()
    for name, array in found.tensors.items():
        np.testing.assert_array_equal(array, weights.tensors[name])
        assert array.dtype == np.float16
    assert [file.name for file in path.parent.iterdir()] == ["weights.npz"]


def test_every_network_in_a_model_gets_them(weights, variables):
    params, state = variables
    new, statistics = with_pretrained(params, state, weights, architecture="inception_v2")
    for part in (new["first"], new["others"]["0"]):
        kernel = part["blocks"]["conv_1"]["conv"]["kernel"]
        assert kernel.dtype == jnp.float32
        np.testing.assert_array_equal(kernel, weights.tensors["blocks/conv_1/conv/kernel"])
    mean = statistics["first"]["blocks"]["conv_2"]["conv"]["mean"]
    np.testing.assert_array_equal(mean, weights.tensors["blocks/conv_2/conv/mean"])
    np.testing.assert_array_equal(new["dense"]["kernel"], params["dense"]["kernel"])
    assert jax.tree.structure((new, statistics)) == jax.tree.structure((params, state))


def test_they_can_be_part_of_init(weights, model):
    init = jax.jit(
        jax.vmap(
            lambda key: with_pretrained(*model.init(key), weights, architecture="inception_v2")
        )
    )
    new, _ = init(jax.random.split(jax.random.key(0), 2))
    kernel = new["first"]["blocks"]["conv_2"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel[1], weights.tensors["blocks/conv_2/conv/kernel"])


def test_what_does_not_fit_is_named_in_one_error(weights, variables):
    tensors = dict(weights.tensors)
    del tensors["blocks/conv_2/conv/scale"], tensors["blocks/conv_2/conv/var"]
    tensors["blocks/conv_1/conv/bias"] = np.zeros(7)
    tensors["blocks/conv_9/conv/bias"] = np.zeros(7)
    del tensors["blocks/mixed_5c/1x1/kernel"]  # not in these networks
    wrong = Weights(weights.header, tensors)
    with pytest.raises(WeightsError) as info:
        with_pretrained(*variables, wrong, architecture="inception_v2")
    assert str(info.value) == (
        "the weights do not fit the network: "
        "2 missing: blocks/conv_2/conv/scale, blocks/conv_2/conv/var; "
        "1 unexpected: blocks/conv_9/conv/bias; "
        "1 of another shape: blocks/conv_1/conv/bias (7,) for (64,)."
    )


def test_another_architecture_is_refused(weights, variables):
    """Even where all shapes are the same, and only the padding differs."""
    with pytest.raises(WeightsError, match="weights are of inception_v2, the network is bn_inc"):
        with_pretrained(*variables, weights, architecture="bn_inception")


def test_models_without_inception_are_refused(weights):
    with pytest.raises(WeightsError, match="contains no Inception network"):
        with_pretrained({"dense": {}}, {}, weights, architecture="inception_v2")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 not whole", None])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "weights.npz"
    if content is None:
        np.savez(path, kernel=np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights.npz is no file of weights"):
        load_weights(path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="weights.npz"):
        load_weights(tmp_path / "weights.npz")


def test_the_header_is_readable_text(tmp_path, weights):
    save_weights(tmp_path / "weights.npz", weights)
    with np.load(tmp_path / "weights.npz") as archive:
        assert json.loads(str(archive["header"])) == {"architecture": "inception_v2"}

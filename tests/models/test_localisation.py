import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stn_jax.models.localisation import (
    ConvLocalisation,
    DenseLocalisation,
    StridedLocalisation,
)
from stn_jax.models.pure import functional
from tests.oracles import import_torch

pytestmark = pytest.mark.usefixtures("numpy_weights")


def shapes(localisation, input_shape):
    """Return the shapes of a localisation network's parameters, without computing them."""
    model = functional(lambda rngs: localisation(input_shape, rngs=rngs))
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    assert state == {}
    return jax.tree.map(lambda leaf: leaf.shape, params)


@pytest.mark.parametrize("input_shape", [(28, 28, 1), (42, 30, 2), (60, 60, 1)])
def test_dense_has_three_hidden_layers_of_32_on_the_full_image(input_shape):
    """D15, D17."""
    assert shapes(DenseLocalisation, input_shape) == {
        "hidden": {
            "0": {"kernel": (np.prod(input_shape), 32), "bias": (32,)},
            "1": {"kernel": (32, 32), "bias": (32,)},
            "2": {"kernel": (32, 32), "bias": (32,)},
        }
    }


@pytest.mark.parametrize(
    ("input_shape", "last_map"),
    [
        ((28, 28, 1), (1, 1)),  # 28, pooled 14, conv 10, pooled 5, conv 1
        ((42, 42, 2), (5, 5)),  # 42, 21, 17, 9, 5
        ((60, 60, 1), (9, 9)),  # 60, 30, 26, 13, 9
        ((28, 42, 1), (1, 5)),
        ((26, 27, 1), (1, 1)),  # 26, 13, 9, 5, 1: the smallest
    ],
)
def test_conv_has_two_5x5_convolutions_and_a_dense_layer_of_20(input_shape, last_map):
    """D16."""
    assert shapes(ConvLocalisation, input_shape) == {
        "conv1": {"kernel": (5, 5, input_shape[-1], 20), "bias": (20,)},
        "conv2": {"kernel": (5, 5, 20, 20), "bias": (20,)},
        "hidden": {"kernel": (np.prod(last_map) * 20, 20), "bias": (20,)},
    }
    features = jax.eval_shape(
        lambda: ConvLocalisation(input_shape, rngs=nnx.Rngs(0))(jnp.zeros((3, *input_shape)))
    )
    assert features.shape == (3, 20)


def test_strided_is_that_of_colocalisation():
    """C8: 84-19-9-648."""
    assert shapes(StridedLocalisation, (84, 84, 1)) == {
        "conv": {"kernel": (9, 9, 1, 8), "bias": (8,)},
        "hidden1": {"kernel": (648, 8), "bias": (8,)},
        "hidden2": {"kernel": (8, 8), "bias": (8,)},
    }


@pytest.mark.parametrize(
    ("localisation", "shape", "options", "width"),
    [
        (DenseLocalisation, (9, 8, 2), {}, 32),
        (DenseLocalisation, (9, 8, 2), {"units": (5, 7)}, 7),
        (DenseLocalisation, (9, 8, 2), {"units": ()}, 144),
        (ConvLocalisation, (28, 28, 2), {}, 20),
        (ConvLocalisation, (28, 28, 2), {"filters": 3, "units": 5}, 5),
        (StridedLocalisation, (84, 84, 1), {}, 8),
        (StridedLocalisation, (20, 24, 2), {"size": 3, "units": 5}, 5),
    ],
)
def test_says_how_many_features_it_gives(localisation, shape, options, width):
    def call():
        module = localisation(shape, **options, rngs=nnx.Rngs(0))
        assert module.num_features == width
        return module(jnp.ones((2, *shape)))

    assert jax.eval_shape(call).shape == (2, width)


@pytest.mark.parametrize("input_shape", [(25, 28, 1), (28, 25, 1), (8, 8, 1)])
def test_conv_refuses_small_inputs(input_shape):
    with pytest.raises(ValueError, match=r"26x26 at least, got \(\d+, \d+, 1\)"):
        ConvLocalisation(input_shape, rngs=nnx.Rngs(0))


def image(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_dense_is_matrix_products_and_relus():
    localisation = DenseLocalisation((5, 4, 2), units=(6, 5), rngs=nnx.Rngs(0))
    first, second = localisation.hidden
    first.bias[...] = jnp.linspace(-1, 1, 6)
    x = image(3, 5, 4, 2)
    kernels = [np.asarray(layer.kernel[...]) for layer in (first, second)]
    expected = np.maximum(x.reshape(3, 40) @ kernels[0] + np.linspace(-1, 1, 6), 0)
    expected = np.maximum(expected @ kernels[1], 0)
    assert (expected > 0).any() and (expected == 0).any()
    np.testing.assert_allclose(localisation(x), expected, rtol=1e-5, atol=1e-5)


def test_conv_equals_torch():
    torch = import_torch()
    f = torch.nn.functional
    localisation = ConvLocalisation((32, 41, 2), filters=3, units=6, rngs=nnx.Rngs(0))
    x = image(2, 32, 41, 2)

    def weights(layer):
        return torch.tensor(np.asarray(layer.kernel[...]))

    y = f.avg_pool2d(torch.tensor(x.transpose(0, 3, 1, 2)), 2)
    y = f.conv2d(y, weights(localisation.conv1).permute(3, 2, 0, 1))
    y = f.relu(f.max_pool2d(y, 2, ceil_mode=True))
    y = f.relu(f.conv2d(y, weights(localisation.conv2).permute(3, 2, 0, 1)))
    y = f.relu(y.permute(0, 2, 3, 1).flatten(1) @ weights(localisation.hidden))
    assert (y > 0).any()
    actual = nnx.jit(lambda module, x: module(x))(localisation, x)
    np.testing.assert_allclose(actual, y.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", [DenseLocalisation, ConvLocalisation, StridedLocalisation])
@pytest.mark.parametrize("shape", [(2, 30, 28, 1), (2, 28, 28, 3), (28, 28, 1)])
def test_other_inputs_than_it_was_built_for_are_named(network, shape):
    localisation = network((28, 28, 1), rngs=nnx.Rngs(0))
    message = rf"{network.__name__} was built for inputs \[B, 28, 28, 1\], got \[{shape[0]}, "
    with pytest.raises(ValueError, match=message):
        localisation(jnp.zeros(shape))


@pytest.mark.parametrize("network", [ConvLocalisation, StridedLocalisation])
def test_images_have_channels(network):
    with pytest.raises(ValueError, match=r"must be \(H, W, C\), got \(28, 28\)"):
        network((28, 28), rngs=nnx.Rngs(0))

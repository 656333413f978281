import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from stn_jax.models.layers import Conv, Dense, avg_pool, flatten, max_pool
from tests.oracles import import_torch

SIZES = [(4, 6), (5, 7), (4, 3), (1, 1), (2, 1)]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def literal_pool(x, reduce, *, ceil):
    _, height, width, _ = x.shape
    rows, cols = ((size + ceil) // 2 for size in (height, width))
    out = np.zeros((x.shape[0], rows, cols, x.shape[3]))
    for i, j in np.ndindex(rows, cols):
        out[:, i, j] = reduce(x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2], axis=(1, 2))
    return out


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("shift", [0, -10], ids=["mixed", "all negative"])
def test_max_pool_keeps_partial_windows(shape, shift):
    x = draw(2, *shape, 3) + np.float32(shift)
    np.testing.assert_array_equal(max_pool(x), literal_pool(x, np.max, ceil=True))


@pytest.mark.parametrize("shape", [s for s in SIZES if min(s) > 1])
def test_avg_pool_leaves_partial_windows_out(shape):
    x = draw(2, *shape, 3)
    expected = literal_pool(x, np.mean, ceil=False)
    np.testing.assert_allclose(avg_pool(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 6), (5, 7), (4, 3)])
@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_pools_and_their_gradients_equal_torch(pool, shape):
    torch = import_torch()
    x = draw(2, *shape, 3)
    u = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    if pool is max_pool:
        v = torch.nn.functional.max_pool2d(u, 2, ceil_mode=True)
    else:
        v = torch.nn.functional.avg_pool2d(u, 2)
    dy = draw(2, *v.shape[2:], 3, seed=1)
    v.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    y, dx = jax.jit(lambda x, dy: (pool(x), jax.vjp(pool, x)[1](dy)[0]))(x, dy)
    np.testing.assert_allclose(y, v.detach().numpy().transpose(0, 2, 3, 1), atol=1e-6)
    np.testing.assert_allclose(dx, u.grad.numpy().transpose(0, 2, 3, 1), atol=1e-6)


def test_equal_pixels_share_the_gradient_of_max_pool():
    windows = np.array([[3, 3, 3, 3], [3, 1, 3, 2], [0, 5, 1, 2]], np.float32)
    x = windows.reshape(3, 2, 2, 1)
    gradient = jax.jit(jax.grad(lambda x: max_pool(x).sum()))(x).reshape(3, 4)
    np.testing.assert_array_equal(gradient, [[0.25] * 4, [0.5, 0, 0.5, 0], [0, 1, 0, 0]])


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_pools_keep_the_dtype(pool):
    x = jax.ShapeDtypeStruct((1, 5, 5, 2), jnp.bfloat16)
    assert jax.eval_shape(pool, x).dtype == jnp.bfloat16


def test_flatten_goes_row_by_row_with_channels_last():
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(flatten(x), x.reshape(2, 60))
    assert flatten(np.zeros((0, 3, 4, 5))).shape == (0, 60)


@pytest.mark.parametrize(
    ("layer", "fan_in", "shape"),
    [
        (Dense(300, 400, rngs=nnx.Rngs(0)), 300, (300, 400)),
        (Conv(8, 64, 7, rngs=nnx.Rngs(0)), 8 * 49, (7, 7, 8, 64)),
    ],
    ids=["dense", "conv"],
)
def test_weights_start_he_normal_and_biases_zero(layer, fan_in, shape):
    kernel = np.asarray(layer.kernel[...])
    assert kernel.shape == shape
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / fan_in), rtol=0.02)
    assert abs(kernel.mean()) < 4 * np.sqrt(2 / fan_in / kernel.size)
    np.testing.assert_array_equal(layer.bias[...], np.zeros(shape[-1]))


@pytest.mark.parametrize("pad", [0, 1, 3])
def test_conv_pads_with_zeros_and_adds_the_bias(pad):
    conv = Conv(2, 3, 5, pad=pad, rngs=nnx.Rngs(0))
    conv.bias[...] = jnp.array([1.0, -2.0, 3.0])
    x = draw(2, 7, 6, 2)
    expected = lax.conv_general_dilated(
        x,
        conv.kernel[...],
        window_strides=(1, 1),
        padding=[(pad, pad)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert expected.shape == (2, 7 + 2 * pad - 4, 6 + 2 * pad - 4, 3)
    np.testing.assert_allclose(conv(x), expected + np.array([[[[1, -2, 3]]]]), atol=1e-5)


def test_conv_equals_torch():
    torch = import_torch()
    conv = Conv(3, 4, 5, pad=2, rngs=nnx.Rngs(1))
    conv.bias[...] = jnp.asarray(draw(4))
    x = draw(2, 9, 8, 3)
    kernel = np.asarray(conv.kernel[...]).transpose(3, 2, 0, 1)
    expected = torch.nn.functional.conv2d(
        torch.tensor(x.transpose(0, 3, 1, 2)),
        torch.tensor(kernel),
        torch.tensor(np.asarray(conv.bias[...])),
        padding=2,
    )
    np.testing.assert_allclose(conv(x), expected.numpy().transpose(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize("make", [lambda r: Conv(2, 3, 3, rngs=r), lambda r: Dense(2, 3, rngs=r)])
def test_half_precision_input_is_promoted_to_the_weights(make):
    layer = make(nnx.Rngs(0))
    x = jnp.asarray(draw(2, 4, 4, 2), jnp.bfloat16)
    out = layer(x)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, layer(x.astype(jnp.float32)))

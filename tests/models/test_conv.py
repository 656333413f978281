import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from stn_jax.models.conv import _blocked_conv2d, _fourier_conv2d, conv2d
from tests.oracles import import_torch

# Image, kernel, input channels, filters. Even and odd sizes have different Fourier frequencies.
CASES = {
    "kernel as large as the image": ((9, 2), (9, 2), 1, 2),
    "1x1 kernel": ((7, 5), (1, 1), 3, 4),
    "wide image, tall kernel": ((6, 11), (5, 2), 2, 3),
    "tall image, wide kernel": ((12, 8), (2, 7), 4, 5),
    "square": ((10, 10), (4, 4), 5, 3),
    "odd sizes": ((11, 7), (4, 3), 2, 3),
    "many channels": ((9, 8), (5, 4), 16, 12),
    "one filter": ((8, 9), (3, 2), 5, 1),
}
every_case = pytest.mark.parametrize(
    ("shape", "size", "channels", "filters"), CASES.values(), ids=CASES
)
# As chosen by size, and both of the ways that CPUs have.
every_way = pytest.mark.parametrize("conv", [conv2d, _blocked_conv2d, _fourier_conv2d])


def arrays(shape, size, channels, filters, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, *shape, channels))
    kernel = rng.normal(size=(*size, channels, filters))
    dy = rng.normal(size=(batch, shape[0] - size[0] + 1, shape[1] - size[1] + 1, filters))
    return [a.astype(np.float32) for a in (x, kernel, dy)]


def xla_conv(x, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout)


def value_and_gradients(conv):
    def compute(x, kernel, dy):
        y, pullback = jax.vjp(conv, x, kernel)
        return y, *pullback(dy)

    return compute


@pytest.mark.parametrize(
    ("platform", "ours_is_used"), [("cpu", True), ("cuda", False), ("tpu", False)]
)
def test_it_is_xla_s_own_but_on_cpus(platform, ours_is_used):
    x, kernel, dy = arrays((10, 10), (4, 4), 5, 3)
    traced = jax.jit(value_and_gradients(conv2d)).trace(x, kernel, dy)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == (0 if ours_is_used else 3)
    assert ("stablehlo.dot_general" in text) == ours_is_used


xla = jax.jit(value_and_gradients(xla_conv))


@functools.cache
def ours(conv, *case):
    return jax.jit(value_and_gradients(conv))(*arrays(*case))


def assert_all_close(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape and a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4)


@every_way
@every_case
def test_equals_the_literal_sum(conv, shape, size, channels, filters):
    x, kernel, dy = arrays(shape, size, channels, filters)
    actual, *_ = ours(conv, shape, size, channels, filters)
    expected = np.zeros(dy.shape)
    for i, j in np.ndindex(dy.shape[1:3]):
        window = x[:, i : i + size[0], j : j + size[1]].astype(np.float64)
        expected[:, i, j] = np.einsum("bijc,ijcf->bf", window, kernel)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@every_way
@every_case
def test_value_and_both_gradients_equal_xla(conv, shape, size, channels, filters):
    expected = xla(*arrays(shape, size, channels, filters))
    assert_all_close(ours(conv, shape, size, channels, filters), expected)


@pytest.mark.parametrize(
    ("shape", "batch", "way"),
    [
        # The convolutions of R's CNN: one channel; many; many, but one output; one small image.
        ((28, 28, 1, 93, 9), 256, _blocked_conv2d),
        ((10, 10, 93, 93, 7), 256, _fourier_conv2d),
        ((7, 7, 93, 93, 7), 256, _blocked_conv2d),
        ((10, 10, 93, 93, 7), 1, _blocked_conv2d),
    ],
)
def test_the_way_with_less_work_is_taken(shape, batch, way):
    height, width, channels, filters, size = shape
    x = jax.ShapeDtypeStruct((batch, height, width, channels), np.float32)
    kernel = jax.ShapeDtypeStruct((size, size, channels, filters), np.float32)
    lowered = [jax.jit(f).lower(x, kernel).cost_analysis()["flops"] for f in (conv2d, way)]
    assert lowered[0] == lowered[1]


@every_way
@every_case
def test_value_and_both_gradients_equal_torch(conv, shape, size, channels, filters):
    torch = import_torch()
    data = arrays(shape, size, channels, filters)
    to_torch = [(0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)]
    x, kernel, dy = (torch.tensor(a.transpose(t)) for a, t in zip(data, to_torch, strict=True))
    x.requires_grad_()
    kernel.requires_grad_()
    y = torch.nn.functional.conv2d(x, kernel)
    y.backward(dy)
    y = y.detach().numpy().transpose(0, 2, 3, 1)
    expected = y, x.grad.numpy().transpose(0, 2, 3, 1), kernel.grad.numpy().transpose(2, 3, 1, 0)
    assert_all_close(ours(conv, shape, size, channels, filters), expected)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_strides_equal_torch(stride):
    torch = import_torch()
    x, kernel, _ = arrays((13, 12), (5, 3), 2, 3)
    actual, pullback = jax.vjp(lambda x, k: conv2d(x, k, stride=stride), x, kernel)
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, kernel)]
    y = torch.nn.functional.conv2d(
        theirs[0].permute(0, 3, 1, 2), theirs[1].permute(3, 2, 0, 1), stride=stride
    ).permute(0, 2, 3, 1)
    dy = np.random.default_rng(1).normal(size=actual.shape).astype(np.float32)
    y.backward(torch.tensor(dy))
    expected = [y.detach().numpy(), *(a.grad.numpy() for a in theirs)]
    assert_all_close([actual, *pullback(jnp.asarray(dy))], expected)


@pytest.mark.parametrize("channels", [1, 5])
def test_eager_equals_xla(channels):
    data = arrays((4, 3), (2, 1), channels, 2)
    assert_all_close(value_and_gradients(conv2d)(*data), xla(*data))


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("shared_batch", [True, False])
def test_vmapped_over_the_weights_of_seeds(channels, shared_batch):
    seeds = [arrays((6, 5), (2, 2), channels, 2, seed=s) for s in range(3)]
    x, kernel, dy = (np.stack(a) for a in zip(*seeds, strict=True))
    axes = (None, 0, None) if shared_batch else 0
    if shared_batch:
        x, dy = x[0], dy[0]
        seeds = [(x, k, dy) for k in kernel]
    vmapped = jax.jit(jax.vmap(value_and_gradients(conv2d), axes))(x, kernel, dy)
    for i, data in enumerate(seeds):
        assert_all_close([a[i] for a in vmapped], xla(*data))


@pytest.mark.parametrize("channels", [1, 5])
def test_training_steps_in_a_scan(channels):
    x, kernel, dy = arrays((6, 6), (2, 3), channels, 2, seed=1)

    def step(conv, kernel):
        return kernel - 1e-2 * jax.grad(lambda k: jnp.mean((conv(x, k) - dy) ** 2))(kernel)

    scanned, _ = jax.jit(lambda k: lax.scan(lambda k, _: (step(conv2d, k), None), k, length=5))(
        kernel
    )
    expected, xla_step = kernel, jax.jit(lambda k: step(xla_conv, k))
    for _ in range(5):
        expected = xla_step(expected)
    assert np.abs(expected - kernel).max() > 1e-2
    np.testing.assert_allclose(scanned, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 5])
def test_gradients_are_the_numeric_ones_up_to_second_order(channels):
    x, kernel, _ = arrays((4, 3), (2, 1), channels, 2)
    # In itself the convolution is quadratic: the sine gives it derivatives of every order.
    f = jax.jit(lambda x, kernel: jnp.sin(conv2d(x, kernel)))
    check_grads(f, (x, kernel / 4), 2, ["rev"], atol=2e-2, rtol=2e-2, eps=1e-2)


def test_gradient_of_one_argument_alone():
    x, kernel, dy = arrays((6, 5), (2, 2), 5, 2)
    for argument in (0, 1):
        actual, expected = (
            jax.jit(jax.grad(lambda *a, f=f: jnp.sum(f(*a) * dy), argument))(x, kernel)
            for f in (conv2d, xla_conv)
        )
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@every_way
def test_half_precision_gradients_keep_their_dtype(conv):
    data = [a.astype(jnp.bfloat16) for a in arrays((6, 5), (2, 2), 2, 2)]
    half = jax.jit(value_and_gradients(conv))(*data)
    assert [a.dtype for a in half] == [jnp.bfloat16] * 3
    single = xla(*(a.astype(np.float32) for a in data))
    for a, e in zip(half, single, strict=True):
        np.testing.assert_allclose(a.astype(np.float32), e, rtol=0.03, atol=0.1)


@pytest.mark.parametrize(
    ("x", "kernel", "message"),
    [
        ((2, 8, 8, 3), (5, 5, 1, 4), r"as many channels .* got \[2, 8, 8, 3\] and \[5, 5, 1, 4\]"),
        ((8, 8, 1), (5, 5, 1, 4), r"x \[B, H, W, C\] .* got \[8, 8, 1\]"),
        ((2, 8, 4, 1), (5, 5, 1, 4), "a kernel of 5x5 pixels does not fit in an image of 8x4"),
    ],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_what_does_not_fit_is_named(x, kernel, message, stride):
    with pytest.raises(ValueError, match=message):
        conv2d(jnp.zeros(x), jnp.zeros(kernel), stride=stride)


def test_no_images_have_no_outputs():
    y, dx, dw = value_and_gradients(conv2d)(
        jnp.zeros((0, 8, 8, 3)), jnp.ones((5, 5, 3, 4)), jnp.zeros((0, 4, 4, 4))
    )
    assert y.shape == (0, 4, 4, 4) and dx.shape == (0, 8, 8, 3)
    np.testing.assert_array_equal(dw, np.zeros((5, 5, 3, 4)))

"""The networks of traffic signs (G3, G4)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stn_jax.geometry import restricted
from stn_jax.models.contrast import WINDOWS, normalise_contrast
from stn_jax.models.gtsrb import SignCNN, SignLocalisation
from stn_jax.models.pure import count_params, functional

IMAGE = (48, 48, 3)


pytestmark = pytest.mark.usefixtures("numpy_weights")


def shapes(image=IMAGE, **options):
    model = functional(lambda rngs: SignCNN(image, rngs=rngs, **options))
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    assert state == {}
    return params


# a, b, c, d = 150, 200, 300, 350: weights and biases, added up by hand. 48-23-12-6.
CNN = (
    7 * 7 * 3 * 150 + 150,  # 22,200
    4 * 4 * 150 * 200 + 200,  # 480,200
    4 * 4 * 200 * 300 + 300,  # 960,300
    6 * 6 * 300 * 350 + 350,  # 3,780,350
    350 * 43 + 43,  # 15,093
)
# 200, 300, 200 on the image: 48-24-12-6.
FIRST = (15_000 + 200, 1_500_000 + 300, 6 * 6 * 300 * 200 + 200, 200 * 6 + 6)
# 150, 150, 150 before conv2, on 23x23x150: 23-11-5-2.
SECOND = (562_500 + 150, 562_500 + 150, 2 * 2 * 150 * 150 + 150, 150 * 6 + 6)
# 150, 150, 150 before conv3, on 12x12x200: 12-6-3-1.
THIRD = (750_000 + 150, 562_500 + 150, 150 * 150 + 150, 150 * 6 + 6)
WIDTHS = {1: (200, 300, 200), 2: (150, 150, 150), 3: (150, 150, 150)}


@pytest.mark.parametrize(
    ("before", "extra"),
    [((), ()), ((1,), FIRST), ((1, 3), FIRST + THIRD), ((1, 2, 3), FIRST + SECOND + THIRD)],
)
def test_parameters_counted_by_hand(before, extra):
    params = shapes(localisations={number: WIDTHS[number] for number in before})
    assert count_params(params) == sum(CNN) + sum(extra)


def test_layers_in_order():
    params = shapes(localisations=WIDTHS)
    kernels = [params["convs"][str(i)]["kernel"].shape for i in range(3)]
    assert kernels == [(7, 7, 3, 150), (4, 4, 150, 200), (4, 4, 200, 300)]
    assert params["hidden"]["kernel"].shape == (6 * 6 * 300, 350)
    inputs = [
        params["transformers"][str(i)]["localisation"]["conv1"]["kernel"].shape for i in range(3)
    ]
    assert inputs == [(5, 5, 3, 200), (5, 5, 150, 150), (5, 5, 200, 150)]


def test_the_other_published_width():
    params = shapes(widths=(200, 250, 350, 400), localisations={1: WIDTHS[1]})
    parts = (29_600, 800_250, 1_400_350, 6 * 6 * 350 * 400 + 400, 400 * 43 + 43)
    assert count_params(params) == sum(parts) + sum(FIRST)


def small(seed=0, **options):
    model = functional(lambda rngs: SignCNN((20, 20, 3), widths=(4, 5, 6, 7), rngs=rngs, **options))
    params, state = model.init(jax.random.key(seed))
    image = np.random.default_rng(seed).normal(size=(2, 20, 20, 3)).astype(np.float32)
    return model, params, state, image


def convolved(x, conv):
    """The convolution as its sum over a window, NumPy."""
    kernel, bias = (np.asarray(conv[name], np.float64) for name in ("kernel", "bias"))
    side = kernel.shape[0]
    x = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    height, width = (n - side + 1 for n in x.shape[1:3])
    return bias + sum(
        x[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(side) for j in range(side)
    )


def pooled(x):
    """Whole 2x2 windows, NumPy."""
    height, width = (n // 2 for n in x.shape[1:3])
    x = x[:, : 2 * height, : 2 * width]
    return x.reshape(len(x), height, 2, width, 2, -1).max(axis=(2, 4))


def dense(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])


@pytest.mark.parametrize("normalise", ["", "box"])
def test_each_layer_in_turn(normalise):
    """ReLU, pooling and normalisation after each convolution, written out."""
    model, params, state, image = small(normalise=normalise)
    x = image.astype(np.float64)
    for number in range(3):
        x = pooled(np.maximum(convolved(x, params["convs"][str(number)]), 0))
        if normalise:
            x = np.asarray(normalise_contrast(x.astype(np.float32), WINDOWS["box"]))
    x = np.maximum(dense(x.reshape(len(x), -1), params["hidden"]), 0)
    logits, extra = jax.jit(model.apply)(params, state, image)[0]
    assert extra == {}
    expected = dense(x, params["classifier"])
    np.testing.assert_allclose(logits, expected, rtol=2e-3, atol=2e-3)


def test_the_localiser_written_out():
    localiser = SignLocalisation((21, 18, 3), widths=(4, 5, 6), rngs=nnx.Rngs(0))
    image = np.random.default_rng(0).normal(size=(2, 21, 18, 3)).astype(np.float32)
    x = pooled(image.astype(np.float64))
    for conv in (localiser.conv1, localiser.conv2):
        weights = {"kernel": conv.kernel[...], "bias": conv.bias[...]}
        x = pooled(np.maximum(convolved(x, weights), 0))
    hidden = {"kernel": localiser.hidden.kernel[...], "bias": localiser.hidden.bias[...]}
    expected = np.maximum(dense(x.reshape(2, -1), hidden), 0)
    np.testing.assert_allclose(nnx.jit(localiser)(image), expected, rtol=1e-4, atol=1e-5)


def test_before_training_transformers_change_nothing():
    """With the other weights equal, the network is that without them; zeros outside."""
    widths = dict.fromkeys((1, 3), (3, 3, 3))
    # Maps of 20 pixels become 9, 5, 3: too small for the third's localiser.
    with pytest.raises(ValueError, match=r"8x8 at least, got \(5, 5, 5\)"):
        small(localisations=widths)
    model, params, state, image = small(localisations={1: (3, 3, 3), 2: (2, 2, 2)})
    apply = jax.jit(model.apply)
    logits, extra = apply(params, state, image)[0]
    np.testing.assert_array_equal(extra["warped"], image)
    np.testing.assert_array_equal(extra["theta"], np.tile([1, 0, 0, 0, 1, 0], (2, 2, 1)))
    plain, _, _, _ = small()
    without = {name: params[name] for name in ("convs", "hidden", "classifier")}
    bare = jax.jit(plain.apply)(without, state, image)[0][0]
    np.testing.assert_allclose(logits, bare, rtol=1e-5, atol=1e-5)
    params["transformers"]["0"]["regression"]["bias"] = jnp.float32([2, 0, 0, 0, 2, 0])
    warped = apply(params, state, image)[0][1]["warped"]
    assert np.all(np.asarray(warped)[:, 0] == 0) and np.any(np.asarray(warped)[:, 10])


def test_restricted_transformers_regress_fewer_parameters():
    localisations = {1: (3, 3, 3)}
    for parts, count in ((("rotation",), 1), (("scale", "translation"), 3)):
        params = shapes((20, 20, 3), localisations=localisations, transform=restricted(*parts))
        assert params["transformers"]["0"]["regression"]["kernel"].shape == (3, count)


def test_where_dropout_stands(dropouts):
    model, params, state, image = small(dropout=0.3, localisations={1: (3, 3, 3)})
    jax.eval_shape(lambda: model.apply(params, state, image, train=True, key=jax.random.key(0)))
    assert dropouts == [(0.3, (2, 3 * 3 * 6)), (0.3, (2, 7))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"localisations": {4: (1, 1, 1)}}, r"before convolution 1, 2 or 3, got \[4\]"),
        ({"normalise": "global"}, "unknown normalise 'global'; there are gaussian, box, or ''"),
        ({"widths": (1, 2, 3)}, r"three convolutions and a dense layer, got \(1, 2, 3\)"),
    ],
)
def test_networks_that_there_are_not(options, message):
    with pytest.raises(ValueError, match=message):
        SignCNN(IMAGE, rngs=nnx.Rngs(0), **options)

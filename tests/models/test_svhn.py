"""The networks of house numbers (H6 to H11)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stn_jax.models import svhn
from stn_jax.models.pure import count_params, functional
from stn_jax.models.svhn import ImageLocalisation, SequenceCNN, svhn_model

IMAGE = (64, 64, 3)


def shapes(name, image=IMAGE, **options):
    model = functional(svhn_model(name, image, **options))
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    assert state == {}
    return params


def kernel_shapes(node):
    """Return the shapes of the kernels of a list of layers, in order."""
    return [node[str(i)]["kernel"].shape for i in range(len(node))]


def small(seed=0, **options):
    """Return a network of a few filters, with what it needs to be applied."""
    options = {"layers": ((4, True), (6, False), (5, True)), "units": 16, **options}
    model = functional(lambda rngs: SequenceCNN((12, 12, 3), rngs=rngs, **options))
    params, state = model.init(jax.random.key(seed))
    image = np.random.default_rng(seed).normal(size=(3, 12, 12, 3)).astype(np.float32)
    return model, params, state, image


def test_layers_of_the_cnn():
    """H6, H7: filters, sizes and 4x4x192 before the dense layers; eleven hidden layers."""
    params = shapes("cnn")
    filters = [48, 64, 128, 160, 192, 192, 192, 192]
    expected = [(5, 5, i, o) for i, o in zip([3, *filters], filters, strict=False)]
    assert kernel_shapes(params["convs"]) == expected
    assert kernel_shapes(params["hidden"]) == [(4 * 4 * 192, 3072), (3072, 3072), (3072, 3072)]
    assert params["classifier"]["kernel"].shape == (3072, 5 * 11)
    assert len(params["convs"]) + len(params["hidden"]) == 11


def test_the_layers_that_the_appendix_prints():
    """H7: seven convolutions; otherwise the same network."""
    params = shapes("cnn", layers="appendix")
    filters = [48, 64, 128, 160, 192, 192, 192]
    assert [shape[-1] for shape in kernel_shapes(params["convs"])] == filters
    assert params["hidden"]["0"]["kernel"].shape == (4 * 4 * 192, 3072)
    without_bias = 5 * 5 * 192 * 192
    assert count_params(shapes("cnn")) - count_params(params) == without_bias + 192


# Weights and biases of the layers that A.5 lists, added up by hand.
CNN_64 = (
    *(3_648, 76_864, 204_928, 512_160, 768_192, 921_792, 921_792, 921_792),
    *(9_440_256, 9_440_256, 9_440_256),
    168_960 + 55,
)


@pytest.mark.parametrize(
    ("name", "image", "extra"),
    [
        ("cnn", (64, 64, 3), 0),
        # conv, conv, fc of 32x32x32 inputs, fc, regression
        ("st_cnn_single", (64, 64, 3), 2_432 + 25_632 + 1_048_608 + 1_056 + 198),
        # fc of 64x64x3, 32x32x48, 32x32x64 and 16x16x128 inputs; each with fc and regression
        (
            "st_cnn_multi",
            (64, 64, 3),
            393_248 + 1_572_896 + 2_097_184 + 1_048_608 + 4 * (1_056 + 198),
        ),
        # H11: at 128 px the first dense layer has 8x8x192 inputs.
        ("cnn", (128, 128, 3), 3 * 4 * 4 * 192 * 3072),
        # There the localisers' first dense layers have four times the inputs, too.
        (
            "st_cnn_single",
            (128, 128, 3),
            3 * 4 * 4 * 192 * 3072 + 2_432 + 25_632 + 4 * 32**4 + 32 + 1_056 + 198,
        ),
        (
            "st_cnn_multi",
            (128, 128, 3),
            3 * 4 * 4 * 192 * 3072
            + 4 * 32 * (64 * 64 * 3 + 32 * 32 * 48 + 32 * 32 * 64 + 16 * 16 * 128)
            + 4 * (32 + 1_056 + 198),
        ),
    ],
)
def test_parameters_counted_by_hand(name, image, extra):
    assert count_params(shapes(name, image)) == sum(CNN_64) + extra


def test_inputs_of_the_four_transformers():
    """H10: one before each of the first four convolutions, of the sizes that A.5 implies."""
    transformers = shapes("st_cnn_multi")["transformers"]
    sizes = [64 * 64 * 3, 32 * 32 * 48, 32 * 32 * 64, 16 * 16 * 128]
    for number, size in enumerate(sizes):
        hidden = transformers[str(number)]["localisation"]["hidden"]
        assert kernel_shapes(hidden) == [(size, 32), (32, 32)]
        assert transformers[str(number)]["regression"]["kernel"].shape == (32, 6)
    assert len(transformers) == 4


def test_the_localisation_network_of_single():
    """H9: conv[32,5,1,2]-max[2]-conv[32,5,1,2]-fc[32]-fc[32]."""
    (only,) = shapes("st_cnn_single")["transformers"].values()
    found = {name: layer["kernel"].shape for name, layer in only["localisation"].items()}
    assert found == {
        "conv1": (5, 5, 3, 32),
        "conv2": (5, 5, 32, 32),
        "hidden1": (32 * 32 * 32, 32),
        "hidden2": (32, 32),
    }


def test_the_localisation_network_of_single_written_out():
    """H9: pooling and ReLU behind the first convolution, ReLU alone behind the second."""
    network = ImageLocalisation((6, 8, 2), units=8, rngs=nnx.Rngs(0))
    for number, layer in enumerate((network.conv1, network.conv2, network.hidden1)):
        layer.bias[...] = jax.random.normal(jax.random.key(number), layer.bias.shape)
    image = np.asarray(jax.random.normal(jax.random.key(9), (2, 6, 8, 2)), np.float64)

    def convolved(x, layer):
        x = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(1, 2))
        kernel = np.asarray(layer.kernel[...], np.float64)
        return np.einsum("nhwcij,ijcf->nhwf", windows, kernel) + np.asarray(layer.bias[...])

    x = convolved(image, network.conv1).reshape(2, 3, 2, 4, 2, 8).max(axis=(2, 4))
    x = np.maximum(convolved(np.maximum(x, 0), network.conv2), 0).reshape(2, -1)
    for layer in (network.hidden1, network.hidden2):
        x = np.maximum(x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...]), 0)
    assert 0 < np.mean(x > 0) < 1
    np.testing.assert_allclose(network(image.astype(np.float32)), x, rtol=1e-4, atol=1e-5)


def test_odd_images_keep_their_last_pixels():
    localisation = ImageLocalisation((7, 9, 1), units=3, rngs=nnx.Rngs(0))
    out = jax.eval_shape(lambda x: localisation(x), jnp.ones((2, 7, 9, 1)))
    assert out.shape == (2, 3)


def test_before_training_transformers_change_nothing(numpy_weights):
    """M5: with the other weights equal, the network is that without them."""
    model, params, state, image = small(localisations=svhn.MODELS["st_cnn_multi"][:3])
    logits, extra = jax.jit(model.apply)(params, state, image)[0]
    np.testing.assert_array_equal(extra["warped"], image)
    assert extra["theta"].shape == (3, 3, 6)
    np.testing.assert_array_equal(extra["theta"][0, 0], [1, 0, 0, 0, 1, 0])
    plain, _, _, _ = small()
    without = {name: params[name] for name in ("convs", "hidden", "classifier")}
    bare_logits, nothing = jax.jit(plain.apply)(without, state, image)[0]
    assert nothing == {}
    np.testing.assert_array_equal(logits, bare_logits)
    assert logits.shape == (3, 5, 11)


def test_each_layer_in_turn(numpy_weights):
    """The network written out: ReLU after each weight layer, pooling where it stands."""
    model, params, state, image = small()
    from scipy.signal import correlate

    x = image.astype(np.float64)
    for number, pooled in enumerate((True, False, True)):
        conv = {name: np.asarray(v, np.float64) for name, v in params["convs"][str(number)].items()}
        padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        out = [
            sum(
                correlate(one[..., i], conv["kernel"][..., i, o], mode="valid")
                for i in range(x.shape[-1])
            )
            for one in padded
            for o in range(conv["bias"].size)
        ]
        out = np.reshape(out, (len(x), -1, *out[0].shape)).transpose(0, 2, 3, 1) + conv["bias"]
        x = np.maximum(out, 0)
        if pooled:
            n = x.shape[1] // 2
            x = x.reshape(len(x), n, 2, n, 2, -1).max(axis=(2, 4))
    x = x.reshape(len(x), -1)
    for number in range(3):
        layer = params["hidden"][str(number)]
        x = np.maximum(x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"]), 0)
    layer = params["classifier"]
    expected = (x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])).reshape(3, 5, 11)
    np.testing.assert_allclose(
        jax.jit(model.apply)(params, state, image)[0][0], expected, rtol=1e-4
    )


def test_where_dropout_stands(dropouts, numpy_weights):
    """H13: behind every hidden layer but the first convolution; never in a localiser."""
    model, params, state, image = small(localisations=svhn.MODELS["st_cnn_multi"][:2])
    jax.eval_shape(lambda: model.apply(params, state, image, train=True, key=jax.random.key(0)))
    assert dropouts == [(0.5, shape) for shape in [(3, 6, 6, 6), (3, 3, 3, 5), *[(3, 16)] * 3]]


def test_width_scales_filters_and_units_but_those_of_localisers():
    narrow, full = (shapes("st_cnn_multi", width=width) for width in (0.25, 1.0))
    assert [shape[-1] for shape in kernel_shapes(narrow["convs"])][:3] == [12, 16, 32]
    assert narrow["hidden"]["2"]["kernel"].shape == (768, 768)
    for params in (narrow, full):
        last = params["transformers"]["3"]["localisation"]["hidden"]["1"]["kernel"]
        assert last.shape == (32, 32)
    (single,) = shapes("st_cnn_single", width=0.25)["transformers"].values()
    assert single["localisation"]["conv2"]["kernel"].shape == (5, 5, 32, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "st_cnn"}, "unknown model 'st_cnn'; there are cnn, st_cnn_single, st_cnn_multi"),
        ({"layers": "paper"}, "unknown layers 'paper'; there are slides, appendix"),
        ({"width": 0.0}, "above 0; got 0.0"),
    ],
)
def test_networks_that_there_are_not(options, message):
    with pytest.raises(ValueError, match=message):
        svhn_model(**{"name": "cnn", "input_shape": IMAGE, **options})

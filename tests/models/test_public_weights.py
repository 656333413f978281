"""Tables of other implementations' tensors; test_inception compares what the networks compute."""

import json
from pathlib import Path

import numpy as np
import pytest

from stn_jax.models.inception import ARCHITECTURES
from stn_jax.models.pretrained import WeightsError, expected_shapes
from stn_jax.models.public_weights import SOURCES, convert
from tests.models.inception_tensors import draw, fill

SHAPES = json.loads(Path(__file__).with_name("inception_shapes.json").read_text())


@pytest.mark.parametrize("source", SOURCES)
def test_every_layer_of_the_network_has_a_name_there(source):
    row = SOURCES[source]
    layers = {name.rpartition("/")[0] for name in expected_shapes(row.architecture)}
    layers -= {"classifier"} if "classifier" not in row.names else set()
    assert set(row.names) == layers
    assert len(set(row.names.values())) == len(row.names)
    assert row.architecture in ARCHITECTURES


@pytest.fixture(scope="module")
def slim():
    return fill(SHAPES["tf_slim_inception_v2"])


@pytest.fixture(scope="module")
def caffe():
    return fill(SHAPES["pytorch_bn_inception"])


def test_a_separable_convolution_is_one_convolution(slim):
    """In turn, with loops: each channel by its own kernels, then all of them by the 1x1."""
    depthwise = slim["InceptionV2/Conv2d_1a_7x7/depthwise_weights"]
    pointwise = slim["InceptionV2/Conv2d_1a_7x7/pointwise_weights"]
    window = draw("window", (7, 7, 3), -1, 1)
    between = [np.sum(window[..., c] * depthwise[..., c, m]) for c in range(3) for m in range(8)]
    expected = np.array(between) @ pointwise[0, 0]
    kernel = convert(SOURCES["tf_slim_inception_v2"], slim).tensors["blocks/conv_1/conv/kernel"]
    found = np.tensordot(window, kernel, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_background_class_is_left_out(slim):
    found = convert(SOURCES["tf_slim_inception_v2"], slim).tensors
    bias = slim["InceptionV2/Logits/Conv2d_1c_1x1/biases"]
    np.testing.assert_array_equal(found["classifier/bias"], bias[1:])
    assert found["classifier/kernel"].shape == (1024, 1000)


def test_old_files_of_bn_inception_have_another_axis(caffe):
    old = {name: array[None] if "_bn." in name else array for name, array in caffe.items()}
    source = SOURCES["pytorch_bn_inception"]
    one, other = convert(source, caffe).tensors, convert(source, old).tensors
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_tensors_that_training_needed_are_ignored(slim):
    source = SOURCES["tf_slim_inception_v2"]
    with_step = slim | {"global_step": np.int64(7)}
    assert convert(source, with_step).tensors.keys() == convert(source, slim).tensors.keys()


def test_the_header_says_how_to_read_images(slim, caffe):
    header = convert(SOURCES["pytorch_bn_inception"], caffe).header
    assert header["architecture"] == "bn_inception"
    assert header["missing"] == []
    assert header["preprocessing"] == {
        "order": "BGR",
        "mean": (104, 117, 128),
        "scale": 1,
        "of": "values from 0 to 255",
    }
    assert convert(SOURCES["tf_slim_inception_v2"], slim).header["preprocessing"]["order"] == "RGB"


def test_what_does_not_fit_is_named_in_one_error_in_their_names(slim):
    wrong = dict(slim)
    del wrong["InceptionV2/Mixed_3b/Branch_0/Conv2d_0a_1x1/weights"]
    del wrong["InceptionV2/Conv2d_1a_7x7/pointwise_weights"]
    wrong["InceptionV2/AuxLogits/weights"] = np.zeros(3)
    wrong["InceptionV2/Mixed_3b/Branch_3/Conv2d_0b_1x1/weights"] = np.zeros((1, 1, 192, 31))
    with pytest.raises(WeightsError) as info:
        convert(SOURCES["tf_slim_inception_v2"], wrong)
    assert str(info.value) == (
        "the weights do not fit the network: "
        "2 missing: InceptionV2/Conv2d_1a_7x7/pointwise_weights, "
        "InceptionV2/Mixed_3b/Branch_0/Conv2d_0a_1x1/weights; "
        "1 unexpected: InceptionV2/AuxLogits/weights; "
        "1 of another shape: InceptionV2/Mixed_3b/Branch_3/Conv2d_0b_1x1/weights (1, 1, 192, 31) "
        "for blocks/mixed_3b/pool_projection/kernel (1, 1, 192, 32)."
    )


@pytest.mark.parametrize(
    "name",
    [
        "conv1_7x7_s2.weight",
        "conv1_7x7_s2.bias",
        "conv1_7x7_s2_bn.bias",
        "conv1_7x7_s2_bn.running_mean",
        "last_linear.weight",
    ],
)
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5)])
def test_any_other_shape_is_named(name, shape, caffe):
    wrong = caffe | {name: np.zeros(shape)}
    with pytest.raises(WeightsError, match=r"network: 1 of another shape: ") as info:
        convert(SOURCES["pytorch_bn_inception"], wrong)
    assert f"{name} {shape}" in str(info.value)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("Logits/Conv2d_1c_1x1/weights", (3, 3)), ("Conv2d_1a_7x7/pointwise_weights", (2, 1))],
)
def test_windows_of_more_than_a_pixel_are_of_another_shape(name, shape, slim):
    name = f"InceptionV2/{name}"
    wrong = slim | {name: np.zeros((*shape, *slim[name].shape[2:]))}
    with pytest.raises(WeightsError, match=r"network: 1 of another shape: ") as info:
        convert(SOURCES["tf_slim_inception_v2"], wrong)
    assert name in str(info.value)


def test_a_tensor_that_two_are_made_of_is_missing_once(slim):
    name = "InceptionV2/Mixed_3b/Branch_0/Conv2d_0a_1x1/BatchNorm/beta"
    less = {key: value for key, value in slim.items() if key != name}
    with pytest.raises(WeightsError, match=rf"network: 1 missing: {name}\.$"):
        convert(SOURCES["tf_slim_inception_v2"], less)


def test_partly_is_a_choice_and_says_what_is_missing(slim, capsys):
    less = dict(slim)
    del less["InceptionV2/Mixed_3b/Branch_0/Conv2d_0a_1x1/weights"]
    weights = convert(SOURCES["tf_slim_inception_v2"], less, partial=True)
    assert weights.header["missing"] == ["blocks/mixed_3b/1x1/kernel"]
    assert "blocks/mixed_3b/1x1/kernel" not in weights.tensors
    assert capsys.readouterr().out == (
        "Missing, 1 tensors: InceptionV2/Mixed_3b/Branch_0/Conv2d_0a_1x1/weights\n"
    )

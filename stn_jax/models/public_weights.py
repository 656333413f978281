"""Public ImageNet weights of Inception networks: what their tensors are called, and hold.

A source says for each layer what it is called there (`names`), and for each kind of tensor of a
layer which of the source's it is made from and how (`rules`). What a source has besides, and these
networks have no use for, it lists as `ignored`; any other tensor is an error.

What is settled here, and not by an argument of the networks:

  separable first layer  TensorFlow-Slim's 7x7 convolution is a depthwise one and then a 1x1, with
                         nothing between: it is the one ordinary convolution of their product
                         (and the one without batch normalisation, as the network has it)
  no gamma               TensorFlow-Slim's batch normalisation has none: it is 1
  biases                 BN-Inception's convolutions have some, which batch normalisation's mean
                         takes off again: they are taken off the stored mean
  background class       TensorFlow-Slim's first of 1001 classes is left out
  transform_input        torchvision's network expects images normalised otherwise, and brings them
                         to -1 to 1, which is this project's input
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stn_jax.models.inception import get_architecture
from stn_jax.models.inception_v2 import WIDTHS
from stn_jax.models.pretrained import Weights, expected_shapes, raise_misfits

# Tensor of a layer here -> those of the source that it is made from, and the function of these.
Rules = dict[str, tuple[tuple[str, ...], Callable[..., np.ndarray]]]


@dataclass(frozen=True, eq=False)
class Source:
    """A publication of weights.

    Attributes:
      architecture: of the network that they are for.
      names: layer here -> layer there.
      rules: layer there -> its tensors, see `Rules`.
      ignored: a regular expression for the tensors that are of no use here.
    """

    architecture: str
    names: dict[str, str]
    rules: Callable[[str], Rules]
    ignored: str


def convert(source: Source, tensors: Mapping[str, np.ndarray], *, partial: bool = False) -> Weights:
    """Return a source's tensors as weights of this project's network.

    Args:
      source: of `SOURCES`.
      tensors: by the source's names.
      partial: whether tensors may be missing; they are printed.

    Returns:
      The weights, with "architecture", "preprocessing" and "missing" in the header.

    Raises:
      WeightsError: naming the tensors that are missing, unexpected or of another shape, as the
        source calls them.
    """
    expected = expected_shapes(source.architecture)
    found: dict[str, np.ndarray] = {}
    used, absent, lacking, shapes = set(), [], [], []
    for layer, theirs in source.names.items():
        for part, (names, function) in source.rules(theirs).items():
            name = f"{layer}/{part}"
            used |= set(names)
            if missing := [theirs for theirs in names if theirs not in tensors]:
                absent += missing
                lacking.append(name)
                continue
            try:
                value = function(*(tensors[theirs] for theirs in names))
            except (ValueError, IndexError):  # not even as many axes
                value = None
            if value is None or value.shape != expected[name]:
                given = " and ".join(f"{theirs} {tensors[theirs].shape}" for theirs in names)
                shapes.append(f"{given} for {name} {expected[name]}")
            else:
                found[name] = value
    absent = list(dict.fromkeys(absent))  # several may be made of one
    unexpected = [name for name in tensors if name not in used]
    unexpected = [name for name in unexpected if not re.fullmatch(source.ignored, name)]
    if partial and absent:
        print(f"Missing, {len(absent)} tensors: {', '.join(absent)}")
    raise_misfits([] if partial else absent, sorted(unexpected), shapes)
    network = get_architecture(source.architecture)
    header = {
        "architecture": source.architecture,
        "preprocessing": {
            "order": network.order,
            "mean": network.mean,
            "scale": network.scale,
            "of": "values from 0 to 255",
        },
        "missing": lacking,
    }
    return Weights(header, found)


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _ones(array: np.ndarray) -> np.ndarray:
    return np.ones_like(array)


def _kernel(array: np.ndarray) -> np.ndarray:
    """Return PyTorch's kernel [F, C, kh, kw] as [kh, kw, C, F]."""
    return array.transpose(2, 3, 1, 0)


def _separable(depthwise: np.ndarray, pointwise: np.ndarray) -> np.ndarray:
    """Return the kernel [kh, kw, C, F] of a depthwise [kh, kw, C, M] and a 1x1 [1, 1, C M, F]."""
    *size, channels, multiplier = depthwise.shape
    pointwise = pointwise.squeeze((0, 1)).reshape(channels, multiplier, -1)
    return np.einsum("ijcm,cmf->ijcf", depthwise, pointwise, dtype=np.float64).astype(np.float32)


def _without_bias(mean: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return the mean [F] of what has a bias [F], before that is added."""
    if mean.size != bias.size:
        raise ValueError(f"{mean.size} means, but {bias.size} biases.")
    return mean.ravel() - bias.ravel()


# TensorFlow-Slim, inception_v2_2016_08_28: variables of a checkpoint.

_SLIM_STEM = {
    "blocks/conv_1/conv": "Conv2d_1a_7x7",
    "blocks/conv_2_reduce/conv": "Conv2d_2b_1x1",
    "blocks/conv_2/conv": "Conv2d_2c_3x3",
}
_SLIM_BRANCHES = {
    "1x1": "Branch_0/Conv2d_0a_1x1",
    "3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "3x3": "Branch_1/Conv2d_0b_3x3",
    "double_3x3_reduce": "Branch_2/Conv2d_0a_1x1",
    "double_3x3_1": "Branch_2/Conv2d_0b_3x3",
    "double_3x3_2": "Branch_2/Conv2d_0c_3x3",
    "pool_projection": "Branch_3/Conv2d_0b_1x1",
}
_SLIM_HALVING = {
    "3x3_reduce": "Branch_0/Conv2d_0a_1x1",
    "3x3": "Branch_0/Conv2d_1a_3x3",
    "double_3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "double_3x3_1": "Branch_1/Conv2d_0b_3x3",
    "double_3x3_2": "Branch_1/Conv2d_1a_3x3",
}


def _slim_names() -> dict[str, str]:
    names = dict(_SLIM_STEM)
    for block, widths in WIDTHS.items():
        for layer, theirs in (_SLIM_BRANCHES if widths[0] else _SLIM_HALVING).items():
            names[f"blocks/{block}/{layer}"] = f"{block.capitalize()}/{theirs}"
    return names | {"classifier": "Logits/Conv2d_1c_1x1"}


def _slim_rules(name: str) -> Rules:
    scope = f"InceptionV2/{name}"
    if name.startswith("Logits"):
        return {
            "kernel": ((f"{scope}/weights",), lambda array: array.squeeze((0, 1))[:, 1:]),
            "bias": ((f"{scope}/biases",), lambda array: array[1:]),
        }
    if name == _SLIM_STEM["blocks/conv_1/conv"]:
        return {
            "kernel": (
                (f"{scope}/depthwise_weights", f"{scope}/pointwise_weights"),
                _separable,
            ),
            "bias": ((f"{scope}/biases",), _same),
        }
    return {
        "kernel": ((f"{scope}/weights",), _same),
        "scale": ((f"{scope}/BatchNorm/beta",), _ones),
        "bias": ((f"{scope}/BatchNorm/beta",), _same),
        "mean": ((f"{scope}/BatchNorm/moving_mean",), _same),
        "var": ((f"{scope}/BatchNorm/moving_variance",), _same),
    }


# BN-Inception, as PyTorch's state dict of the Caffe model.

# Block here -> as the publication and its Caffe model call it.
_CAFFE_BLOCKS = {
    "mixed_3b": "3a",
    "mixed_3c": "3b",
    "mixed_4a": "3c",
    "mixed_4b": "4a",
    "mixed_4c": "4b",
    "mixed_4d": "4c",
    "mixed_4e": "4d",
    "mixed_5a": "4e",
    "mixed_5b": "5a",
    "mixed_5c": "5b",
}
_CAFFE_STEM = {
    "blocks/conv_1/conv": "conv1_7x7_s2",
    "blocks/conv_2_reduce/conv": "conv2_3x3_reduce",
    "blocks/conv_2/conv": "conv2_3x3",
}


def _caffe_names() -> dict[str, str]:
    names = dict(_CAFFE_STEM)
    for block, theirs in _CAFFE_BLOCKS.items():
        for layer in _SLIM_BRANCHES if WIDTHS[block][0] else _SLIM_HALVING:
            called = "pool_proj" if layer == "pool_projection" else layer
            names[f"blocks/{block}/{layer}"] = f"inception_{theirs}_{called}"
    return names | {"classifier": "last_linear"}


def _caffe_rules(name: str) -> Rules:
    if name == "last_linear":
        return _torch_dense(name)
    # Statistics of the first file that was shared are [1, F].
    return {
        "kernel": ((f"{name}.weight",), _kernel),
        "scale": ((f"{name}_bn.weight",), np.ravel),
        "bias": ((f"{name}_bn.bias",), np.ravel),
        "mean": ((f"{name}_bn.running_mean", f"{name}.bias"), _without_bias),
        "var": ((f"{name}_bn.running_var",), np.ravel),
    }


def _torch_dense(name: str) -> Rules:
    return {
        "kernel": ((f"{name}.weight",), np.transpose),
        "bias": ((f"{name}.bias",), _same),
    }


# Inception-v3: torchvision's state dict, and the folded arrays of 2015.

# Kind of a block -> layer here -> (torchvision's name, the name of 2015).
_V3_LAYERS: dict[str, dict[str, tuple[str, str]]] = {
    "with_5x5": {
        "1x1": ("branch1x1", "conv"),
        "5x5_reduce": ("branch5x5_1", "tower_conv"),
        "5x5": ("branch5x5_2", "tower_conv_1"),
        "double_3x3_reduce": ("branch3x3dbl_1", "tower_1_conv"),
        "double_3x3_1": ("branch3x3dbl_2", "tower_1_conv_1"),
        "double_3x3_2": ("branch3x3dbl_3", "tower_1_conv_2"),
        "pool_projection": ("branch_pool", "tower_2_conv"),
    },
    "halving_with_3x3": {
        "3x3": ("branch3x3", "conv"),
        "double_3x3_reduce": ("branch3x3dbl_1", "tower_conv"),
        "double_3x3_1": ("branch3x3dbl_2", "tower_conv_1"),
        "double_3x3_2": ("branch3x3dbl_3", "tower_conv_2"),
    },
    "with_7x7": {
        "1x1": ("branch1x1", "conv"),
        "7x7_reduce": ("branch7x7_1", "tower_conv"),
        "7x7_1": ("branch7x7_2", "tower_conv_1"),
        "7x7_2": ("branch7x7_3", "tower_conv_2"),
        "double_7x7_reduce": ("branch7x7dbl_1", "tower_1_conv"),
        "double_7x7_1": ("branch7x7dbl_2", "tower_1_conv_1"),
        "double_7x7_2": ("branch7x7dbl_3", "tower_1_conv_2"),
        "double_7x7_3": ("branch7x7dbl_4", "tower_1_conv_3"),
        "double_7x7_4": ("branch7x7dbl_5", "tower_1_conv_4"),
        "pool_projection": ("branch_pool", "tower_2_conv"),
    },
    "halving_with_7x7": {
        "3x3_reduce": ("branch3x3_1", "tower_conv"),
        "3x3": ("branch3x3_2", "tower_conv_1"),
        "7x7_reduce": ("branch7x7x3_1", "tower_1_conv"),
        "7x7_1": ("branch7x7x3_2", "tower_1_conv_1"),
        "7x7_2": ("branch7x7x3_3", "tower_1_conv_2"),
        "7x7_halve": ("branch7x7x3_4", "tower_1_conv_3"),
    },
    "with_forks": {
        "1x1": ("branch1x1", "conv"),
        "3x3_reduce": ("branch3x3_1", "tower_conv"),
        "3x3_across": ("branch3x3_2a", "tower_mixed_conv"),
        "3x3_down": ("branch3x3_2b", "tower_mixed_conv_1"),
        "double_3x3_reduce": ("branch3x3dbl_1", "tower_1_conv"),
        "double_3x3": ("branch3x3dbl_2", "tower_1_conv_1"),
        "double_3x3_across": ("branch3x3dbl_3a", "tower_1_mixed_conv"),
        "double_3x3_down": ("branch3x3dbl_3b", "tower_1_mixed_conv_1"),
        "pool_projection": ("branch_pool", "tower_2_conv"),
    },
}
# Block here -> (kind, torchvision's name, the name of 2015).
_V3_BLOCKS: dict[str, tuple[str, str, str]] = {
    "mixed_0": ("with_5x5", "Mixed_5b", "mixed"),
    "mixed_1": ("with_5x5", "Mixed_5c", "mixed_1"),
    "mixed_2": ("with_5x5", "Mixed_5d", "mixed_2"),
    "mixed_3": ("halving_with_3x3", "Mixed_6a", "mixed_3"),
    "mixed_4": ("with_7x7", "Mixed_6b", "mixed_4"),
    "mixed_5": ("with_7x7", "Mixed_6c", "mixed_5"),
    "mixed_6": ("with_7x7", "Mixed_6d", "mixed_6"),
    "mixed_7": ("with_7x7", "Mixed_6e", "mixed_7"),
    "mixed_8": ("halving_with_7x7", "Mixed_7a", "mixed_8"),
    "mixed_9": ("with_forks", "Mixed_7b", "mixed_9"),
    "mixed_10": ("with_forks", "Mixed_7c", "mixed_10"),
}
_V3_STEM: dict[str, tuple[str, str]] = {
    "blocks/conv_0/conv": ("Conv2d_1a_3x3", "conv"),
    "blocks/conv_1/conv": ("Conv2d_2a_3x3", "conv_1"),
    "blocks/conv_2/conv": ("Conv2d_2b_3x3", "conv_2"),
    "blocks/conv_3/conv": ("Conv2d_3b_1x1", "conv_3"),
    "blocks/conv_4/conv": ("Conv2d_4a_3x3", "conv_4"),
}


def _torchvision_names() -> dict[str, str]:
    names = {layer: theirs for layer, (theirs, _) in _V3_STEM.items()}
    for block, (kind, scope, _) in _V3_BLOCKS.items():
        for layer, (theirs, _) in _V3_LAYERS[kind].items():
            names[f"blocks/{block}/{layer}"] = f"{scope}.{theirs}"
    return names | {"classifier": "fc"}


def _torchvision_rules(name: str) -> Rules:
    if name == "fc":
        return _torch_dense(name)
    return {
        "kernel": ((f"{name}.conv.weight",), _kernel),
        "scale": ((f"{name}.bn.weight",), _same),
        "bias": ((f"{name}.bn.bias",), _same),
        "mean": ((f"{name}.bn.running_mean",), _same),
        "var": ((f"{name}.bn.running_var",), _same),
    }


def _folded_names() -> dict[str, str]:
    names = {layer: theirs for layer, (_, theirs) in _V3_STEM.items()}
    for block, (kind, _, scope) in _V3_BLOCKS.items():
        for layer, (_, theirs) in _V3_LAYERS[kind].items():
            names[f"blocks/{block}/{layer}"] = f"{scope}_{theirs}"
    return names


def _folded_rules(name: str) -> Rules:
    return {"kernel": ((f"{name}/kernel",), _same), "bias": ((f"{name}/bias",), _same)}


# Name of a source -> what its tensors are. The folded arrays lack their classifier's kernel, and so
# the rest of it is of no use; the other ignored ones serve training from scratch.
SOURCES: dict[str, Source] = {
    "tf_slim_inception_v2": Source("inception_v2", _slim_names(), _slim_rules, r"global_step"),
    "pytorch_bn_inception": Source(
        "bn_inception", _caffe_names(), _caffe_rules, r".*\.num_batches_tracked"
    ),
    "torchvision_inception_v3": Source(
        "inception_v3",
        _torchvision_names(),
        _torchvision_rules,
        r".*\.num_batches_tracked|AuxLogits\..*",
    ),
    "folded_inception_v3": Source(
        "inception_v3_2015", _folded_names(), _folded_rules, "softmax/.*"
    ),
}

"""Records what other implementations of Inception give, for tests that need none of them.

  pip install torch torchvision pretrainedmodels pytorch-fid tensorflow-cpu tf-slim tf-keras
  python -m tests.models.record_inception

The weights are those of `inception_tensors`, the values what the packages themselves compute: for
each block the mean of its maps over the channels [h, w] and over the pixels [C], and the logits.
Beside them two checkpoints, of the old and of the new format, that TensorFlow writes.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stn_jax.models.inception_v2 import WIDTHS
from tests.models.inception_tensors import fill, image

FILE = Path(__file__).with_name("inception_activations.npz")
SHAPES = Path(__file__).with_name("inception_shapes.json")
CHECKPOINTS = Path(__file__).with_name("checkpoints")

# Block here -> the layer of which the output is recorded.
V3 = {
    "conv_0": "Conv2d_1a_3x3",
    "conv_1": "Conv2d_2a_3x3",
    "conv_2": "Conv2d_2b_3x3",
    "pool_0": "maxpool1",
    "conv_3": "Conv2d_3b_1x1",
    "conv_4": "Conv2d_4a_3x3",
    "pool_1": "maxpool2",
    "mixed_0": "Mixed_5b",
    "mixed_1": "Mixed_5c",
    "mixed_2": "Mixed_5d",
    "mixed_3": "Mixed_6a",
    "mixed_4": "Mixed_6b",
    "mixed_5": "Mixed_6c",
    "mixed_6": "Mixed_6d",
    "mixed_7": "Mixed_6e",
    "mixed_8": "Mixed_7a",
    "mixed_9": "Mixed_7b",
    "mixed_10": "Mixed_7c",
}
# The inputs of these layers are outputs of blocks: their own are not joined yet.
BN = {
    "conv_1": "pool1_3x3_s2",
    "pool_1": "conv2_3x3_reduce",
    "conv_2_reduce": "conv2_3x3",
    "conv_2": "pool2_3x3_s2",
    "pool_2": "inception_3a_1x1",
    "mixed_3b": "inception_3b_1x1",
    "mixed_3c": "inception_3c_pool",
    "mixed_4a": "inception_4a_1x1",
    "mixed_4b": "inception_4b_1x1",
    "mixed_4c": "inception_4c_1x1",
    "mixed_4d": "inception_4d_1x1",
    "mixed_4e": "inception_4e_pool",
    "mixed_5a": "inception_5a_1x1",
    "mixed_5b": "inception_5b_1x1",
}
SLIM = {
    "conv_1": "Conv2d_1a_7x7",
    "pool_1": "MaxPool_2a_3x3",
    "conv_2_reduce": "Conv2d_2b_1x1",
    "conv_2": "Conv2d_2c_3x3",
    "pool_2": "MaxPool_3a_3x3",
    **{name: name.capitalize() for name in WIDTHS},
}


def summary(maps: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Return what is kept of maps [1, h, w, C] by block."""
    kept = {}
    for name, value in maps.items():
        kept[f"{source}/{name}/pixels"] = value[0].mean(axis=-1, dtype=np.float64)
        kept[f"{source}/{name}/channels"] = value[0].mean(axis=(0, 1), dtype=np.float64)
    return {name: value.astype(np.float32) for name, value in kept.items()}


def torch_tensors(network) -> dict[str, np.ndarray]:
    """Fill a network with the tensors of its names, and return them."""
    import torch

    state = network.state_dict()
    shapes = {name: tuple(t.shape) for name, t in state.items() if t.is_floating_point()}
    tensors = fill(shapes)
    counters = {name: t for name, t in state.items() if name not in shapes}
    loaded = {name: torch.tensor(array) for name, array in tensors.items()}
    network.load_state_dict(loaded | counters)
    network.eval()
    return tensors


def as_torch(array: np.ndarray):
    import torch

    return torch.tensor(array.transpose(0, 3, 1, 2))


def as_numpy(tensor) -> np.ndarray:
    return tensor.detach().numpy().transpose(0, 2, 3, 1).copy()


def record_torch_v3(network, source: str) -> dict[str, np.ndarray]:
    import torch

    maps = {}
    for name, layer in V3.items():
        network.get_submodule(layer).register_forward_hook(
            lambda module, inputs, output, name=name: maps.update({name: as_numpy(output)})
        )
    with torch.no_grad():
        logits = network(as_torch(image(source)))
    return summary(maps, source) | {f"{source}/logits": logits[0].numpy()}


def torchvision() -> tuple[dict[str, np.ndarray], dict[str, tuple]]:
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, init_weights=False)
    tensors = torch_tensors(network)
    found = record_torch_v3(network, "torchvision_inception_v3")
    return found, {name: array.shape for name, array in tensors.items()}


def folded() -> tuple[dict[str, np.ndarray], dict[str, tuple]]:
    """Return those of the network of 2015, as it is rebuilt for the Frechet inception distance."""
    from pytorch_fid import inception as fid
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, init_weights=False, aux_logits=False)
    network.Mixed_5b = fid.FIDInceptionA(192, pool_features=32)
    network.Mixed_5c = fid.FIDInceptionA(256, pool_features=64)
    network.Mixed_5d = fid.FIDInceptionA(288, pool_features=64)
    network.Mixed_6b = fid.FIDInceptionC(768, channels_7x7=128)
    network.Mixed_6c = fid.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6d = fid.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6e = fid.FIDInceptionC(768, channels_7x7=192)
    network.Mixed_7b = fid.FIDInceptionE_1(1280)
    network.Mixed_7c = fid.FIDInceptionE_2(2048)
    torch_tensors(network)
    found = record_torch_v3(network, "folded_inception_v3")
    found.pop("folded_inception_v3/logits")
    return found, {}


def bn_inception() -> tuple[dict[str, np.ndarray], dict[str, tuple]]:
    import torch
    from pretrainedmodels.models.bninception import BNInception

    source = "pytorch_bn_inception"
    network = BNInception()
    tensors = torch_tensors(network)
    maps = {}
    for name, layer in BN.items():
        # Copied: the next layer may overwrite it.
        network.get_submodule(layer).register_forward_pre_hook(
            lambda module, inputs, name=name: maps.update({name: as_numpy(inputs[0])})
        )
    with torch.no_grad():
        last = network.features(as_torch(image(source)))
        maps["mixed_5c"] = as_numpy(last)
        logits = network.last_linear(last.mean(dim=(2, 3)))
    found = summary(maps, source) | {f"{source}/logits": logits[0].numpy()}
    return found, {name: array.shape for name, array in tensors.items()}


def tensorflow():
    """Return TensorFlow with the interface of version 1, as TensorFlow-Slim uses it."""
    # TensorFlow 2.21 looks for these modules where Keras no longer has them.
    for name in ("", ".base", ".convolutional", ".core", ".normalization", ".pooling"):
        module = importlib.import_module(f"tf_keras.src.legacy_tf_layers{name}")
        sys.modules[f"tf_keras.legacy_tf_layers{name}"] = module
    from tf_slim.layers import layers

    return layers.tf


def slim() -> tuple[dict[str, np.ndarray], dict[str, tuple]]:
    source, tf = "tf_slim_inception_v2", tensorflow()
    import tf_slim
    from tf_slim.nets import inception_v2

    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, (1, *image(source).shape[1:]))
        with tf_slim.arg_scope(inception_v2.inception_v2_arg_scope()):
            logits, maps = inception_v2.inception_v2(images, num_classes=1001, is_training=False)
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        shapes = {name: tuple(v.shape.as_list()) for name, v in variables.items()}
        tensors = fill(shapes)
        session.run([variable.assign(tensors[name]) for name, variable in variables.items()])
        wanted = {name: maps[layer] for name, layer in SLIM.items()} | {"logits": logits}
        values = session.run(wanted, {images: image(source)})
    classes = values.pop("logits")[0]
    return summary(values, source) | {f"{source}/logits": classes}, shapes


def checkpoints() -> None:
    """Write one tensor of each kind in both formats, and the values."""
    tf = tensorflow()
    CHECKPOINTS.mkdir(exist_ok=True)
    values = {
        "scope/weights": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
        "scope/weights_1": np.linspace(-1, 1, 5),
        "scope/counts": np.array([[1, -2], [3, 2**31 - 1]], np.int32),
        "global_step": np.int64(-(2**40)),
    }
    for version in (tf.train.SaverDef.V1, tf.train.SaverDef.V2):
        with tf.Graph().as_default(), tf.Session() as session:
            for name, value in values.items():
                tf.get_variable(name, initializer=value)
            tf.get_variable("text", initializer="not a number")
            session.run(tf.global_variables_initializer())
            name = {tf.train.SaverDef.V1: "old.ckpt", tf.train.SaverDef.V2: "new.ckpt"}[version]
            saver = tf.train.Saver(write_version=version)
            saver.save(session, str(CHECKPOINTS / name), write_meta_graph=False, write_state=False)
    np.savez(CHECKPOINTS / "values.npz", **values)


def main() -> None:
    found, shapes = {}, {}
    recorders = {
        "torchvision_inception_v3": torchvision,
        "folded_inception_v3": folded,
        "pytorch_bn_inception": bn_inception,
        "tf_slim_inception_v2": slim,
    }
    for source, record in recorders.items():
        values, tensors = record()
        found |= values
        shapes[source] = tensors
    np.savez_compressed(FILE, **found)
    SHAPES.write_text(json.dumps(shapes, separators=(",", ":")) + "\n", encoding="utf-8")
    checkpoints()


if __name__ == "__main__":
    main()

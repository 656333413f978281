"""Public files become one that networks load."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from scripts import convert_weights
from stn_jax.models.pretrained import load_weights
from stn_jax.models.public_weights import SOURCES
from tests.models.inception_tensors import fill
from tests.oracles import import_torch

SHAPES = json.loads(
    (Path(__file__).parents[1] / "models" / "inception_shapes.json").read_text(encoding="utf-8")
)
CHECKPOINTS = Path(__file__).parents[1] / "models" / "checkpoints"


@pytest.fixture
def folded(tmp_path):
    """A file like that of 2015, but with its first layer only."""
    arrays = {
        "conv/kernel": np.ones((3, 3, 3, 32), np.float16),
        "conv/bias": np.ones(32, np.float16),
        "softmax/bias": np.ones(1008, np.float16),
    }
    np.savez(tmp_path / "folded.npz", **arrays)
    return tmp_path / "folded.npz"


def test_a_partial_file_is_a_choice(folded, tmp_path, capsys):
    out = tmp_path / "out.npz"
    arguments = ["folded_inception_v3", str(folded), str(out)]
    with pytest.raises(SystemExit) as info:
        convert_weights.main(arguments)
    message = str(info.value)
    assert message.startswith("convert_weights.py: the weights do not fit the network: 186 missing")
    assert "mixed_9_tower_1_conv_1/kernel" in message
    assert not out.exists()

    convert_weights.main([*arguments, "--partial"])
    text = capsys.readouterr().out
    assert "Missing, 186 tensors: conv_1/kernel, conv_1/bias" in text
    assert f"Wrote {out}: 2 tensors, 896 values." in text
    assert "inception_v3_2015" in text
    weights = load_weights(out)
    assert weights.header["source"] == "folded_inception_v3"
    assert weights.header["file"] == "folded.npz"
    assert weights.header["sha256"] == hashlib.sha256(folded.read_bytes()).hexdigest()
    assert weights.tensors["blocks/conv_0/conv/kernel"].dtype == np.float16


def test_state_dicts_of_pytorch(tmp_path):
    torch, source = import_torch(), "pytorch_bn_inception"
    tensors = fill(SHAPES[source])
    state = {name: torch.tensor(array) for name, array in tensors.items()}
    state["conv1.num_batches_tracked"] = torch.tensor(3)
    torch.save(state, tmp_path / "weights.pth")
    out = tmp_path / "out.npz"
    convert_weights.main([source, str(tmp_path / "weights.pth"), str(out)])
    weights = load_weights(out)
    assert weights.header["architecture"] == SOURCES[source].architecture
    np.testing.assert_array_equal(
        weights.tensors["classifier/bias"], tensors[f"{SOURCES[source].names['classifier']}.bias"]
    )


def test_checkpoints_of_other_networks_are_refused(tmp_path):
    arguments = ["tf_slim_inception_v2", str(CHECKPOINTS / "new.ckpt"), str(tmp_path / "out.npz")]
    with pytest.raises(SystemExit) as info:
        convert_weights.main(arguments)
    assert "InceptionV2/Conv2d_1a_7x7/biases" in str(info.value)
    assert "3 unexpected: scope/counts, scope/weights, scope/weights_1" in str(info.value)


@pytest.mark.parametrize("content", [b"nothing of the kind" * 10, b"PK\x03\x04 not whole" * 10])
@pytest.mark.parametrize("source", SOURCES)
def test_files_of_another_kind_are_refused(source, content, tmp_path):
    if source.startswith(("pytorch", "torchvision")):
        import_torch()
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(SystemExit, match=r"convert_weights.py: .*weights is no "):
        convert_weights.main([source, str(tmp_path / "weights"), str(tmp_path / "out.npz")])
    with pytest.raises(SystemExit, match=r"convert_weights.py: .*absent"):
        convert_weights.main([source, str(tmp_path / "absent"), str(tmp_path / "out.npz")])

"""Checkpoints written by TensorFlow 2.21 (see record_inception) are read without it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from stn_jax.models.tensorflow_checkpoint import CheckpointError, read_checkpoint

FOLDER = Path(__file__).with_name("checkpoints")


@pytest.mark.parametrize("name", ["old.ckpt", "new.ckpt", "new.ckpt.index"])
def test_both_formats_are_read(name):
    found = read_checkpoint(FOLDER / name)
    with np.load(FOLDER / "values.npz") as expected:
        assert set(found) == set(expected.files)
        for key, array in found.items():
            assert array.dtype == expected[key].dtype
            np.testing.assert_array_equal(array, expected[key])


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "file.ckpt"
    path.write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match="is no TensorFlow checkpoint, or not a whole one"):
        read_checkpoint(path)
    path.write_bytes((FOLDER / "old.ckpt").read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="is no TensorFlow checkpoint, or not a whole one"):
        read_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="absent.ckpt"):
        read_checkpoint(tmp_path / "absent.ckpt")


@pytest.mark.parametrize("name", ["old.ckpt", "new.ckpt.index"])
def test_whatever_is_damaged_there_is_one_kind_of_error(tmp_path, name):
    for file in FOLDER.glob("new.ckpt.*"):
        shutil.copy(file, tmp_path)
    content = (FOLDER / name).read_bytes()
    refused = 0
    for place in range(0, len(content) - 8, max(1, len(content) // 300)):
        path = tmp_path / name
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            refused += str(path) in str(error) or "slices" in str(error) or "ends" in str(error)
        except FileNotFoundError:  # of a part with another number
            pass
    assert refused > 20


def test_a_part_of_the_values_is_refused(tmp_path):
    for file in FOLDER.glob("new.ckpt.*"):
        shutil.copy(file, tmp_path)
    data = next(tmp_path.glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="ends within"):
        read_checkpoint(tmp_path / "new.ckpt")

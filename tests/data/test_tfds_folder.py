"""Folders of TFDS; `record_tfrecord` has kept what its own builders write with TensorFlow."""

import re
import shutil

import pytest

from stn_jax.data import tfds_folder
from tests.data.record_tfrecord import FOLDER


@pytest.fixture
def digits(tmp_path):
    return shutil.copytree(FOLDER / "mnist/3.0.1", tmp_path / "3.0.1")


def test_features_are_decoded_or_left_as_they_are(digits):
    decoded = list(tfds_folder.examples(digits, "train"))
    assert len(decoded) == 23 and decoded[0]["image"].shape == (28, 28, 1)
    encoded = list(tfds_folder.examples(digits, "train", encoded=("image", "no_such_feature")))
    assert [e["label"] for e in encoded] == [e["label"] for e in decoded]
    assert all(e["image"].startswith(b"\x89PNG") for e in encoded)


def test_shards_are_read_in_their_order(digits):
    """Cut by hand: the format is a length, its checksum, the record, its checksum."""
    labels = [e["label"] for e in tfds_folder.examples(digits, "test")]
    (whole,) = digits.glob("*test*")
    data, records = whole.read_bytes(), []
    while data:
        size = 12 + int.from_bytes(data[:8], "little") + 4
        records.append(data[:size])
        data = data[size:]
    whole.unlink()
    for i, some in enumerate((records[:3], records[3:])):
        (digits / f"mnist-test.tfrecord-0000{i}-of-00002").write_bytes(b"".join(some))
    info = digits / "dataset_info.json"
    text = info.read_text()
    assert text.count('"7"') == 1
    info.write_text(re.sub(r'"7"', '"3", "4"', text))
    assert [e["label"] for e in tfds_folder.examples(digits, "test")] == labels


@pytest.mark.parametrize("damage", ["cut", "cut at a record", "emptied", "removed", "garbled"])
def test_damaged_files_are_refused_by_name(digits, damage):
    (file,) = digits.glob("*train*")
    data = file.read_bytes()
    first = 12 + int.from_bytes(data[:8], "little") + 4
    match damage:
        case "cut":
            file.write_bytes(data[:-5])
        case "cut at a record":
            file.write_bytes(data[:first])
        case "emptied":
            file.write_bytes(b"")
        case "removed":
            file.unlink()
        case "garbled":
            file.write_bytes(data[:12] + b"\xff" * (first - 16) + data[first - 4 :])
    with pytest.raises(ValueError, match=f"^{re.escape(str(digits))}: damaged .*prepare it again"):
        list(tfds_folder.examples(digits, "train"))

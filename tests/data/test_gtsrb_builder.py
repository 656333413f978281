import logging

import numpy as np
import pytest

from stn_jax.data import gtsrb_builder
from tests.data import builders
from tests.data import gtsrb_synthetic as synthetic


def prepare(place, manual_dir):
    return builders.prepare(gtsrb_builder.builder_class()(data_dir=place), manual_dir)


def test_images_boxes_and_tracks_come_back_in_order(tmp_path):
    builder = prepare(tmp_path / "place", synthetic.write_official(tmp_path / "files"))
    assert builder.info.full_name == f"stn_gtsrb/{gtsrb_builder.RELEASE}"
    for split, entries in zip(("train", "test"), synthetic.rows(), strict=True):
        examples = builder.as_data_source(split)
        assert len(examples) == len(entries)
        for example, (name, size, box, label) in zip(examples, entries, strict=True):
            assert example["name"].decode() == name
            np.testing.assert_array_equal(example["image"], synthetic.pixels(name, size))
            assert example["label"] == label
            track = name.rpartition("_")[0] if split == "train" else ""
            assert example["track"].decode() == track
            scaled = np.array(box) / np.tile(size, 2)
            np.testing.assert_allclose(example["bbox"], scaled[[1, 0, 3, 2]], rtol=1e-6)


def test_what_is_damaged_is_left_out_with_a_warning(tmp_path, caplog):
    files = synthetic.write_official(tmp_path / "files")
    (files / "Final_Test/Images/00003.ppm").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        builder = prepare(tmp_path / "place", files)
    assert builder.info.splits["test"].num_examples == 6
    assert "1 images are missing or damaged, and left out: 00003.ppm" in caplog.text


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a.txt").write_text("a")
    with pytest.raises(FileNotFoundError, match="has neither Final_Training nor sheets"):
        prepare(tmp_path / "place", tmp_path / "files")

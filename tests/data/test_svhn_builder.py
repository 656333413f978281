import importlib.util
import logging

import numpy as np
import pytest

from stn_jax.data import svhn_builder
from tests.data import builders
from tests.data import svhn_synthetic as synthetic


def prepare(place, manual_dir):
    return builders.prepare(svhn_builder.builder_class()(data_dir=place), manual_dir)


@pytest.fixture
def source(tmp_path):
    synthetic.write_folder(tmp_path / "source/train", synthetic.random_entries(12))
    synthetic.write_folder(tmp_path / "source/test", synthetic.random_entries(5, seed=1))
    synthetic.pack(tmp_path / "source/test")
    return tmp_path / "source"


def test_images_digits_and_boxes_come_back(source, tmp_path):
    (source / "test/digitStruct.mat").unlink()  # so the archive is read
    builder = prepare(tmp_path / "place", source)
    assert set(builder.info.splits) == {"train", "test"}
    for split, entries in (
        ("train", synthetic.random_entries(12)),
        ("test", synthetic.random_entries(5, seed=1)),
    ):
        examples = {e["name"].decode(): e for e in builder.as_data_source(split)}
        assert examples.keys() == {name for name, _, _ in entries}
        for name, labels, boxes in entries:
            example = examples[name]
            np.testing.assert_array_equal(example["image"], synthetic.pixels(name))
            digits = example["digits"]
            assert list(digits["label"]) == [label % 10 for label in labels]
            left, top, width, height = np.array(boxes).T
            expected = np.stack([top / 30, left / 40, (top + height) / 30, (left + width) / 40], 1)
            np.testing.assert_allclose(np.stack(digits["bbox"]), expected, rtol=1e-6)


def test_what_is_damaged_is_left_out_with_a_warning(source, tmp_path, caplog):
    (source / "train/3.png").unlink()
    (source / "train/5.png").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        builder = prepare(tmp_path / "place", source)
    assert builder.info.splits["train"].num_examples == 10
    assert "2 images are missing or damaged, and left out: 3.png, 5.png" in caplog.text


def test_what_is_changed_is_counted_in_warnings(tmp_path, caplog):
    good = (1, (2, 3, 8, 9))
    digits = {
        "1.png": [good],
        "2.png": [good, (12, (2, 3, 8, 9))],
        "3.png": [(2, (-4, 3, 8, 9)), good],
        "4.png": [(2, (30, 3, 18, 9)), (3, (70, 3, 8, 9))],
        "5.png": [(2, (3, 3, 0, 9))],
    }
    entries = [(name, *map(list, zip(*found, strict=True))) for name, found in digits.items()]
    for split in ("train", "test"):
        synthetic.write_folder(tmp_path / "source" / split, entries[: 5 if split == "train" else 1])
    with caplog.at_level(logging.WARNING, logger=svhn_builder.__name__):
        prepare(tmp_path / "place", tmp_path / "source")
    found = [record.getMessage().split(": ")[1] for record in caplog.records]
    assert found == [
        "2 images have a box that reaches beyond it, and is clipped.",
        "1 images have a box without width or height.",
        "1 images have a box outside it, which has no area now.",
        "1 images have a digit whose label is none of 1 to 10, and is -1 now.",
    ]


def test_boxes_that_tfds_would_refuse():
    boxes = np.array([[-4, 5, 8, 40], [50, 1, 3, 3], [1, 2, -3, np.nan], [1, 2, np.inf, 3]])
    got = svhn_builder.relative_boxes(boxes, (40, 30))
    expected = [[5 / 30, 0, 1, 0.1], [1 / 30, 1, 4 / 30, 1], [2 / 30, 1 / 40] * 2]
    np.testing.assert_allclose(got[:3], expected)
    assert np.isfinite(got).all() and (got >= 0).all() and (got <= 1).all()
    assert (got[:, :2] <= got[:, 2:]).all()


def test_a_folder_with_only_one_split_is_refused(source, tmp_path):
    (source / "train").rename(source / "other")
    with pytest.raises(FileNotFoundError, match="lacks train"):
        prepare(tmp_path / "place", source)


def test_builder_describes_itself(tmp_path):
    builder = svhn_builder.builder_class()(data_dir=tmp_path)
    assert builder.info.full_name == f"stn_svhn/{svhn_builder.RELEASE}"
    assert "202,353 extra" in builder.info.description
    assert "Unsupervised Feature Learning" in builder.info.citation
    known = {info.filename: info.size for info in builder.url_infos.values()}
    assert set(known) == {"train.tar.gz", "test.tar.gz", "extra.tar.gz"}
    assert sum(known.values()) == 2_636_187_279


def test_tfds_own_test_of_builders(source, tmp_path):
    missing = [m for m in ("tensorflow", "dill") if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f"tfds.testing.DatasetBuilderTestCase needs {' and '.join(missing)}")
    import unittest

    import tensorflow_datasets as tfds

    class StnSvhnTest(tfds.testing.DatasetBuilderTestCase):
        DATASET_CLASS = svhn_builder.builder_class()
        SPLITS = {"train": 12, "test": 5}
        EXAMPLE_DIR = str(source)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(StnSvhnTest).run(result)
    assert result.wasSuccessful(), result.failures + result.errors

"""Birds that TFDS has prepared: by our builder, and by its own."""

import io
import json
import logging

import numpy as np
import pytest
from PIL import Image

from stn_jax.data import cub, cub_builder, cub_files, cub_prepare, cub_tfds
from tests.data import builders
from tests.data import cub_synthetic as synthetic
from tests.data.record_tfrecord import FOLDER as RECORDED


@pytest.fixture
def files(tmp_path):
    return synthetic.write(tmp_path / "files")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "place"


def ours(place, files):
    return builders.prepare(cub_builder.builder_class()(data_dir=place), files.parent)


def theirs(place):
    """Prepare TFDS's own data set of the made-up birds; its class alone would need TensorFlow."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification import caltech_birds

    with tfds.core.registered.skip_registration():

        class CaltechBirds2011(caltech_birds.CaltechBirds2011):
            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(split) for split in ("train", "test")}

            def _generate_examples(self, split):
                for image, path, number, train, size in synthetic.entries():
                    if train != (split == "train"):
                        continue
                    name = f"CUB_200_2011/images/{path}"
                    x, y, width, height = synthetic.box(image, size)
                    box = np.array([y, x, y + height, x + width]) / np.tile(size[::-1], 2)
                    yield (
                        name,
                        {
                            "image": io.BytesIO(synthetic.jpeg(image, size)),
                            "image/filename": name,
                            "label": number - 1,
                            "label_name": synthetic.CLASSES[number].partition(".")[2].lower(),
                            "bbox": tfds.features.BBox(*np.minimum(box, 1.0)),
                            "segmentation_mask": Image.new("L", size),
                        },
                    )

    return builders.prepare(CaltechBirds2011(data_dir=place))


def test_our_builder_keeps_all_that_is_published(files, place):
    builder = ours(place, files)
    assert builder.info.full_name == "stn_cub/1.0.0"
    for split in ("train", "test"):
        expected = {e[0]: e for e in synthetic.entries() if e[3] == (split == "train")}
        examples = {int(example["id"]): example for example in builder.as_data_source(split)}
        assert examples.keys() == expected.keys()
        for image, path, number, _, size in expected.values():
            example = examples[image]
            picture = Image.open(io.BytesIO(synthetic.jpeg(image, size))).convert("RGB")
            np.testing.assert_array_equal(example["image"], picture)
            assert (example["name"].decode(), example["label"]) == (path, number - 1)
            np.testing.assert_allclose(
                example["part"], np.array(synthetic.parts(image, size))[:, :2], rtol=1e-6
            )


def test_what_our_builder_wrote_is_prepared_to_the_same_arrays(files, place, tmp_path):
    archive = synthetic.pack(files)
    folder = files.rename(tmp_path / "elsewhere")
    ours(tmp_path / "tfds", archive)
    for name, path in (("files", folder), ("tfds", tmp_path / "tfds")):
        cub_prepare.prepare(cub_prepare.find(path), place / name, size=16)
    found = [cub.load(place / name, size=16) for name in ("files", "tfds")]
    assert found[0].fingerprint == found[1].fingerprint


@pytest.mark.parametrize("stored", ["array_record", "tfrecord"])
def test_tfds_s_own_has_images_split_labels_and_boxes(files, place, tmp_path, stored):
    if stored == "array_record":
        theirs(tmp_path / "tfds")
        written = tmp_path / "tfds"
    else:
        written = RECORDED
    source = cub_prepare.find(written)
    assert source.path == written / "caltech_birds2011/0.2.0"
    cub_prepare.prepare(source, place / "tfds", size=16)
    cub_prepare.prepare(cub_prepare.find(files), place / "files", size=16)
    found, expected = (cub.load(place / name, size=16) for name in ("tfds", "files"))
    assert found.class_names == expected.class_names
    listed, official = source.read_lists(), cub_files.find(files).read_lists()
    assert listed.name == sorted(official.name) and not listed.parts
    rows = [official.name.index(name) for name in listed.name]
    assert listed.id.tolist() == [-1 - i for i in range(18)]
    for field in ("number", "train"):
        np.testing.assert_array_equal(getattr(listed, field), getattr(official, field)[rows])
    np.testing.assert_allclose(listed.box, official.box[rows], atol=1e-4)
    for ours_, published in ((found.train, expected.train), (found.test, expected.test)):
        assert len(ours_.id) == len(published.id)
        images = [
            {split.image(row).tobytes(): split.label[row] for row in range(len(split.id))}
            for split in (ours_, published)
        ]
        assert images[0] == images[1]
    with pytest.raises(cub.DataNotFoundError, match="0.2.0, which has no parts"):
        cub.load_annotations(place / "tfds", size=16)
    assert len(cub.load_annotations(place / "files", size=16).part) == 18


def test_what_is_damaged_is_left_out_with_a_warning(files, place, caplog):
    (files / "images" / synthetic.entries()[1][1]).write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        builder = ours(place, files)
    assert builder.info.splits["train"].num_examples == 11
    assert "1 images are missing or damaged, and left out: 002.Grey_Bird/" in caplog.text


def test_other_folders_and_formats(tmp_path):
    folder = tmp_path / "caltech_birds2011/0.2.0"
    folder.mkdir(parents=True)
    assert cub_tfds.find(tmp_path) is None
    info = folder / "dataset_info.json"
    info.write_text(json.dumps({"name": "caltech_birds2010", "fileFormat": "array_record"}))
    assert cub_tfds.find(tmp_path) is None
    info.write_text(json.dumps({"name": "caltech_birds2011", "fileFormat": "parquet"}))
    with pytest.raises(ValueError, match="in format parquet, not array_record or tfrecord"):
        cub_tfds.find(tmp_path)
    info.write_text(json.dumps({"name": "caltech_birds2011", "fileFormat": "array_record"}))
    with pytest.raises(ValueError, match="0.2.0: damaged .*; delete it and prepare it again"):
        cub_tfds.find(tmp_path).read_lists()
    info.write_text("{")
    with pytest.raises(ValueError, match="dataset_info.json: damaged"):
        cub_tfds.find(tmp_path)

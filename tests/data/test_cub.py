"""Birds (B1): from the publisher's files to arrays."""

import io
import itertools
import json
import logging

import numpy as np
import pytest
from PIL import Image

from stn_jax.data import archives, cub, cub_files, cub_prepare
from stn_jax.data.types import resolve_data_dir
from tests.data import cub_synthetic as synthetic

SIZE = 20


def prepared(path, place, size=SIZE, workers=1):
    cub_prepare.prepare(cub_prepare.find(path), place, size=size, workers=workers)
    return cub.load(place, size=size)


@pytest.fixture
def files(tmp_path):
    return synthetic.write(tmp_path / "files")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "place"


def split_of(train):
    return [entry for entry in synthetic.entries() if entry[3] == train]


@pytest.mark.parametrize("form", ["folder", "parent", "archive", "parent of the archive"])
def test_images_labels_and_numbers(files, place, form):
    """B1; grey images become RGB, labels count through the classes that there are."""
    path = {"folder": files, "parent": files.parent}.get(form)
    if path is None:
        path = synthetic.pack(files)
        files.rename(files.parent.parent / "elsewhere")
        path = path if form == "archive" else path.parent
    birds = prepared(path, place)
    assert birds.class_names == tuple(synthetic.CLASSES.values())
    for found, train in ((birds.train, True), (birds.test, False)):
        expected = split_of(train)
        assert [field.dtype for field in found[1:]] == [np.int64, np.int32, np.int32, np.int32]
        assert found.id.tolist() == [image for image, *_ in expected]
        labels = [list(synthetic.CLASSES).index(number) for _, _, number, *_ in expected]
        assert found.label.tolist() == labels
        for row, (image, _, _, _, size) in enumerate(expected):
            picture = Image.open(io.BytesIO(synthetic.jpeg(image, size))).convert("RGB")
            scale = SIZE / min(size)
            sides = tuple(int(side * scale + 0.5) for side in size)
            assert min(sides) == SIZE
            resized = np.asarray(picture.resize(sides, Image.Resampling.BILINEAR))
            np.testing.assert_array_equal(found.image(row), resized)
            assert found.shape[row].tolist() == list(resized.shape[:2])


def test_training_sees_neither_boxes_nor_parts(files, place):
    """B1."""
    birds = prepared(files, place)
    assert birds.train._fields == ("pixels", "start", "shape", "label", "id")
    other = cub_files.find(files).read_lists()
    assert other.box.any() and other.part_visible.any()


def test_annotations_are_in_pixels_of_the_original(files, place):
    birds = prepared(files, place)
    annotations = cub.load_annotations(place, size=SIZE)
    assert annotations.id.tolist() == list(range(1, 19))
    chosen = annotations.select(birds.test.id[::-1])
    for row, (image, _, _, _, size) in enumerate(reversed(split_of(False))):
        assert chosen.id[row] == image and chosen.size[row].tolist() == list(size)
        x, y, width, height = synthetic.box(image, size)
        np.testing.assert_allclose(chosen.box[row], [x, y, x + width, y + height], rtol=1e-6)
        parts = np.array(synthetic.parts(image, size))
        np.testing.assert_array_equal(chosen.visible[row], parts[:, 2] == 1)
        expected = np.where(parts[:, 2:] == 1, parts[:, :2], np.nan)
        np.testing.assert_allclose(chosen.part[row], expected, rtol=1e-6)
    with pytest.raises(ValueError, match="there is no image 77"):
        annotations.select(np.array([3, 77]))


def test_the_fingerprint_is_that_of_the_content(files, place):
    marks = {form: prepared(files, place / form).fingerprint for form in ("first", "again")}
    marks["archive"] = prepared(synthetic.pack(files), place / "archive").fingerprint
    assert len(set(marks.values())) == 1
    marks["other size"] = prepared(files, place / "again", size=16).fingerprint
    path = files / "bounding_boxes.txt"
    path.write_text(path.read_text().replace(" 2.0 ", " 2.5 ", 1))
    marks["other box"] = prepared(files, place / "boxes").fingerprint
    assert len(set(marks.values())) == 3


def test_some_of_the_classes_are_called_so(files, place, caplog):
    with caplog.at_level(logging.WARNING):
        birds = prepared(files, place)
    assert birds.name == "cub_20_3_classes"
    text = (
        "NOT the published CUB-200-2011: 12 images in train, not 5994, "
        "6 images in test, not 5794, 3 classes, not 200"
    )
    assert text in birds.source and text in caplog.text


def test_missing_and_damaged_images_are_counted_and_left_out(files, place):
    paths = {image: files / "images" / path for image, path, *_ in synthetic.entries()}
    for image in (7, 8, 9, 10, 11, 12):  # all of a class
        paths[image].unlink()
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[: len(content) // 2])
    paths[1].write_bytes(b"no image")
    birds = prepared(files, place)
    assert birds.counts == {
        "train": {"entries": 12, "written": 7, "missing_image": 4, "unreadable_image": 1},
        "test": {"entries": 6, "written": 3, "missing_image": 2, "unreadable_image": 1},
    }
    assert [*birds.train.id, *birds.test.id] == [3, 5, 6, 14, 15, 17, 18, 4, 13, 16]
    # The class without images keeps its number: what is left out changes no other label.
    assert sorted({*birds.train.label, *birds.test.label}) == [0, 2]
    said = list(cub_prepare.describe(cub.folder_of(place, SIZE)))
    assert said[0].endswith("20 train: 7 of 12 images")
    assert said[2].startswith("  left out: 6 (listed, but not there): 005.Red_Bird/")
    assert said[2].endswith(", ...")
    assert "left out: 2 (cannot be decoded): 002.Grey_Bird/" in said[3]


def test_a_split_without_images_is_an_error(files, place):
    for _, path, *_ in split_of(False):
        (files / "images" / path).unlink()
    with pytest.raises(FileNotFoundError, match="CUB_200_2011 has no image of the test split"):
        prepared(files, place)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("images", "\n2 ", "\nx ", r"images.txt, line 2: damaged \('x 002"),
        ("images", "\n2 ", "\n1 ", r"images.txt, line 2: damaged \('1 002"),
        ("images", "_0014_2.", "_0007_1.", "images.txt: lists an image twice"),
        ("image_class_labels", "\n3 2\n", "\n", "class_labels.txt: 0 lines .* of 1 for image 3"),
        ("image_class_labels", "\n3 2\n", "\n3 2\n3 2\n", "2 lines instead of 1 for image 3"),
        ("image_class_labels", "\n3 2\n", "\n3 9\n", "labels.txt: image 3 has the class 9"),
        ("image_class_labels", "\n3 2\n", "\n3 2\n99 2\n", "line 4: images.txt has no image 99"),
        ("train_test_split", "\n3 1\n", "\n3 2\n", "image 3 has 2, neither 0 nor 1"),
        ("train_test_split", "\n3 1\n", "\n3\n", r"train_test_split.txt, line 3: damaged \('3'\)"),
        ("bounding_boxes", "\n3 1.5 ", "\n3 nan ", "bounding_boxes.txt, line 3: damaged"),
        ("bounding_boxes", "\n3 1.5 ", "\n3 one ", "could not convert string to float: 'one'"),
        ("parts/part_locs", "\n2 3 ", "\n2 4 ", "part_locs.txt: damaged where image 2 is"),
        ("parts/parts", "beak", "bill", "parts.txt: not the 15 parts, back, beak, belly"),
        ("classes", "005", "", None),
    ],
)
def test_damaged_lists_are_refused_in_one_line(files, place, name, old, new, message):
    path = files / f"{name}.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    if message is None:  # the name of a class is free
        assert prepared(files, place).class_names[1] == ".Red_Bird"
        return
    with pytest.raises(ValueError, match=message) as error:
        prepared(files, place)
    assert "\n" not in str(error.value) and str(files) in str(error.value)
    assert not place.exists()


@pytest.mark.parametrize("name", cub_files.LISTS)
def test_lists_that_are_cut_short_or_missing(files, place, name):
    path = files / name
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match="CUB_200_2011, .*txt") as error:
        prepared(files, place)
    assert "\n" not in str(error.value)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=f"{name}: damaged"):
        prepared(files, place)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"there is no .*{name}"):
        prepared(files, place)
    with pytest.raises(ValueError, match=f"has no CUB_200_2011/{name}, so it is no archive of CUB"):
        prepared(synthetic.pack(files), place)


def test_a_damaged_archive_is_named(files, place):
    path = synthetic.pack(files)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])
    with pytest.raises(ValueError, match="CUB_200_2011.tgz: damaged or cut short") as error:
        prepared(path, place)
    assert "\n" not in str(error.value)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="damaged or cut short .*[Nn]ot a gzip"):
        prepared(path, place)


def test_nothing_to_prepare_from(tmp_path, files, place):
    assert cub_prepare.find(tmp_path / "nothing") is None
    with pytest.raises(ValueError, match="size must be positive, got 0"):
        prepared(files, place, size=0)


# --- interruptions


class Stop(Exception):
    """Raised in the middle of something."""


def content(place):
    return {
        path.relative_to(place): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def stopping_after(count, patch):
    decode, seen = archives.decode, []

    def stops(data):
        if len(seen) == count:
            raise Stop
        seen.append(data)
        return decode(data)

    patch.setattr(archives, "decode", stops)


@pytest.mark.parametrize("packed", [False, True])
def test_goes_on_where_it_was_interrupted(files, place, tmp_path, monkeypatch, packed):
    path = synthetic.pack(files) if packed else files
    monkeypatch.setattr(cub_prepare, "_COMMIT_EVERY", 4)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stopping_after(11, patch)
        prepared(path, place)
    partial = place / "cub/20.partial"
    entries = (partial / "journal").stat().st_size // cub_prepare._ENTRY.itemsize
    assert entries == 11
    # What was written behind the last commit, as a kill may leave it.
    for name in ("pixels.raw", "journal"):
        with (partial / name).open("ab") as file:
            file.write(b"x" * 11)
    with monkeypatch.context() as patch:
        stopping_after(18 - entries, patch)
        assert len(prepared(path, place).train.id) == 12
    prepared(path, tmp_path / "whole")
    assert content(place) == content(tmp_path / "whole")
    assert [p.name for p in (place / "cub").iterdir()] == ["20"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_read_before_an_error_is_kept(files, place, workers):
    source = cub_prepare.find(files)

    def images(names):
        yield from itertools.islice(source.images(names), 7)
        raise ValueError("damaged")

    damaged = cub_files.Source(source.path, source.read_lists, images)
    with pytest.raises(ValueError, match="damaged"):
        cub_prepare.prepare(damaged, place, size=SIZE, workers=workers)
    journal = place / f"cub/{SIZE}.partial/journal"
    assert journal.stat().st_size == 7 * cub_prepare._ENTRY.itemsize


def test_images_are_the_same_whoever_decodes_them(files, place, tmp_path, monkeypatch):
    """Worker processes, and those that go on behind an interruption, write what one does."""
    (files / "images" / synthetic.entries()[1][1]).write_bytes(b"no image")
    monkeypatch.setattr(cub_prepare, "_COMMIT_EVERY", 4)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stopping_after(7, patch)
        prepared(files, place)
    counts = prepared(files, place, workers=2).counts
    assert counts["train"]["unreadable_image"] + counts["test"]["unreadable_image"] == 1
    prepared(files, tmp_path / "whole")
    assert content(place) == content(tmp_path / "whole")


def test_what_was_begun_from_other_images_is_not_continued(files, place, tmp_path, monkeypatch):
    monkeypatch.setattr(cub_prepare, "_COMMIT_EVERY", 2)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stopping_after(9, patch)
        prepared(files, place)
    path = files / "train_test_split.txt"
    path.write_text(path.read_text().replace("\n2 1", "\n2 0"))
    prepared(files, place)
    prepared(files, tmp_path / "whole")
    assert content(place) == content(tmp_path / "whole")


def test_images_that_were_mended_are_found(files, place, monkeypatch):
    """What could not be read before an interruption is tried again."""
    monkeypatch.setattr(cub_prepare, "_COMMIT_EVERY", 2)
    path = files / "images" / synthetic.entries()[1][1]
    good = path.read_bytes()
    path.write_bytes(b"")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stopping_after(9, patch)
        prepared(files, place)
    path.write_bytes(good)
    assert prepared(files, place).counts["train"]["unreadable_image"] == 0


# --- reading what was prepared


def test_what_is_not_there_or_damaged(files, place):
    with pytest.raises(cub.DataNotFoundError, match="prepare_data.py cub .* --size 20"):
        cub.load(place, size=SIZE)
    prepared(files, place)
    folder = cub.folder_of(place, SIZE)
    path = folder / "label.npy"
    good = path.read_bytes()
    np.save(path, np.load(path)[:-1])
    with pytest.raises(ValueError, match=r"label.npy: int32 \[17\] instead of int32 \[18\]"):
        cub.load(place, size=SIZE)
    path.unlink()
    with pytest.raises(ValueError, match="label.npy: missing or damaged .* prepare it again"):
        cub.load(place, size=SIZE)
    path.write_bytes(good)
    pixels = folder / "pixels.raw"
    pixels.write_bytes(pixels.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"pixels.raw: [\d,]+ bytes instead of [\d,]+; delete"):
        cub.load(place, size=SIZE)
    info = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps(info | {"format": 0}))
    with pytest.raises(ValueError, match="of format 0"):
        cub.load(place, size=SIZE)
    (folder / "info.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        cub.load(place, size=SIZE)


def test_parts_are_of_the_head_or_the_body():
    assert len(cub.PARTS) == 15 and set(cub.PARTS.values()) == {"head", "body"}
    # In the publisher's lists they are in the order of the alphabet.
    assert list(cub.PARTS) == sorted(cub.PARTS)


# --- real data, where there are some


def test_prepared_already():
    place = resolve_data_dir()
    sizes = [int(path.parent.name) for path in (place / "cub").glob("*/info.json")]
    sizes = [size for size in sizes if cub.read_info(cub.folder_of(place, size))["parts"]]
    if not sizes:
        pytest.skip(f"no birds with parts in {place}")
    for size in sizes:
        birds, annotations = cub.load(place, size=size), cub.load_annotations(place, size=size)
        for split, limits in (("train", (29, 30)), ("test", (11, 30))):
            found = getattr(birds, split)
            per_class = np.bincount(found.label, minlength=len(birds.class_names))
            assert limits[0] <= per_class.min() and per_class.max() <= limits[1]
            assert (found.shape.min(axis=1) == size).all()
            assert found.image(0).std() > 1
        left, top, right, bottom = np.moveaxis(annotations.box[:, None], -1, 0)
        x, y = np.moveaxis(annotations.part, -1, 0)
        in_box = (left <= x) & (x <= right) & (top <= y) & (y <= bottom)
        assert in_box[annotations.visible].mean() > 0.98
        # Birds stand on their legs.
        crown, leg = (list(cub.PARTS).index(name) for name in ("crown", "left leg"))
        below = y[:, leg] - y[:, crown]
        assert np.mean(below[np.isfinite(below)] > 0) > 0.95

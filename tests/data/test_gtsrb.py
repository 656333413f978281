"""Traffic signs (G1, G7): from either kind of files to arrays."""

import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from stn_jax.data import gtsrb, gtsrb_files, gtsrb_prepare
from tests.data import gtsrb_synthetic as synthetic

WRITERS = {"official": synthetic.write_official, "sheets": synthetic.write_sheets}


@pytest.fixture(params=WRITERS)
def files(request, tmp_path):
    return WRITERS[request.param](tmp_path / "files")


def prepared(files, tmp_path, size=16):
    gtsrb_prepare.prepare(gtsrb_files.find(files), tmp_path / "place", size=size)
    return gtsrb.load(tmp_path / "place", size=size)


def test_images_labels_boxes_and_tracks(files, tmp_path):
    signs = prepared(files, tmp_path)
    official = (files / "Final_Test").exists()
    for split, entries in zip(("train", "test"), synthetic.rows(), strict=True):
        found = getattr(signs, split)
        assert [field.dtype for field in found] == [np.uint8, np.int32, np.float32, np.int32]
        for i, (name, (width, height), (left, top, right, bottom), label) in enumerate(entries):
            image = Image.fromarray(synthetic.pixels(name, (width, height)))
            if not official:
                image = image.resize((32, 32))
            expected = image.resize((16, 16), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(found.image[i], expected)
            assert found.label[i] == label
            box = [left * 16 / width, top * 16 / height, right * 16 / width, bottom * 16 / height]
            np.testing.assert_allclose(found.box[i], box, rtol=1e-6)
    np.testing.assert_array_equal(signs.train.track, np.repeat(np.arange(6), 3))
    assert set(signs.test.track) == {gtsrb.NO_TRACK}
    assert signs.name == ("gtsrb_16" if official else "gtsrb_16_from_32")


def test_sheets_grow_by_bilinear_interpolation(tmp_path):
    files = synthetic.write_sheets(tmp_path / "files")
    small, large = (prepared(files, tmp_path, size=size) for size in (32, 48))
    (name, size, _, _), *_ = synthetic.rows()[0]
    tile = np.asarray(Image.fromarray(synthetic.pixels(name, size)).resize((32, 32)))
    np.testing.assert_array_equal(small.train.image[0], tile)
    # Pixel x of 48 has its centre at (x + 0.5) * 2 / 3 of 32.
    at = np.clip((np.arange(48) + 0.5) * 2 / 3 - 0.5, 0, 31)
    low = np.minimum(at.astype(int), 30)
    part = at - low
    weights = np.zeros((48, 32))
    weights[np.arange(48), low], weights[np.arange(48), low + 1] = 1 - part, part
    expected = np.einsum("yi,xj,ijc->yxc", weights, weights, tile.astype(float))
    assert np.abs(large.train.image[0] - expected).max() < 1.1


def test_the_fingerprint_is_that_of_the_arrays(files, tmp_path):
    first = prepared(files, tmp_path)
    again = prepared(files, tmp_path)
    other = prepared(files, tmp_path, size=8)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_damaged_and_missing_images_are_counted_and_left_out(tmp_path):
    files = synthetic.write_official(tmp_path / "files")
    (files / "Final_Training/Images/00001/00000_00001.ppm").unlink()
    (files / "Final_Training/Images/00002/00000_00001.ppm").write_bytes(b"P6\n9")
    (files / "Final_Test/Images/00003.ppm").write_bytes(b"no image")
    signs = prepared(files, tmp_path)
    assert signs.counts["train"] == {"entries": 18, "written": 16, "unreadable_image": 2}
    assert signs.counts["test"] == {"entries": 7, "written": 6, "unreadable_image": 1}
    assert len(signs.train.image) == len(signs.train.track) == 16
    assert len(set(signs.train.track)) == 6


def test_other_counts_than_the_published_are_called_so(files, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        signs = prepared(files, tmp_path)
    for text in (
        "NOT the published GTSRB: 18 images in train, not 39209, none of class 3, 4, 5, ",
        "42 in train, 7 images in test, not 12630, none of class 3, ",
    ):
        assert text in signs.source and text in caplog.text


def test_a_folder_of_a_class_that_is_missing_is_named(tmp_path):
    files = synthetic.write_official(tmp_path / "files")
    shutil.rmtree(files / "Final_Training/Images/00001")
    assert "12 images in train, not 39209, none of class 1, 3," in prepared(files, tmp_path).source


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("32", r"train_00.webp: has 32 tiles, but .*00002.ppm is at index 32, its tile 32"),
        ("-1", r"train.csv, line \d+: damaged \(index -1 is negative\)"),
        ("3", r"train.csv, line \d+: damaged \(index 3 again\)"),
    ],
)
def test_tiles_that_a_sheet_has_not_are_named(tmp_path, index, message):
    files = synthetic.write_sheets(tmp_path / "files")
    path = files / "train.csv"
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    damage_list(path, "\n17,", f"\n{index},")
    with pytest.raises(ValueError, match=message):
        prepared(files, tmp_path)


def damage_list(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (";2\n", ";43\n", r"GT-00002.csv, line \d+: damaged \(class 43 is not one of 0 to 42\)"),
        (";5;6;", ";40;6;", r"box \(40, 6, 27, 28\) in 32x36"),
        ("ClassId", "Class", "no column 'ClassId'"),
        (";5;6;", ";5;x;", "invalid literal"),
        (";2\n", ";1\n", "class 1 in the folder of class 2"),
        ("00001_00001.ppm", "00001_00002.ppm", "the same name again"),
        ("00001_00001.ppm", "", "no name"),
    ],
)
def test_damaged_lists_are_refused_in_one_line(tmp_path, old, new, message):
    files = synthetic.write_official(tmp_path / "files")
    path = files / "Final_Training/Images/00002/GT-00002.csv"
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    damage_list(path, old, new)
    with pytest.raises(ValueError, match=message) as error:
        prepared(files, tmp_path)
    assert "\n" not in str(error.value)
    assert gtsrb.read_info(gtsrb.folder_of(tmp_path / "place", 16)) is None


def test_lists_of_nothing_are_refused_before_anything_is_written(tmp_path):
    files = synthetic.write_official(tmp_path / "files")
    (files / "GT-final_test.csv").write_text("")
    with pytest.raises(ValueError, match="GT-final_test.csv: damaged .it lists no image"):
        prepared(files, tmp_path)
    assert not (tmp_path / "place").exists()


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path):
    files = synthetic.write_official(tmp_path / "files")
    path = files / "GT-final_test.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(prepared(files, tmp_path).test.label) == 7


def test_images_of_another_size_than_listed_are_refused(tmp_path):
    files = synthetic.write_official(tmp_path / "files")
    Image.new("RGB", (50, 40)).save(files / "Final_Test/Images/00003.ppm")
    with pytest.raises(ValueError, match="00003.ppm: is of 50x40 pixels, but of 32x34"):
        prepared(files, tmp_path)


def test_what_is_missing_is_named(tmp_path):
    files = synthetic.write_official(tmp_path / "files")
    (files / "GT-final_test.csv").rename(files / "other.csv")
    with pytest.raises(FileNotFoundError, match="Images has no GT-final_test.csv"):
        prepared(files, tmp_path)
    sheets = synthetic.write_sheets(tmp_path / "sheets")
    (sheets / "test_00.webp").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match="test_00.webp: damaged"):
        prepared(sheets, tmp_path)
    (sheets / "test_00.webp").unlink()
    with pytest.raises(FileNotFoundError, match="there is no .*test_00.webp"):
        prepared(sheets, tmp_path)
    assert gtsrb_files.find(tmp_path / "nothing") is None


def test_loading_what_is_not_there_or_damaged(files, tmp_path):
    with pytest.raises(gtsrb.DataNotFoundError, match="prepare_data.py gtsrb .* --size 48 --from"):
        gtsrb.load(tmp_path)
    prepared(files, tmp_path)
    folder = gtsrb.folder_of(tmp_path / "place", 16)
    path = gtsrb.array_path(folder, "test", "box")
    np.save(path, np.load(path)[:-1])
    with pytest.raises(ValueError, match=r"test_box.npy: float32 \[6, 4\] instead of .*\[7, 4\]"):
        gtsrb.load(tmp_path / "place", size=16)
    path.unlink()
    with pytest.raises(ValueError, match="test_box.npy: missing or damaged .* prepare it again"):
        gtsrb.load(tmp_path / "place", size=16)
    info = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps(info | {"format": 0}))
    with pytest.raises(ValueError, match="of format 0"):
        gtsrb.load(tmp_path / "place", size=16)
    (folder / "info.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        gtsrb.load(tmp_path / "place", size=16)


def test_one_whole_track_a_class_is_held_out(files, tmp_path):
    """G7: no frame of a held-out track is trained on."""
    train = prepared(files, tmp_path).train
    kept, held = gtsrb.hold_out_tracks(train, seed=3)
    assert sorted([*kept, *held]) == list(range(18))
    kept, held = train.select(kept), train.select(held)
    assert not set(kept.track) & set(held.track)
    assert len(set(held.track)) == 3 and sorted(set(held.label)) == [0, 1, 2]
    assert len(held.label) == 3 * synthetic.FRAMES
    choices = {tuple(gtsrb.hold_out_tracks(train, seed=seed)[1]) for seed in range(20)}
    assert len(choices) > 3
    assert tuple(gtsrb.hold_out_tracks(train, seed=3)[1]) in choices
    with pytest.raises(ValueError, match="1 cannot be held out of class 2, which has 1"):
        gtsrb.hold_out_tracks(train.select(train.track < 5), seed=0)


def test_several_tracks_a_class_are_held_out(files, tmp_path):
    train = prepared(files, tmp_path).train
    label, track, frame = (rows.ravel() for rows in np.indices((2, 5, 3)))
    signs = train.select(np.zeros(30, int))._replace(label=label, track=5 * label + track)
    kept, held = gtsrb.hold_out_tracks(signs, tracks=3, seed=7)
    assert sorted([*kept, *held]) == list(range(30))
    assert not set(signs.track[kept]) & set(signs.track[held])
    assert [len(set(signs.track[held][signs.label[held] == n])) for n in (0, 1)] == [3, 3]
    with pytest.raises(ValueError, match="5 cannot be held out of class 0, which has 5"):
        gtsrb.hold_out_tracks(signs, tracks=5, seed=7)
    with pytest.raises(ValueError, match="positive number of tracks .* got 0"):
        gtsrb.hold_out_tracks(signs, tracks=0, seed=7)
